"""Other schedulers, run the way their documentation says is fast, on the same disk and machine.

Each peer has tasks queued first, then drained by its workers; what counts is tasks a second of the
drain. `durable` says what survives a power cut. A peer that is not installed says how to get it.
"""
import multiprocessing
import os
import pathlib
import pwd
import re
import shutil
import socket
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = 8
SPEC = "s" * 200   # bytes of a task's description
RESULT = "r" * 600  # bytes of a result


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port, process, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args[0]} does not answer on port {port}")


def first_line(*command):
    run = subprocess.run(command, capture_output=True, text=True)
    return (run.stdout + run.stderr).strip().splitlines()[0]


def drain(worker, *args):
    """Runs CLIENTS processes of worker(start, *args), which return how many tasks they did.
    Returns tasks a second, from the moment all of them are connected."""
    start = multiprocessing.Barrier(CLIENTS + 1)
    done = multiprocessing.Queue()

    def body():
        done.put(worker(start.wait, *args))

    processes = [multiprocessing.Process(target=body) for _ in range(CLIENTS)]
    for process in processes:
        process.start()
    start.wait()
    began = time.monotonic()
    total = sum(done.get(timeout=600) for _ in processes)
    seconds = time.monotonic() - began
    for process in processes:
        process.join()
    return total, seconds


class Peer:
    """One scheduler. start(folder), then run(tasks) -> tasks a second any number of times, stop."""
    name = ""
    durable = ""
    program = ""
    package = ""
    tasks = 20_000  # enough for some seconds

    def missing(self):
        """Why it cannot run, and how to get it; None when it can."""
        return None if shutil.which(self.program) else f"not installed: apt install {self.package}"

    def version(self):
        return first_line(self.program, "--version")

    process = None

    def start(self, folder):
        """Nothing to start."""

    def stop(self):
        """After start, also when that failed."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def launch(self, folder, *command, **options):
        log = open(folder / "log", "ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, **options)


class PostgreSql(Peer):
    """Two transactions a task, as a job queue on PostgreSQL does it: the lease (SKIP LOCKED) is
    committed before the work, the result and the end of the task after it."""
    name = "postgresql"
    durable = "lease and result, fsync each, group commit"
    package = "postgresql"
    bin = pathlib.Path("/usr/lib/postgresql/15/bin")

    SCHEMA = f"""
        CREATE TABLE task (id bigint PRIMARY KEY, state smallint NOT NULL DEFAULT 0,
                           epoch int NOT NULL DEFAULT 0, worker int, spec text NOT NULL);
        CREATE INDEX task_ready ON task (id) WHERE state = 0;
        CREATE TABLE result (task bigint PRIMARY KEY REFERENCES task, epoch int NOT NULL,
                             body text NOT NULL);"""
    SCRIPT = f"""
