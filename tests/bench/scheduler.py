#!/usr/bin/env python3
"""The scheduler's figures T1 to T7 and T11: runs them, prints a table, writes JSON.

    scheduler.py [--quick] [--only T1,T3] [--rounds 3] [--folder DIR] [--out DIR]

Needs qbench_scheduler and qcoordinator in --bin; `bash deploy/bench.sh scheduler` builds them and
installs the peers. DIR of --folder is where all databases lie: put it on the disk to be measured.
docs/benchmarks.md says what each figure means.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

import peers as peers_of_qsweep
from figures import ROOT, Figures, load, say

FIGURES = ("T1", "T2", "T3", "T4", "T5", "T6", "T7", "T11")
# T1: so many times the peer's tasks a second.
ASKED = {"postgresql": 2, "gearmand-sqlite": 5, "celery": 5, "beanstalkd": 0.8, "ray": 3, "dask": 5}



class Bench(Figures):
    def __init__(self, options):
        super().__init__("scheduler", options.folder)
        self.options = options

    def ours(self, name, scenario, **flags):
        """One run of a scenario of qbench_scheduler; kept under `name`."""
        # Short: a unix socket lies in it.
        folder = self.folder / "c"
        command = [str(self.options.bin / "qbench_scheduler"), scenario, "--dir",
                   os.path.relpath(folder)]
        for flag, value in flags.items():
            word = "--" + flag.replace("_", "-")
            command += [word] if value is True else [word, str(value)]
        before = load()
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            log = folder / "log"
            if log.exists():
                sys.stderr.write(log.read_text()[-2000:])
            raise SystemExit(f"scheduler.py: failed: {' '.join(command)}")
        shutil.rmtree(folder, ignore_errors=True)
        result = json.loads(run.stdout)
        result["load"] = before
        self.runs.setdefault(name, []).append(result)
        return result

    def median(self, name, *keys):
        def value(run):
            for key in keys:
                run = run[key]
            return run
        return statistics.median(value(run) for run in self.runs[name])

    def worst(self, name, *keys):
        """The load that disturbed the runs of `name` most."""
        return max(run["load"] for run in self.runs[name])

    # --- T1, T2, T11 ---

    def throughput(self):
        quick = self.options.quick
        peers = [] if quick else peers_of_qsweep.all_peers(ROOT / "build" / "venv-bench")
        absent = {peer.name: peer.missing() for peer in peers}
        peers = [peer for peer in peers if not absent[peer.name]]
        for name, why in absent.items():
            if why:
                say(f"T1: {name}: {why}")
        self.environment["peers"] = {peer.name: peer.version() for peer in peers}
        rates = {peer.name: [] for peer in peers}
        workers, tasks = (4, 400) if quick else (16, self.options.tasks)
        for number in range(1 if quick else self.options.rounds):
            say(f"T1, T2: round {number + 1}: qsweep, {workers} workers, {tasks} tasks")
            self.ours("throughput", "throughput", workers=workers, tasks=tasks)
            for peer in peers:
                say(f"T1: round {number + 1}: {peer.name}, {peer.tasks} tasks")
                rates[peer.name].append(self.run_peer(peer))
                say(f"    {rates[peer.name][-1]:.0f} tasks/s")
        say(f"T2: {workers} workers, tasks of 20 ms")
        self.ours("paced", "throughput", workers=workers, tasks=tasks // 5, task_ms=20)
        self.report_t1(rates, absent)
        self.report_t2()

    def run_peer(self, peer):
        folder = self.folder / "peer"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            peer.start(folder)
            return peer.run(peer.tasks)
        finally:
            peer.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def report_t1(self, rates, absent):
        ours = self.median("throughput", "tasks_per_second")
        parts = {}
        for name, asked in ASKED.items():
            if not rates.get(name):
                parts[name] = {"asked": f">= {asked}x", "got": absent.get(name, "not run"),
                               "met": None}
                continue
            peer = statistics.median(rates[name])
            parts[name] = {"asked": f">= {asked}x", "got": f"{ours / peer:.2f}x",
                           "met": ours / peer >= asked, "peer_tasks_per_second": rates[name]}
        for name in rates.keys() - ASKED.keys():
            parts[name] = {"asked": "shown", "met": None, "peer_tasks_per_second": rates[name],
                           "got": f"{ours / statistics.median(rates[name]):.2f}x"}
        asked = ", ".join(f"{times}x {name}" for name, times in ASKED.items())
        verdicts = [part["met"] for part in parts.values() if part["met"] is not None]
        self.report("T1", f">= {asked}", f"{ours:.0f} tasks/s", all(verdicts) if verdicts else None,
                    "durable no-op tasks a second, TLS, alternating with each peer, medians",
                    parts=parts, tasks_per_second=[
                        run["tasks_per_second"] for run in self.runs["throughput"]])

    def report_t2(self):
        def got(name):
            return [self.median(name, "result_to_lease", key) for key in ("p50_ms", "p99_ms")]
        (p50, p99), paced = got("throughput"), got("paced")
        self.report("T2", "p50 <= 2 ms, p99 <= 15 ms", f"p50 {p50:.2f} ms, p99 {p99:.1f} ms",
                    p50 <= 2 and p99 <= 15,
                    "from the call with a result to the lease that takes its place, in T1's runs, "
                    "where it is as long as the queue of no-op tasks",
                    parts={"20 ms tasks": {
                        "asked": "the same", "got": f"p50 {paced[0]:.2f} ms, p99 {paced[1]:.1f} ms",
                        "met": paced[0] <= 2 and paced[1] <= 15}})

    def group_commit(self):
        quick = self.options.quick
        workers, tasks = (4, 400) if quick else (16, self.options.tasks)
        for number in range(1 if quick else self.options.rounds):
            for name, flags in (("synced", {}), ("unsynced", {"unsynced": True})):
                say(f"T11: round {number + 1}: {name}")
                self.ours(name, "throughput", workers=workers, tasks=tasks, **flags)
        full = self.median("synced", "tasks_per_second")
        normal = self.median("unsynced", "tasks_per_second")
        self.report("T11", "FULL / NORMAL >= 0.9", f"{full / normal:.2f} ({full:.0f} / "
                    f"{normal:.0f} tasks/s)", full / normal >= 0.9,
                    "the same run with a write-ahead log that is synced at checkpoints only")

    # --- T3 to T7 ---

    def submit(self):
        small, large = (500, 2_000) if self.options.quick else (100_000, 1_000_000)
        for name, tasks in (("submit", small), ("submit_large", large)):
            say(f"T3: {tasks} tasks in one submit")
            self.ours(name, "submit", tasks=tasks, workers=4)
        one = self.runs["submit"][0]
        two = self.runs["submit_large"][0]
        p99 = max(run["result_to_lease"]["p99_ms"] for run in (one, two))
        rss = two["coordinator"]["rss_mib"]
        say(f"T3: what is done to a job of {large} tasks")
        run = self.ours("control", "control", tasks=large, workers=4)
        actions = ("pause", "resume", "cancel", "retry", "stop")
        parts = {action: {"asked": "others wait for a lease <= 100 ms",
                          "got": f"{run[action]['result_to_lease_max_ms']:.0f} ms, done after "
                                 f"{run[action]['settled_seconds']:.2f} s",
                          "met": run[action]["result_to_lease_max_ms"] <= 100}
                 for action in actions}
        self.report("T3", f"{small} <= 2 s, {large} <= 20 s, <= 200 MiB then, others p99 <= 50 ms",
                    f"{one['seconds']:.2f} s, {two['seconds']:.2f} s, {rss:.0f} MiB, {p99:.0f} ms",
                    one["seconds"] <= 2 and two["seconds"] <= 20 and rss <= 200 and p99 <= 50,
                    "one SubmitJob call; 4 workers run 20 ms tasks of another job meanwhile",
                    parts=parts)

    def overhead(self):
        per_worker = 10 if self.options.quick else 100
        limits = {2: 0.03} if self.options.quick else {2: 0.03, 16: 0.05}
        for workers in limits:
            say(f"T4: {workers} workers, {per_worker} tasks of 100 ms each")
            self.ours(f"overhead_{workers}", "throughput", workers=workers,
                      tasks=per_worker * workers, task_ms=100)
        got = {w: self.median(f"overhead_{w}", "overhead") for w in limits}
        self.report("T4", ", ".join(f"<= {limit:.0%} at {w}" for w, limit in limits.items()),
                    ", ".join(f"{value:.1%} at {w}" for w, value in got.items()),
                    all(got[w] <= limits[w] for w in limits),
                    "makespan of 100 ms tasks against workers that never wait")

    def idle(self):
        workers, seconds = (20, 2) if self.options.quick else (1_000, 20)
        self.ours("idle", "idle", workers=workers, seconds=seconds)
        self.ours("idle_plaintext", "idle", workers=workers, seconds=seconds, plaintext=True)
        tls, plain = self.runs["idle"][0], self.runs["idle_plaintext"][0]
        threads = tls["coordinator"]["threads"]
        rss = (tls["coordinator"]["rss_mib"], plain["coordinator"]["rss_mib"])
        self.report("T5", "<= 24 threads, <= 180 MiB TLS, <= 100 MiB plaintext, <= 2% of a processor",
                    f"{threads} threads, {rss[0]:.0f} MiB, {rss[1]:.0f} MiB, {tls['cpu']:.1%}",
                    threads <= 24 and rss[0] <= 180 and rss[1] <= 100 and tls["cpu"] <= 0.02,
                    f"{workers} attached workers without work, {seconds} s")

    def restart(self):
        workers, tasks = (4, 2_000) if self.options.quick else (64, 1_000_000)
        say(f"T6: kill -9 with {tasks} tasks and {workers} workers")
        run = self.ours("restart", "restart", workers=workers, tasks=tasks)
        self.report("T6", "first lease <= 2 s, 64 attached <= 25 s, 0 recomputed",
                    f"{run['first_lease_seconds']:.2f} s, {run['all_attached_seconds']:.1f} s, "
                    f"{run['recomputed']} recomputed",
                    run["first_lease_seconds"] <= 2 and run["all_attached_seconds"] <= 25
                    and run["recomputed"] == 0,
                    f"kill -9 and start again, {tasks} tasks queued, {workers} workers")

    def loss(self):
        say("T7: workers that vanish and workers that say so")
        run = self.ours("loss", "loss")
        silent, announced = max(run["silent_seconds"]), max(run["announced_seconds"])
        ttl = run["ttl_seconds"]
        self.report("T7", f"<= TTL + 1 s ({ttl + 1:.0f} s), announced <= 1 s",
                    f"{silent:.2f} s, announced {announced:.3f} s",
                    silent <= ttl + 1 and announced <= 1,
                    f"heartbeat 1 s, TTL {ttl:.0f} s; the worst of three each")

    def run_all(self):
        steps = {"T1": self.throughput, "T2": self.throughput, "T3": self.submit,
                 "T4": self.overhead, "T5": self.idle, "T6": self.restart, "T7": self.loss,
                 "T11": self.group_commit}
        wanted = self.options.only or (FIGURES if not self.options.quick else
                                       ("T1", "T3", "T6", "T11"))
        for step in dict.fromkeys(steps[figure] for figure in wanted):
            step()


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench.sh scheduler")
    parser.add_argument("--quick", action="store_true", help="some small runs, no peers: a smoke test")
    parser.add_argument("--only", type=lambda text: text.split(","),
                        help="figures, as T1,T3; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds of T1 and T11")
    parser.add_argument("--tasks", type=int, default=20_000, help="of a run of T1 and T11")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench/run",
                        help="for all databases; emptied")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench")
    options = parser.parse_args(arguments)
    unknown = set(options.only or ()) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))} (there are {', '.join(FIGURES)})")
    return options


def main():
    bench = Bench(parse(sys.argv[1:]))
    bench.run_all()
    bench.table()
    bench.save(bench.options.out, bench.options.quick)


if __name__ == "__main__":
    main()
