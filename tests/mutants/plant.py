"""Plants the bugs of a list in a copy of the sources, and prints for each its name and the tests that must find it.

An entry of the list is a line `bug: NAME`, a line `file: PATH`, then the old text and the new one between
lines of <<<<, ==== and >>>>. A line `test: FILTER` behind the name selects the unit tests that must find the bug, if the
simulator cannot cause it. The old text must be in the file exactly once: a list that does not match the sources is an
error. The new text calls `crate::planted("NAME")`, which returns true if the bug is active.
"""

import pathlib
import re
import sys

PLANTED = '''
/// Returns whether the bug of this name is active.
#[allow(missing_docs, unreachable_pub)]
pub fn planted(name: &str) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ACTIVE.get_or_init(|| std::env::var("PGBELL_BUG").ok()).as_deref() == Some(name)
}
'''

SIMULATOR = "simulator::tests::"

ENTRY = re.compile(
    r"^bug: (\S+)\n(?:test: (\S+)\n)?file: (\S+)\n<<<<\n(.*?)\n====\n(.*?)\n>>>>$", re.M | re.S
)


def main(tree: pathlib.Path, listed: str) -> None:
    found_by, wrong = {}, []
    for name, test, path, old, new in ENTRY.findall(listed):
        file = tree / path
        text = file.read_text()
        if text.count(old) != 1:
            wrong.append(f"{name}: the old text is {text.count(old)} times in {path}")
            continue
        if f'crate::planted("{name}")' not in new:
            sys.exit(f"{name}: the new text does not call crate::planted")
        file.write_text(text.replace(old, new))
        found_by.setdefault(name, test or SIMULATOR)
    if wrong:
        sys.exit("\n".join(wrong))
    if len(ENTRY.findall(listed)) != len(re.findall(r"^<<<<$", listed, re.M)):
        sys.exit("an entry of the list could not be parsed")
    lib = tree / "src/lib.rs"
    lib.write_text(lib.read_text() + PLANTED)
    print("\n".join(f"{name} {test}" for name, test in found_by.items()))


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text())