UPDATE task SET state = 1, epoch = epoch + 1, worker = :client_id WHERE id = (SELECT id FROM task WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id AS task, epoch AS epoch \\gset
WITH stored AS (INSERT INTO result (task, epoch, body) VALUES (:task, :epoch, '{RESULT}')) UPDATE task SET state = 2 WHERE id = :task AND epoch = :epoch AND state = 1;
"""

    def missing(self):
        if not (self.bin / "initdb").exists() or not shutil.which("pgbench"):
            return "not installed: apt install postgresql"
        return None

    def version(self):
        return first_line(self.bin / "postgres", "--version")

    def as_user(self, *command):
        """The server refuses to run as root, and its user may not look into root's folders: it
        keeps the one capability that opens them."""
        keep = "+dac_override"
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
                "--inh-caps", keep, "--ambient-caps", keep] if os.geteuid() == 0 else []
        return [*user, *map(str, command)]

    def start(self, folder):
        self.folder = folder
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        subprocess.run(self.as_user(self.bin / "initdb", "-D", folder / "data", "-A", "trust"),
                       check=True, stdout=subprocess.DEVNULL)
        self.port = free_port()
        settings = {"shared_buffers": "512MB", "max_wal_size": "4GB", "port": self.port,
                    "checkpoint_timeout": "15min", "listen_addresses": "''",
                    "unix_socket_directories": f"'{folder}'", "synchronous_commit": "on",
                    "fsync": "on", "wal_sync_method": "fdatasync"}
        with open(folder / "data" / "postgresql.conf", "a") as conf:
            conf.writelines(f"{key} = {value}\n" for key, value in settings.items())
        subprocess.run(self.as_user(self.bin / "pg_ctl", "-D", folder / "data", "-w", "-l",
                                    folder / "data" / "log", "start"),
                       check=True, stdout=subprocess.DEVNULL)
        (folder / "script.sql").write_text(self.SCRIPT)

    def sql(self, text):
        run = subprocess.run(self.as_user("psql", "-h", self.folder, "-p", self.port, "-qAt", "-v",
                                          "ON_ERROR_STOP=1", "postgres"),
                             input=text, text=True, check=True, capture_output=True)
        return run.stdout.strip()

    def run(self, tasks):
        self.sql(f"DROP TABLE IF EXISTS result, task; {self.SCHEMA} "
                 f"INSERT INTO task (id, spec) SELECT i, '{SPEC}' FROM generate_series(1, {tasks}) i;"
                 "VACUUM ANALYZE task; CHECKPOINT;")
        bench = subprocess.run(
            self.as_user("pgbench", "-h", self.folder, "-p", self.port, "-n", "-M", "prepared",
                         "-c", CLIENTS, "-j", 2, "-t", tasks // CLIENTS, "-f",
                         self.folder / "script.sql", "postgres"),
            check=True, capture_output=True, text=True)
        done = int(self.sql("SELECT count(*) FROM task JOIN result ON task = id WHERE state = 2"))
        if done != tasks // CLIENTS * CLIENTS:
            raise RuntimeError(f"{done} results in the database, not {tasks}: {bench.stdout}")
        return float(re.search(r"tps = ([\d.]+) \(without", bench.stdout).group(1))

    def stop(self):
        subprocess.run(self.as_user(self.bin / "pg_ctl", "-D", self.folder / "data", "-w", "-m",
                                    "fast", "stop"), stdout=subprocess.DEVNULL)


class PostgreSqlOneTransaction(PostgreSql):
    """The lease is a row lock held during the work: half the commits, but a lease that nobody sees
    and that ends with its connection. Shown beside, promises less than the others."""
    name = "postgresql-row-lock"
    durable = "result only: the lease is a lock of the connection"
    SCRIPT = f"""
BEGIN;
SELECT id AS task FROM task WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED \\gset
WITH stored AS (INSERT INTO result (task, epoch, body) VALUES (:task, 1, '{RESULT}')) UPDATE task SET state = 2 WHERE id = :task;
COMMIT;
"""


class LineReader:
    """Reads lines and blocks of bytes from a socket."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", buffering=1 << 16)

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        return self.file.readline()

    def read(self, size):
        return self.file.read(size)


def beanstalk_worker(start, port):
    """Deletes a job and reserves the next in one round trip."""
    server = LineReader(port)
    start()
    done = 0
    server.send(b"reserve-with-timeout 0\r\n")
    while True:
        words = server.line().split()
        if words[0] != b"RESERVED":
            return done
        server.read(int(words[2]) + 2)
        server.send(b"delete %s\r\nreserve-with-timeout 0\r\n" % words[1])
        if server.line() != b"DELETED\r\n":
            raise RuntimeError("a job was not deleted")
        done += 1


class Beanstalkd(Peer):
    """put before, then reserve and delete; no result is kept."""
    name = "beanstalkd"
    durable = "put and delete, fsync each (-f0); no result"
    program = "beanstalkd"
    package = "beanstalkd"

    def version(self):
        return first_line(self.program, "-v")

    def start(self, folder):
        self.port = free_port()
        (folder / "binlog").mkdir()
        self.launch(folder, "beanstalkd", "-l", "127.0.0.1", "-p", str(self.port), "-b",
                    str(folder / "binlog"), "-f0")
        await_port(self.port, self.process)

    def run(self, tasks):
        server = LineReader(self.port)
        put = b"put 0 0 600 %d\r\n%s\r\n" % (len(SPEC), SPEC.encode())
        for first in range(0, tasks, 100):
            count = min(100, tasks - first)
            server.send(put * count)
            for _ in range(count):
                if not server.line().startswith(b"INSERTED"):
                    raise RuntimeError("a job was not put")
        done, seconds = drain(beanstalk_worker, self.port)
        if done != tasks:
            raise RuntimeError(f"{done} jobs done, not {tasks}")
        return done / seconds


class Gearman(LineReader):
    """The few packets of its binary protocol that are needed."""
    CAN_DO, JOB_CREATED, GRAB_JOB, NO_JOB, JOB_ASSIGN, WORK_COMPLETE, SUBMIT_JOB_BG = \
        1, 8, 9, 10, 11, 13, 18

    @staticmethod
    def packet(kind, *parts):
        data = b"\0".join(parts)
        return struct.pack(">4sII", b"\0REQ", kind, len(data)) + data

    def receive(self):
        _, kind, size = struct.unpack(">4sII", self.read(12))
        return kind, self.read(size)


def gearman_worker(start, port):
    server = Gearman(port)
    server.send(Gearman.packet(Gearman.CAN_DO, b"noop"))
    start()
    done = 0
    grab = Gearman.packet(Gearman.GRAB_JOB)
    server.send(grab)
    while True:
        kind, data = server.receive()
        if kind != Gearman.JOB_ASSIGN:
            return done
        handle = data.split(b"\0", 1)[0]
        server.send(Gearman.packet(Gearman.WORK_COMPLETE, handle, RESULT.encode()) + grab)
        done += 1


