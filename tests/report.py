"""Prints the results of a test run: its slowest tests, and the tables that tests print.

    report.py JUNIT

JUNIT is nextest's report, with the output of tests that pass.
"""

import sys
import xml.etree.ElementTree as tree

SLOWEST = 10

# Tests that print a table.
TABLES = ("the_table_of_logins",)


def main(path: str) -> None:
    tests = [
        (float(case.get("time", "0")), f"{suite.get('name')} {case.get('name')}", case.findtext("system-out") or "")
        for suite in tree.parse(path).getroot().iter("testsuite")
        for case in suite.iter("testcase")
    ]
    print(f"the slowest of {len(tests)} tests, in seconds:")
    for seconds, name, _ in sorted(tests, reverse=True)[:SLOWEST]:
        print(f"{seconds:8.1f}  {name}")
    for _, name, output in tests:
        if name.endswith(TABLES):
            print(f"\n{name}:")
            print(output.rstrip())


main(sys.argv[1])
