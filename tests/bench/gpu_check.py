#!/usr/bin/env python3
"""The checks of deploy/gpu_check.sh, after its build; docs/gpu.md explains the table.

    gpu_check.py --build DIR --built ok|FAILED --build-seconds N [--small] [--json FILE]

Needs PyTorch and the standard library. Goes on when a check fails; exits 1 if one did.
"""
import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
T4_MEMORY = int(14.6 * 2**30)
NO_DEVICE = "no CUDA device"
# Bounds of the comparison with the CPU.
NLL_RELATIVE, KL_PER_TOKEN, TOP1_SHARE = 1e-5, 1e-5, 2e-3
QUANTIZERS = ["rtn:bits=4,group=64", "rtn:bits=8,group=-1", "nf4:group=64", "hqq:bits=4,group=64"]
MAIN_QUANTIZER = QUANTIZERS[0]
BIG_QUANTIZER = "rtn:bits=4,group=128"
BIG_TEXTS, BIG_TOKENS = 5, 512
BIG_DISK = 15 << 30


class Failed(Exception):
    pass


class NoDevice(Exception):
    pass


def models():
    """Imported late: without PyTorch the other checks still run."""
    import random_llama
    return random_llama


class DeviceMemory(threading.Thread):
    """The largest use of the GPU's memory, in bytes, by all its processes, looked at twice a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.over = 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.5):
            said = first_line(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"])
            if said and said.isdigit():
                self.peak = max(self.peak, int(said) << 20)

    def stop(self):
        self.over.set()
        self.join()
        return self.peak


class Check:
    def __init__(self, options):
        self.options = options
        self.begin = time.monotonic() - options.build_seconds
        self.rows = []  # (check, result, value)
        self.result = {"rows": self.rows}

    def say(self, text):
        print(f"[{time.monotonic() - self.begin:4.0f} s] {text}", flush=True)

    def row(self, check, result, value=""):
        self.rows.append({"check": check, "result": result, "value": value})
        self.say(f"{check}: {result}{'  ' + value if value else ''}")

    def attempt(self, check, call):
        """One line of the table; `call` returns its value, or None where it wrote lines itself."""
        self.say(f"{check} ...")
        try:
            value = call()
            if value is not None:
                self.row(check, "ok", value)
        except NoDevice:
            self.row(check, NO_DEVICE)
        except Failed as error:
            self.row(check, "FAILED", str(error))
        except Exception as error:  # a defect here must not hide the other checks
            self.row(check, "FAILED", f"{type(error).__name__}: {error}")

    def run(self, command, limit, environment=None):
        """What it printed. Failed: it ended otherwise than with 0, or not within `limit` seconds."""
        command = [str(word) for word in command]
        name = pathlib.Path(command[0]).name
        if not pathlib.Path(command[0]).exists():
            raise Failed(f"{name} was not built")
        try:
            done = subprocess.run(command, timeout=limit, text=True, errors="replace",
                                  capture_output=True, env=os.environ | (environment or {}))
        except subprocess.TimeoutExpired:
            raise Failed(f"{name} took more than {limit} s") from None
        if done.returncode != 0:
            text = done.stderr.strip() or done.stdout
            failures = [line for line in done.stdout.splitlines() if "Failure" in line or "FAILED" in line]
            # The end of both: how far it came, and why it went no further.
            print("\n".join(failures[:20] + [line[:300] for line in done.stdout.splitlines()[-5:]] +
                            text.splitlines()[-25:]), flush=True)
            last = text.strip().splitlines()[-1] if text.strip() else "no output"
            raise Failed(f"{name} ended with {done.returncode}: {last[:160]}")
        return done.stdout

    def program(self, name):
        return self.options.build / "tests" / name

    # --- what machine ---

    def find_device(self):
        self.device = None
        self.result["revision"] = revision()
        self.result["date"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.result["programs"] = {
            "nvcc": first_line(["nvcc", "--version"], "release"), "g++": first_line(["g++", "--version"]),
            "cmake": first_line(["cmake", "--version"]), "python": sys.version.split()[0]}
        try:
            import torch
            self.result["programs"]["torch"] = torch.__version__
            if torch.cuda.is_available():
                self.device = first_line(["nvidia-smi", "--query-gpu=name,driver_version,memory.total",
                                          "--format=csv,noheader"]) or torch.cuda.get_device_name(0)
        except Exception as error:
            self.row("PyTorch can be imported", "FAILED", f"{type(error).__name__}: {error}"[:160])
        self.result["device"] = self.device or NO_DEVICE
        self.say(f"device: {self.result['device']}; " +
                 "; ".join(f"{k} {v}" for k, v in self.result["programs"].items()))

    def need_device(self):
        if self.device is None:
            raise NoDevice()

    # --- tests ---

    def gtest(self, name, limit, environment=None):
        output = self.run([self.program(name)], limit, environment)
        passed = [line for line in output.splitlines() if "PASSED" in line]
        if "SKIPPED" in output:
            raise Failed("tests were skipped: " + next(
                (line.strip() for line in output.splitlines() if "CUDA" in line), "it does not say why"))
        return passed[-1].split("]")[1].strip() if passed else "no test ran"

    def kernel_tests(self):
        self.need_device()
        # No machine code may be used that the file might hold beside the PTX of sm_75.
        return self.gtest("test_worker_kernels_kernels_gpu", 240, {"CUDA_FORCE_PTX_JIT": "1"})

    def engine_tests(self):
        self.need_device()
        return self.gtest("test_worker_engine_cuda_engine", 120)

    # --- the engine ---

    def sweep(self, model, texts, *flags, limit=120):
        return json.loads(self.run([self.program("qbench_engine"), "sweep", "--model", model, "--texts",
                                    texts, *flags], limit))

    def score(self, folder):
        """The sweep of a small model on the device against the CPU, one line for each comparison."""
        model, texts = folder / "tiny", folder / "tiny.json"
        models().write(model, models().TINY, "F32")
        texts.write_text(json.dumps(models().tiny_texts()))
        device = "cuda" if self.device else "cpu"
        flags = ["--device", device]
        main = self.sweep(model, texts, *flags, "--quantizer", MAIN_QUANTIZER)
        if device == "cuda" and "cuda" not in main["device"]:
            raise Failed(f"it ran on {main['device']}")
        self.row("the engine's start-up check", "ok", main["device"])
        fewer = self.sweep(model, texts, *flags, "--quantizer", MAIN_QUANTIZER, "--singles", 2)
        self.attempt(f"{device} twice, other configurations beside: equal bits",
                     lambda: equal_bits(main, fewer))
        self.attempt(f"{device}, nothing shared (--naive): equal bits", lambda: equal_bits(
            main, self.sweep(model, texts, *flags, "--quantizer", MAIN_QUANTIZER, "--naive")))
        for quantizer in QUANTIZERS:
            self.attempt(f"cuda against cpu, fp32, {quantizer}", lambda: self.cuda_against_cpu(
                model, texts, quantizer, main if quantizer == MAIN_QUANTIZER else None))
        self.attempt("cuda, fp16 against fp32", lambda: self.half_against_single(model, texts, main))
        return None

    def cuda_against_cpu(self, model, texts, quantizer, cuda=None):
        self.need_device()
        flags = ["--quantizer", quantizer, "--device"]
        return within_bounds(self.sweep(model, texts, *flags, "cpu"),
                             cuda or self.sweep(model, texts, *flags, "cuda"))

    def half_against_single(self, model, texts, single):
        self.need_device()
        half = self.sweep(model, texts, "--device", "cuda", "--quantizer", MAIN_QUANTIZER,
                          "--compute", "fp16")
        found = differences(single, half)
        if found["nll"] > 0.05:
            raise Failed(f"NLL differs by {found['nll']:.1e}")
        return describe(found)

    def smollm2(self):
        model = ROOT / "build/models/smollm2-135m"
        if not model.exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            texts = pathlib.Path(folder) / "texts.json"
            texts.write_text(json.dumps(models().tiny_texts()))

            def compare():
                self.need_device()
                flags = ["--quantizer", MAIN_QUANTIZER, "--singles", 2]
                return within_bounds(*(self.sweep(model, texts, "--device", device, *flags, limit=200)
                                       for device in ("cpu", "cuda")))
            self.attempt("cuda against cpu, fp32, SmolLM2-135M", compare)

    # --- speed ---

    def kernels(self):
        self.need_device()
        found = json.loads(self.run([self.program("qbench_kernels_gpu")], 150))
        self.result["kernels"] = found
        self.row("copy in device memory", "ok", f"{found['copy_gb_per_second']:.0f} GB/s")
        for kernel in found["kernels"]:
            operations = kernel.get("tflop_per_second")
            self.row(f"  {kernel['kernel']}", "ok",
                     f"{kernel['gb_per_second']:.0f} GB/s, {kernel['of_copy']:.0%} of the copy" +
                     (f", {operations:.1f} TFLOP/s" if operations else ""))

    def gemm(self):
        self.need_device()
        found = json.loads(self.run([sys.executable, pathlib.Path(__file__).with_name("gemm_rate.py")], 120))
        self.result["gemm"] = found
        return ", ".join(f"{name} {rate:.0f} TFLOP/s" for name, rate in found.items())

    def big(self):
        """The sweep of a random model of Llama-2-7B's shape in the memory of a T4."""
        self.need_device()
        with tempfile.TemporaryDirectory(dir=disk_with(BIG_DISK, self.options.build)) as name:
            folder = pathlib.Path(name)
            start = time.monotonic()
            models().write(folder / "model", models().LLAMA_7B, "F16")
            self.say(f"wrote the model in {time.monotonic() - start:.0f} s")
            texts = folder / "texts.json"
            texts.write_text(json.dumps(models().long_texts(BIG_TEXTS, BIG_TOKENS)))
            memory = DeviceMemory()
            sweep = self.sweep(folder / "model", texts, "--device", "cuda", "--quantizer", BIG_QUANTIZER,
                               "--compute", "fp16", "--memory", T4_MEMORY, limit=300)
            seen = memory.stop()
        self.result["sweep"] = {k: v for k, v in sweep.items() if k != "rows"}
        self.result["sweep"]["nvidia_smi_peak_bytes"] = seen
        rate = sweep["flops"] / sweep["seconds"] / 1e12
        gemm = self.result.get("gemm", {}).get("fp16")
        peak = sweep["device_memory_peak_bytes"]
        self.result["sweep"] |= {"tflops": rate, "of_gemm": gemm and rate / gemm}
        if peak > T4_MEMORY:
            raise Failed(f"device memory peak {peak / 2**30:.2f} GiB, 14.6 asked")
        broken = [row for row in sweep["rows"] if not 0 < row["nll_sum"] < 1e6]
        if broken:
            raise Failed(f"{len(broken)} rows without a finite NLL")
        return (f"{sweep['configurations']} configurations, {sweep['seconds']:.1f} s, "
                f"{sweep['layer_evaluations']} layer evaluations, peak {peak / 2**30:.2f} GiB "
                f"({seen / 2**30:.2f} with the CUDA context, by nvidia-smi), "
                f"{rate:.0f} TFLOP/s" + (f", {rate / gemm:.0%} of the products'" if gemm else ""))

    # --- all ---

    def all(self):
        self.row("build", self.options.built, f"{self.options.build_seconds} s")
        self.find_device()
        if self.device is None:
            self.attempt("kernel tests on the host emulation",
                         lambda: self.gtest("test_worker_kernels_emulated_kernels", 600))
        self.attempt("kernel tests on the GPU, code of sm_75", self.kernel_tests)
        self.attempt("the engine's tests on the CPU",
                     lambda: self.gtest("test_worker_engine_engine", 300, {"CUDA_VISIBLE_DEVICES": ""}))
        self.attempt("the engine's tests on the GPU", self.engine_tests)
        with tempfile.TemporaryDirectory() as folder:
            self.attempt("sweep of a small model", lambda: self.score(pathlib.Path(folder)))
        self.smollm2()
        self.attempt("kernels beside a copy", self.kernels)
        self.attempt("matrix products of PyTorch", self.gemm)
        if self.options.small:
            self.row("sweep of a 7B-shaped model", "skipped", "--small")
        else:
            self.attempt("sweep of a 7B-shaped model, fp16, 14.6 GiB", self.big)

    def finish(self):
        width = max(len(row["check"]) for row in self.rows)
        print("\n" + "\n".join(f"{row['check']:<{width}}  {row['result']:<14}  {row['value']}".rstrip()
                               for row in self.rows))
        failed = [row["check"] for row in self.rows if row["result"] == "FAILED"]
        self.result["ok"] = not failed and self.device is not None
        self.result["seconds"] = round(time.monotonic() - self.begin)
        self.options.json.parent.mkdir(parents=True, exist_ok=True)
        self.options.json.write_text(json.dumps(self.result, indent=1) + "\n")
        print(f"\n{self.options.json}: {self.result['seconds']} s, {self.result['device']}")
        if failed:
            print(f"FAILED: {'; '.join(failed)}")
        elif self.device is None:
            print("NOT CHECKED: there is no CUDA device; what runs without one passed.")
        else:
            print("All checks passed.")
        return 0 if self.result["ok"] else 1


