#!/usr/bin/env python3
"""Rules of docs/style.md that a compiler cannot check. Prints each breach; exits 1 on any.

    python3 tests/lint/source_rules.py
"""
import pathlib
import re
import subprocess
import sys

# What the repository holds at its top.
TOP_LEVEL = {".ci", ".clang-format", ".clang-tidy", ".gitignore", "CHANGELOG.md", "CMakeLists.txt",
             "CMakePresets.json", "CONTRIBUTING.md", "LICENSE", "NOTICE", "README.md", "common",
             "coordinator", "deploy", "docs", "proto", "tests", "worker"}

# What the files of a folder may include of ours; the longest matching folder counts. The folder
# itself is always allowed. Arrows go one way: see docs/architecture.md.
EDGES = {
    "common/base": [],
    "common/job": ["common/base", "proto"],
    "common/rpc": ["common/base", "common/job", "proto"],
    "coordinator/core": ["common/base", "common/job", "proto"],
    "coordinator/store": ["common/base", "common/job", "proto", "coordinator/core"],
    "coordinator/analysis": ["common/base", "common/job"],
    "coordinator/service": ["common", "proto", "coordinator/core", "coordinator/store",
                            "coordinator/analysis", "coordinator/loop.h",
                            "coordinator/token_table.h"],
    "coordinator/qctl": ["common", "proto"],
    "coordinator": ["common", "proto", "coordinator"],
    "worker/agent": ["common", "proto"],
    "worker/kernels": ["common/base", "common/job"],
    "worker/model": ["common/base", "common/job", "worker/tokenizer"],
    "worker/tokenizer": ["common/base"],
    "worker/sweep": ["common/base", "common/job", "worker/kernels", "worker/model",
                     "worker/tokenizer"],
    "worker/eval": ["common/base", "common/job", "worker/kernels", "worker/model",
                    "worker/tokenizer"],
    "worker/engine": ["common", "proto", "worker"],
    "worker": ["common", "proto", "worker/agent"],
}
PROTO_INCLUDE = re.compile(r'\.pb\.h$|^google/protobuf')
GRPC_INCLUDE = re.compile(r'^grpc')
TORCH_INCLUDE = re.compile(r'^(torch|ATen|c10|caffe2)/')
# nvcc sees plain types only: what else its files include costs seconds, for each architecture.
CUDA_INCLUDE = re.compile(r'^(worker/kernels/[\w/]+\.h|bit|c\w+)$')
PURE = ("coordinator/core/", "coordinator/analysis/", "worker/agent/agent_core", "worker/sweep/trie")
PURE_FORBIDDEN = re.compile(r'^(grpc|sqlite3|thread$|mutex$|chrono$|future$|fstream$|spdlog|'
                            r'common/base/(log|mutex)\.h)')
# Lines that break a rule anywhere outside tests.
LINE_RULES = [
    (re.compile(r'\b(clock_gettime|std::time\(|gettimeofday|absl::Now\(|system_clock::now|'
                r'steady_clock::now)'), "reads the real time outside common/base/clock.cc",
     lambda path: path != "common/base/clock.cc" and not path.startswith("worker/engine/")),
    (re.compile(r'\bstd::string_view\b'), "std::string_view in a header (use absl::string_view)",
     lambda path: path.endswith(".h")),
    (re.compile(r'\babsl::(optional|variant|Span)\b'), "an absl type that std has",
     lambda path: True),
    (re.compile(r'\bstd::cout\b'), "std::cout in a library", lambda path: not path.endswith("main.cc")),
    (re.compile(r'\b(TODO|FIXME|XXX|HACK)\b'), "a marker of unfinished work", lambda path: True),
    (re.compile(r'^\s*using namespace (?!std::literals)'), "using namespace", lambda path: True),
    (re.compile(r'"[^"]*\b(SELECT .* FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b'),
     "SQL outside coordinator/store", lambda path: path.startswith(("coordinator/", "worker/"))
     and not path.startswith(("coordinator/store/", "coordinator/qctl/"))),
]
SLEEP = re.compile(r'\b(sleep_for|sleep_until|usleep|absl::SleepFor)\b')
MAX_LINES = 800
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')
CLASS = re.compile(r'^(?:class|struct)\s+(?:ABSL_\w+\s+)?(\w+)[^;]*\{')


