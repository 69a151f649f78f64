#!/usr/bin/env python3
"""Lists the tests of a CTest run that did not run in full; exits 1 when one may not be skipped.

    python3 deploy/report_skipped.py JUNIT.xml CTEST.json [--strict]

JUNIT.xml: `ctest --output-junit`. CTEST.json: `ctest --show-only=json-v1`, for the labels. A test
counts as skipped when CTest did not run it, or when GoogleTest or unittest says so in its output.
--strict: only tests labelled gpu may be skipped.
"""
import json
import re
import sys
import xml.etree.ElementTree as xml

SKIPPED_CASE = re.compile(r"^\[  SKIPPED \] (\S+)", re.M)
SKIPPED_UNITTEST = re.compile(r"\bOK \(skipped=(\d+)\)")


def labels_by_test(path):
    with open(path, encoding="utf-8") as file:
        tests = json.load(file)["tests"]
    return {test["name"]: next((p["value"] for p in test.get("properties", [])
                                if p["name"] == "LABELS"), []) for test in tests}


def skipped(junit):
    """(test, what of it) for everything that did not run."""
    for case in xml.parse(junit).getroot().iter("testcase"):
        name, output = case.get("name"), case.findtext("system-out") or ""
        if case.get("status") in ("notrun", "disabled"):
            yield name, "all of it"
        for what in sorted(set(SKIPPED_CASE.findall(output))):
            if what.rstrip(",").count("."):
                yield name, what
        for count in SKIPPED_UNITTEST.findall(output):
            yield name, f"{count} of its unittest cases"


def main():
    labels = labels_by_test(sys.argv[2])
    strict = "--strict" in sys.argv
    found = list(skipped(sys.argv[1]))
    forbidden = [name for name, _ in found if "gpu" not in labels.get(name, [])]
    print("skipped: nothing" if not found else "skipped:")
    for name, what in found:
        print(f"  {name}: {what}")
    if strict and forbidden:
        print(f"as root nothing but tests labelled gpu may be skipped: {sorted(set(forbidden))}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