def by_key(sweep):
    return {(row["configuration"], row["language"], row["text"]): row for row in sweep["rows"]}


def differences(one, other):
    """The largest differences between the rows that both have, and how many those are."""
    found = {"rows": 0, "nll": 0.0, "kl": 0.0, "top1": 0, "tokens": 0}
    others = by_key(other)
    for key, row in by_key(one).items():
        if key not in others:
            continue
        match = others[key]
        if row["tokens"] != match["tokens"]:
            raise Failed(f"{key} has {row['tokens']} tokens and {match['tokens']}")
        found["rows"] += 1
        found["tokens"] += row["tokens"]
        found["nll"] = max(found["nll"], abs(match["nll_sum"] / row["nll_sum"] - 1))
        found["kl"] = max(found["kl"], abs(match["kl_sum"] - row["kl_sum"]) / row["tokens"])
        found["top1"] += abs(match["top1"] - row["top1"])
    if not found["rows"]:
        raise Failed("no row in common")
    return found


def describe(found):
    return (f"{found['rows']} rows: NLL {found['nll']:.1e} relative, KL {found['kl']:.1e} a token, "
            f"top-1 {found['top1']} of {found['tokens']}")


def within_bounds(one, other):
    found = differences(one, other)
    good = (found["nll"] <= NLL_RELATIVE and found["kl"] <= KL_PER_TOKEN and
            found["top1"] <= max(1, TOP1_SHARE * found["tokens"]))
    if not good:
        raise Failed(describe(found))
    return describe(found)


