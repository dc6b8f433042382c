#!/usr/bin/env python3
"""Makes docs/promises.md: every promise with its tests, and the versions of PostgreSQL on which they passed.

    table.py --check              compares the page with the promises of list.txt and with the tests that name them
    table.py --check REPORT...    compares the versions too: every promise must have passed on 13 and 18
    table.py --write [REPORT...]  writes the page
    table.py --filter             prints a filter for nextest: the tests that a run on one version must have

A REPORT is nextest's, with the output of tests that pass. A plain path counts for tests whose name has a version (`matrix::…::pg13::…`): the
others ran on the installed server, which is another one on each machine. `13=PATH` is the report of a run with PGBELL_MAJOR=13.

A test names its promises in the comment above it, or at the beginning of its name (`s10_…`). In tests/postgres/chaos the letters R, S and D begin
faults too: there they are promises only after the word `Promise`. A test has run on a server if it has printed its version, which
`support::Server` does. For versions that no report has, and without a report for all, the page keeps what it says.
"""

import difflib
import pathlib
import re
import sys
import xml.etree.ElementTree as tree

REQUIRED = (13, 18)

ID = r"[PSRGD][1-9][0-9]?"
IDS = re.compile(rf"\b{ID}\b")
AFTER_PROMISE = re.compile(rf"\bPromises? ((?:{ID}(?:, | and )?)+)")
FUNCTION = re.compile(r"(?:pub(?:\(\w+\))? )?(async )?fn (\w+)\((.*)")
SERVER = re.compile(r"^server: PostgreSQL (\d+)", re.MULTILINE)
VERSION_OF_TEST = re.compile(r"::pg(\d+)(?=::)")
NAMED = re.compile(r"([^:;|`]+): ((?:`[\w:]+`(?:, )?)+)")

SERVERLESS = "without a server"
NOT_RUN = "not run yet"

HEAD = """\
# Promises

What users of LISTEN and NOTIFY can expect of pgbell, the tests that show it, and the versions of PostgreSQL on which all of them passed.
`./test.sh` runs the tests on real servers, and compares this page with the results. It fails if a promise has not passed on {required}.
`tests/promises/table.py` writes the page; the texts are in `tests/promises/list.txt`.

The paths of tests begin in `tests/postgres`. Those under "{serverless}" need none, and may be elsewhere. A promise without a test is *open*, which
fails the tests.
"""


class Wrong(Exception):
    """Something in the repository or in a report that must be mended first."""


class Promise:
    def __init__(self, section, name, text):
        self.section, self.name, self.text = section, name, text
        # Tests that need no server, and what is not built yet.
        self.also, self.missing = [], ""


def read_list(path):
    """Returns the promises of the list, in its order."""
    found, section = {}, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        key, _, rest = line.partition(": ")
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
        elif re.fullmatch(ID, key) and rest and section and key not in found:
            found[key] = Promise(section, key, rest)
        elif key == "also" and found:
            list(found.values())[-1].also += rest.split()
        elif key == "missing" and found:
            list(found.values())[-1].missing = rest
        else:
            raise Wrong(f"{path}:{number}: no promise, `also:` or `missing:`: {line}")
    return found


def promises_of(test, comment, in_chaos):
    """Returns the promises that a test names."""
    found = set()
    for part in test.split("_"):
        if not re.fullmatch(ID, part.upper()):
            break
        found.add(part.upper())
    # In `code`, letters and digits are no promise.
    comment = re.sub(r"`[^`]*`", "", comment)
    if not in_chaos:
        return found | set(IDS.findall(comment))
    named = " ".join(AFTER_PROMISE.findall(comment))
    found = {one for one in found | set(IDS.findall(comment)) if one[0] in "PG"}
    return found | set(IDS.findall(named))


def read_tests(root):
    """Returns the promises of each test that names one: `connect::a_url_…`, without a version."""
    found = {}
    directory = root / "tests" / "postgres"
    for path in sorted(directory.rglob("*.rs")):
        module = [part for part in path.relative_to(directory).with_suffix("").parts if part != "mod"]
        text = path.read_text()
        comment, is_test = [], False
        for line in map(str.strip, text.splitlines()):
            if line.startswith("///"):
                comment.append(line[3:].strip())
            elif line.startswith("#["):
                is_test |= line.startswith(("#[test]", "#[tokio::test"))
            elif function := FUNCTION.match(line):
                name = function[2]
                # The macro of the matrix makes tests of the functions that it lists.
                on_matrix = function[3].startswith("major: u32)") and re.search(rf"^\s+{name}$", text, re.MULTILINE)
                if is_test or on_matrix:
                    ids = promises_of(name, " ".join(comment), module[0] == "chaos")
                    if ids:
                        found["::".join([*module, name])] = ids
                comment, is_test = [], False
            elif not is_test:
                comment = []
    return found


