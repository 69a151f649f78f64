#!/usr/bin/env python3
"""Lists the tests of a CTest run that did not run in full; exits 1 when one may not be skipped.

    python3 deploy/report_skipped.py JUNIT.xml CTEST.json [--strict]

JUNIT.xml: `ctest --output-junit`. CTEST.json: `ctest --show-only=json-v1`, for the labels. A test
counts as skipped when CTest did not run it, or when GoogleTest or unittest says so in its output.
--strict: only tests labelled gpu may be skipped, and GoogleTest's whose reason begins with "not in
this build:", as what needs libtorch in a preset that leaves it out.
"""
import json
import re
import sys
import xml.etree.ElementTree as xml

SKIPPED_CASE = re.compile(r"^\[  SKIPPED \] ([^\s,]+\.[^\s,]+)", re.M)
SKIP_REASON = re.compile(r"^\S+:\d+: Skipped\n(.*?)\n+\[  SKIPPED \] ([^\s,]+\.[^\s,]+)",
                         re.M | re.S)
SKIPPED_UNITTEST = re.compile(r"\bOK \(skipped=(\d+)\)")
NOT_IN_THIS_BUILD = "not in this build:"


def labels_by_test(path):
    with open(path, encoding="utf-8") as file:
        tests = json.load(file)["tests"]
    return {test["name"]: next((p["value"] for p in test.get("properties", [])
                                if p["name"] == "LABELS"), []) for test in tests}


def skipped(junit):
    """(test, what of it, why or "") for everything that did not run."""
    for case in xml.parse(junit).getroot().iter("testcase"):
        name, output = case.get("name"), case.findtext("system-out") or ""
        if case.get("status") in ("notrun", "disabled"):
            yield name, "all of it", ""
        reasons = {what: why for why, what in SKIP_REASON.findall(output)}
        for what in sorted(set(SKIPPED_CASE.findall(output))):
            yield name, what, reasons.get(what, "")
        for count in SKIPPED_UNITTEST.findall(output):
            yield name, f"{count} of its unittest cases", ""


def main():
    labels = labels_by_test(sys.argv[2])
    strict = "--strict" in sys.argv
    found = list(skipped(sys.argv[1]))
    forbidden = {name for name, _, why in found
                 if "gpu" not in labels.get(name, []) and not why.startswith(NOT_IN_THIS_BUILD)}
    print("skipped: nothing" if not found else "skipped:")
    for name, what, why in found:
        print(f"  {name}: {what}" + (f": {why}" if why else ""))
    if strict and forbidden:
        print("as root nothing may be skipped but tests labelled gpu and what a build leaves out: "
              f"{sorted(forbidden)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