def equal_bits(one, other):
    others, shared = by_key(other), 0
    for key, row in by_key(one).items():
        if key in others:
            shared += 1
            if others[key] != row:
                raise Failed(f"configuration {key[0]}, {key[1]} {key[2]}: {row} and {others[key]}")
    if not shared:
        raise Failed("no row in common")
    return f"{shared} rows"


def first_line(command, having=""):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next((line.strip() for line in done.stdout.splitlines() if line.strip() and having in line), None)


def revision():
    packed = ROOT / "REVISION"
    if packed.exists():
        return packed.read_text().strip()
    return first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"])


def disk_with(size, build):
    for folder in (os.environ.get("TMPDIR"), build, "/tmp", "/dev/shm"):
        if folder and os.path.isdir(folder) and shutil.disk_usage(folder).free > size:
            return folder
    raise Failed(f"no folder has {size >> 30} GiB free: set TMPDIR, or leave this out with --small")


def main():
    parser = argparse.ArgumentParser(description="Checks the engine on a GPU.")
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--built", choices=("ok", "FAILED"), default="ok")
    parser.add_argument("--build-seconds", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.json = options.json or options.build / "result.json"
    # Each program compiles the kernels' PTX unless it finds what the one before it made.
    os.environ.setdefault("CUDA_CACHE_PATH", str(options.build / "cuda-cache"))
    check = Check(options)
    check.all()
    return check.finish()


if __name__ == "__main__":
    sys.exit(main())
