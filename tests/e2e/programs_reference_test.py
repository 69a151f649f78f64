"""docs/reference/programs.md has the help of qcoordinator, qworker and qengine as they print it.

    build/venv/bin/python tests/e2e/programs_reference_test.py BIN_DIR

On a difference it writes the file as it should be into the folder above BIN_DIR.
"""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/programs.md"
# `qengine serve` is what qworker starts, not a command for people.
PROGRAMS = {"qcoordinator": ["serve", "init", "restore"], "qworker": [],
            "qengine": ["describe", "tokenize", "score", "quantize", "selftest"]}
HEAD = """\
# Programs of the cluster

What `qcoordinator`, `qworker` and `qengine` print with `--help`; a test compares them. The command line for people is
`qctl` ([cli.md](cli.md)): on one machine `qctl up` starts a coordinator and workers, which start the engines. With a
coordinator of your own the first two are started by hand or by the system ([../access.md](../access.md)). `qengine` also
works alone, without a coordinator. All end with the [exit codes](cli.md#exit-codes) of `qctl`; a wrong command line is an
`error[QS1060]`, exit code 2. `qengine serve` is left out: `qworker` starts it.
"""


def help_text(binaries, *words):
    done = subprocess.run([binaries / words[0], *words[1:], "--help"], check=True, encoding="utf-8",
                          stdout=subprocess.PIPE)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def page(binaries):
    parts = [HEAD]
    for program, commands in PROGRAMS.items():
        for words in [[program], *([program, command] for command in commands)]:
            parts.append(f"\n{'#' * (1 + len(words))} {' '.join(words)}\n\n```\n{help_text(binaries, *words)}\n```\n")
    return "".join(parts)


def main():
    binaries = pathlib.Path(sys.argv[1]).resolve()
    expected = page(binaries)
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == expected:
        print(f"{PAGE.relative_to(ROOT)} has the help of {', '.join(PROGRAMS)}")
        return
    written = binaries.parent / PAGE.name
    written.write_text(expected, encoding="utf-8")
    sys.exit(f"{PAGE.relative_to(ROOT)} differs from what the programs print; copy {written} over it")


main()