class Gearmand(Peer):
    """Background jobs in its SQLite queue; a result is not kept."""
    name = "gearmand-sqlite"
    durable = "submit and end, a SQLite transaction each; no result"
    program = "gearmand"
    package = "gearman-job-server"
    tasks = 4_000

    def start(self, folder):
        self.port = free_port()
        self.launch(folder, "gearmand", "--listen", "127.0.0.1", "--port", str(self.port),
                    "--queue-type", "libsqlite3", "--libsqlite3-db", str(folder / "queue.db"),
                    "--log-file", "stderr", "--threads", "2",
                    *(["--user", "root"] if os.geteuid() == 0 else []))
        await_port(self.port, self.process)

    def run(self, tasks):
        server = Gearman(self.port)
        for number in range(tasks):
            server.send(Gearman.packet(Gearman.SUBMIT_JOB_BG, b"noop", b"%d-%d" % (
                time.monotonic_ns(), number), SPEC.encode()))
            if server.receive()[0] != Gearman.JOB_CREATED:
                raise RuntimeError("a job was not created")
        done, seconds = drain(gearman_worker, self.port)
        if done != tasks:
            raise RuntimeError(f"{done} jobs done, not {tasks}")
        return done / seconds


class Celery(Peer):
    """Late acknowledgement, prefetch 64, two processes; Redis keeps nothing on disk."""
    name = "celery"
    durable = "nothing"
    package = "celery redis-server python3-redis"
    tasks = 4_000
    python = "/usr/bin/python3"  # for which Debian's package is
    worker = None

    def missing(self):
        imports = subprocess.run([self.python, "-c", "import celery, redis"], capture_output=True)
        if imports.returncode or not shutil.which("redis-server"):
            return f"not installed: apt install {self.package}"
        return None

    def version(self):
        return f"celery {first_line(self.python, '-m', 'celery', '--version')}, " \
               f"{first_line('redis-server', '--version')}"

    def start(self, folder):
        self.port = free_port()
        self.launch(folder, "redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
                    "--save", "", "--appendonly", "no", "--dir", str(folder))
        await_port(self.port, self.process)
        self.environment = dict(os.environ, PYTHONPATH=str(HERE),
                                QSWEEP_BENCH_REDIS=f"redis://127.0.0.1:{self.port}")
        log = open(folder / "worker.log", "ab")
        self.worker = subprocess.Popen(
            [self.python, "-m", "celery", "-A", "peer_celery", "worker", "--concurrency", "2", "--pool", "prefork",
             "--without-gossip", "--without-mingle", "--loglevel", "WARNING"],
            env=self.environment, stdout=log, stderr=log, cwd=folder)

    def run(self, tasks):
        run = subprocess.run([self.python, str(HERE / "peer_celery.py"), str(tasks)],
                             env=self.environment, check=True, capture_output=True, text=True,
                             timeout=600)
        return float(run.stdout.split()[-1])

    def stop(self):
        if self.worker is not None:
            self.worker.terminate()
            self.worker.wait(30)
        super().stop()


class PythonPeer(Peer):
    """A scheduler from the Python package index, in build/venv-bench."""
    durable = "nothing"
    module = ""
    tasks = 4_000

    def __init__(self, python):
        self.python = python

    def missing(self):
        check = [self.python, "-c", f"import {self.module}"]
        if not os.path.exists(self.python) or subprocess.run(check, capture_output=True).returncode:
            return f"not installed: {self.python.parent / 'pip'} install {self.package}"
        return None

    def version(self):
        return f"{self.name} " + first_line(
            self.python, "-c", f"import {self.module} as m; print(m.__version__)")

    def run(self, tasks):
        run = subprocess.run([self.python, HERE / f"peer_{self.name}.py", str(tasks)], check=True,
                             capture_output=True, text=True, timeout=600)
        return float(run.stdout.split()[-1])


class Ray(PythonPeer):
    name, module, package = "ray", "ray", "ray"


class Dask(PythonPeer):
    name, module, package = "dask", "distributed", "'dask[distributed]'"


def all_peers(venv):
    python = pathlib.Path(venv) / "bin" / "python"
    return [PostgreSql(), PostgreSqlOneTransaction(), Gearmand(), Beanstalkd(), Celery(),
            Ray(python), Dask(python)]


def main():
    """peers.py FOLDER NAME [TASKS]: one run of one peer."""
    folder = pathlib.Path(sys.argv[1]).resolve()
    peer = next(p for p in all_peers("build/venv-bench") if p.name == sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        peer.start(folder)
        print(peer.version(), peer.run(int(sys.argv[3]) if len(sys.argv) > 3 else peer.tasks))
    finally:
        peer.stop()


if __name__ == "__main__":
    main()