class Results:
    """What the reports say: the versions on which a test passed, of those that it ran on."""

    def __init__(self, reports):
        self.reports = reports
        self.passed, self.versions, self.serverless, self.wrong = {}, set(), set(), []
        for report in reports:
            major, is_alone, path = report.partition("=")
            self.read(pathlib.Path(path if is_alone else report), int(major) if is_alone else None)

    def read(self, path, only):
        ran = 0
        for suite in tree.parse(path).getroot().iter("testsuite"):
            if not suite.get("name", "").endswith("::postgres"):
                continue
            for case in suite.iter("testcase"):
                ran += 1
                self.add(case, only)
        if not ran:
            raise Wrong(f"{path} has no test of tests/postgres")

    def add(self, case, only):
        name = case.get("name")
        versions = {int(major) for major in VERSION_OF_TEST.findall(name)} or ({only} if only else set())
        name = VERSION_OF_TEST.sub("", name)
        printed = {int(major) for major in SERVER.findall(case.findtext("system-out") or "")}
        if case.find("failure") is not None or case.find("error") is not None:
            self.wrong.append(f"{name} failed")
        elif not printed:
            self.serverless.add(name)
        elif versions and printed != versions:
            self.wrong.append(f"{name} should have run on {plain(versions)}, and ran on {plain(printed)}")
        elif versions:
            self.passed.setdefault(name, set()).update(versions)
        self.versions |= versions & printed


def plain(versions):
    """`13, 15–18`."""
    groups = []
    for version in sorted(versions):
        if groups and groups[-1][-1] == version - 1:
            groups[-1].append(version)
        else:
            groups.append([version])
    # Two are written as two.
    texts = [f"{group[0]}–{group[-1]}" if len(group) > 2 else ", ".join(map(str, group)) for group in groups]
    return ", ".join(texts)


def read_page(path):
    """Returns what the page says: the versions of each test, and `None` for one that needs no server."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) != 4 or not re.fullmatch(ID, cells[0]):
            continue
        for versions, names in NAMED.findall(cells[3]):
            versions = versions.strip()
            known = None if versions == SERVERLESS else numbers("" if versions == NOT_RUN else versions)
            found.update(dict.fromkeys(re.findall(r"`([\w:]+)`", names), known))
    return found


def numbers(text):
    found = set()
    for part in text.split(", ") if text else []:
        first, _, last = part.partition("–")
        found.update(range(int(first), int(last or first) + 1))
    return found


def versions_of(test, before, results):
    """Returns the versions on which a test passed, or `None` if it needs no server."""
    if test in results.passed:
        kept = (before.get(test) or set()) - results.versions
        return results.passed[test] | kept
    if test in results.serverless:
        return None
    known = before.get(test, set())
    # A test that a version of this run should have had, and has not, loses it.
    return known if known is None else known - results.versions


def row(promise, tests, before, results):
    """Returns the row of a promise, and the versions on which all its tests passed."""
    groups = {}
    for test in sorted(tests):
        versions = versions_of(test, before, results)
        groups.setdefault(None if versions is None else plain(versions), []).append(test)
    groups.setdefault(None, []).extend(promise.also)
    alone = groups.pop(None)
    passed = [numbers(versions) for versions in groups]
    all_passed = set.intersection(*passed) if passed else set()
    cells = [f"{versions or NOT_RUN}: {quoted(names)}" for versions, names in groups.items()]
    cells += [f"{SERVERLESS}: {quoted(alone)}"] if alone else []
    text = promise.text + (f". *Missing: {promise.missing}*" if promise.missing else "")
    state = plain(all_passed) or ("none" if passed else "open")
    return f"| {promise.name} | {text} | {state} | {'; '.join(cells)} |", all_passed


def quoted(names):
    return ", ".join(f"`{name}`" for name in names)


def make(root, results):
    """Returns the page, and what is wrong with the promises."""
    promises = read_list(root / "tests" / "promises" / "list.txt")
    tests = read_tests(root)
    before = read_page(root / "docs" / "promises.md")
    wrong = list(results.wrong)
    for test, ids in tests.items():
        wrong += [f"{test} names {one}, which is not in list.txt" for one in sorted(ids - promises.keys())]
    lines, section = [HEAD.format(required=" or ".join(map(str, REQUIRED)), serverless=SERVERLESS)], None
    for promise in promises.values():
        if promise.section != section:
            section = promise.section
            lines += [""] if lines[1:] else []
            lines += [f"## {section}", "", "| id | promise | passed on | tests |", "|---|---|---|---|"]
        named = [test for test, ids in tests.items() if promise.name in ids]
        line, passed = row(promise, named, before, results)
        lines.append(line)
        absent = set(REQUIRED) - passed
        if results.reports and absent:
            what = "a test that has not" if named else "no test that has"
            wrong.append(f"{promise.name} has {what} passed on {plain(absent)}")
    return "\n".join(lines) + "\n", wrong


def print_filter(root):
    tests = [test for test in read_tests(root) if not test.startswith("matrix::")]
    print(" | ".join(f"test(={test})" for test in tests))


def main(arguments):
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    if arguments[:1] == ["--root"]:
        root, arguments = pathlib.Path(arguments[1]), arguments[2:]
    mode, reports = arguments[:1], arguments[1:]
    if mode == ["--filter"] and not reports:
        return print_filter(root)
    if mode not in (["--check"], ["--write"]):
        sys.exit(__doc__)
    results = Results(reports)
    page, wrong = make(root, results)
    path = root / "docs" / "promises.md"
    if reports:
        absent = set(REQUIRED) - results.versions
        wrong += [f"no report has a test that ran on PostgreSQL {plain(absent)}"] if absent else []
    if mode == ["--write"]:
        path.write_text(page)
    elif page != (there := path.read_text() if path.exists() else ""):
        sys.stdout.writelines(difflib.unified_diff(
            there.splitlines(True), page.splitlines(True), "docs/promises.md", "docs/promises.md of this run"))
        wrong.append("docs/promises.md is not what this run has shown: see `table.py --write`")
    if wrong:
        sys.exit("\n".join(wrong))


try:
    main(sys.argv[1:])
except Wrong as wrong:
    sys.exit(str(wrong))