def includes(text):
    return [match.group(1) for line in text.splitlines() if (match := INCLUDE.match(line))]


def edge_breaches(path, text):
    folder = max((f for f in EDGES if path.startswith(f + "/")), key=len, default=None)
    if folder is None:
        return
    for included in includes(text):
        top = included.split("/")[0]
        if PROTO_INCLUDE.search(included):
            if "proto" not in EDGES[folder]:
                yield f"{folder} may not include protobuf: {included}"
        elif top in ("common", "coordinator", "worker"):
            allowed = EDGES[folder] + [folder]
            if not any(included == a or included.startswith(a + "/") for a in allowed):
                yield f"{folder} may not include {included}"
        if GRPC_INCLUDE.match(included) and not path.startswith(
                ("common/rpc/", "coordinator/service/")):
            yield f"grpc outside common/rpc and coordinator/service: {included}"
        if TORCH_INCLUDE.match(included) and not (
                path.startswith("worker/engine/") and path.endswith(".cc")):
            yield f"torch outside worker/engine/*.cc: {included}"
        if path.endswith(".cu") and not CUDA_INCLUDE.match(included):
            yield f"a .cu file includes {included}"
        if path.startswith(PURE) and PURE_FORBIDDEN.match(included):
            yield f"a pure part includes {included}"


def reachable(path, files, seen):
    """Every include of ours behind path, itself too."""
    if path in seen or path not in files:
        return seen
    seen.add(path)
    for included in includes(files[path]):
        reachable(included, files, seen)
    return seen


def torch_meets_proto(files):
    for path, text in files.items():
        if not any(TORCH_INCLUDE.match(i) for i in includes(text)):
            continue
        for behind in sorted(reachable(path, files, set())):
            for included in includes(files[behind]):
                if PROTO_INCLUDE.search(included):
                    yield path, f"includes torch, and protobuf through {behind}"


def header_breaches(path, text):
    guard = "QSWEEP_" + re.sub(r'[/.]', '_', path).upper() + "_"
    if f"#ifndef {guard}" not in text:
        yield f"include guard is not {guard}"
    if path.startswith("tests/"):
        return
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = CLASS.match(line)
        if match and line.startswith("class") and not re.match(r'\s*(//|template|\})', lines[number - 1]):
            yield f"line {number + 1}: class {match.group(1)} has no comment"


def file_breaches(path, text):
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        yield f"{len(lines)} lines (at most {MAX_LINES})"
    if path.startswith("tests/"):
        if not path.startswith(("tests/support/", "tests/bench/")):
            for number, line in enumerate(lines, 1):
                if SLEEP.search(line):
                    yield f"line {number}: a test that sleeps"
        return
    for number, line in enumerate(lines, 1):
        for pattern, what, applies in LINE_RULES:
            if pattern.search(line) and applies(path):
                yield f"line {number}: {what}"


def check(files):
    """files: path from the root -> text. Returns sorted 'path: breach' lines."""
    breaches = []
    for path, text in files.items():
        breaches += [f"{path}: {b}" for b in edge_breaches(path, text)]
        breaches += [f"{path}: {b}" for b in file_breaches(path, text)]
        if path.endswith(".h"):
            breaches += [f"{path}: {b}" for b in header_breaches(path, text)]
    breaches += [f"{path}: {b}" for path, b in torch_meets_proto(files)]
    return sorted(breaches)


def stray_entries(root):
    """Tracked entries at the top that nobody agreed on: what a tool wrote where it was called."""
    if not (root / ".git").exists():
        return []
    tracked = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True)
    return sorted({line.split("/")[0] for line in tracked.stdout.splitlines()} - TOP_LEVEL)


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    files = {}
    for top in ("common", "coordinator", "worker", "tests"):
        for path in (root / top).rglob("*"):
            if path.suffix in (".h", ".cc", ".cu"):
                files[str(path.relative_to(root))] = path.read_text()
    breaches = check(files)
    breaches += [f"{entry}: does not belong at the top level" for entry in stray_entries(root)]
    for breach in breaches:
        print(breach)
    print(f"{len(files)} files, {len(breaches)} breaches")
    return 1 if breaches or not files else 0


if __name__ == "__main__":
    sys.exit(main())
