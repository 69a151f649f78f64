"""What benchmarks share: the machine they ran on, figures asked and reached, the table, the JSON."""
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def load():
    """Of the machine, so that a disturbed run can be told."""
    return round(os.getloadavg()[0], 2)


def fdatasync_us(folder, extend):
    """Median and 99th percentile of a fdatasync after 4 KiB, which extend the file or not."""
    path = folder / "fdatasync"
    block = b"x" * 4096
    times = []
    with open(path, "wb", buffering=0) as file:
        if not extend:
            file.write(block * 200)
            os.fsync(file.fileno())
            file.seek(0)
        for _ in range(200):
            file.write(block)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1e6 * (time.perf_counter() - began))
    path.unlink()
    times.sort()
    return {"p50": round(times[100]), "p99": round(times[197])}


def environment(folder):
    def run(*command):
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), "unknown")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "revision": run("git", "rev-parse", "--short=12", "HEAD") or "unknown",
        "changed": bool(run("git", "status", "--porcelain", "--untracked-files=no")),
        "cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "file_system": run("stat", "-f", "-c", "%T", str(folder)),
        "device": run("findmnt", "-n", "-o", "SOURCE", "--target", str(folder)),
        "fdatasync_us": fdatasync_us(folder, False), "fdatasync_extend_us": fdatasync_us(folder, True),
        "load": load()}


class Figures:
    """The figures of one benchmark; `folder` is emptied."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder.resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.environment = environment(self.folder)
        self.runs = {}     # name -> list of what one run measured
        self.targets = {}  # figure -> asked, got, met, how

    def report(self, figure, asked, got, met, how, **more):
        """met: None where nothing was asked or it could not be measured."""
        self.targets[figure] = {"asked": asked, "got": got, "met": met, "how": how, **more}

    def table(self):
        verdict = {True: "met", False: "MISSED", None: "-"}
        rows = []
        for figure, target in self.targets.items():
            rows.append((figure, target["asked"], target["got"], verdict[target["met"]]))
            for name, part in target.get("parts", {}).items():
                rates = " ".join(f"{rate:.0f}" for rate in part.get("peer_tasks_per_second", []))
                rows.append((f"  {name}", part["asked"], f"{part['got']}  {rates}",
                             verdict[part["met"]]))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)), "", row[3])

    def save(self, out, quick):
        self.environment["load_at_end"] = load()
        out.mkdir(parents=True, exist_ok=True)
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        path = out / f"{self.name}-{stamp}.json"
        path.write_text(json.dumps({"targets": self.targets, "environment": self.environment,
                                    "quick": quick, "runs": self.runs}, indent=1))
        newest = out / f"{self.name}.json"
        shutil.copyfile(path, newest)
        print(f"\n{path} (also {newest.name})")
        shutil.rmtree(self.folder, ignore_errors=True)
