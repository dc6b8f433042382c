#!/usr/bin/env python3
"""Lists every public item of the library, one line each, sorted.

    scripts/public_items.py           prints the list
    scripts/public_items.py --check   compares it with docs/public-items.txt, and prints the difference
    scripts/public_items.py --write   writes docs/public-items.txt

An item is listed under each path by which a user can name it. A trait implementation is listed at its type, unless the
compiler derives it for every type (`Send`, blanket implementations). The list comes from rustdoc's JSON output with all features.
That output is not stable: RUSTC_BOOTSTRAP=1 allows it, and the script fails with a message if it does not support the format.
"""

import difflib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LISTED = ROOT / "docs" / "public-items.txt"
FORMATS = range(45, 70)
NAMED = {
    "module": "mod",
    "struct": "struct",
    "enum": "enum",
    "union": "union",
    "function": "fn",
    "trait": "trait",
    "trait_alias": "trait",
    "constant": "const",
    "static": "static",
    "type_alias": "type",
    "macro": "macro",
    "proc_macro": "macro",
    "primitive": "primitive",
}


def documented():
    """Returns the JSON output of rustdoc for the library."""
    environment = dict(os.environ, RUSTC_BOOTSTRAP="1")
    command = ["cargo", "rustdoc", "-q", "--locked", "-p", "pgbell", "--lib", "--all-features", "--"]
    command += ["-Z", "unstable-options", "--output-format", "json"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    metadata = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    answer = subprocess.run(metadata, cwd=ROOT, check=True, capture_output=True, text=True)
    target = pathlib.Path(json.loads(answer.stdout)["target_directory"])
    return json.loads((target / "doc" / "pgbell.json").read_text())


class Items:
    def __init__(self, documented):
        self.index = documented["index"]
        self.lines = set()
        self.visit_module(self.index[str(documented["root"])], "pgbell", ())

    def get(self, number):
        return self.index.get(str(number))

    def visit_module(self, module, path, parents):
        if module["id"] in parents:
            return
        parents += (module["id"],)
        for number in module["inner"]["module"]["items"]:
            item = self.get(number)
            if item is None or item["visibility"] != "public":
                continue
            if "use" in item["inner"]:
                self.visit_use(item["inner"]["use"], path, parents)
            else:
                self.visit(item, path, item["name"], parents)

    def visit_use(self, use, path, parents):
        item = self.get(use["id"])
        if item is None:
            self.lines.add(f"use {path}::{use['name']} = {use['source']}")
        elif use["is_glob"] and "module" in item["inner"]:
            self.visit_module(item, path, parents)
        elif use["is_glob"]:
            for variant in item["inner"]["enum"]["variants"]:
                self.lines.add(f"variant {path}::{self.get(variant)['name']}")
        else:
            self.visit(item, path, use["name"], parents)

    def visit(self, item, path, name, parents):
        (kind, inner), = item["inner"].items()
        path = f"{path}::{name}"
        exhaustive = "" if "non_exhaustive" not in str(item["attrs"]) else " (non_exhaustive)"
        self.lines.add(f"{NAMED.get(kind, kind)} {path}{exhaustive}")
        if kind == "module":
            self.visit_module(item, path, parents)
        elif kind == "trait":
            for number in inner["items"]:
                self.lines.add(f"fn {path}::{self.get(number)['name']}")
        elif kind in ("struct", "enum", "union"):
            self.visit_type(kind, inner, path)

    def visit_type(self, kind, inner, path):
        if kind == "struct":
            self.visit_fields(inner["kind"], path)
        for number in inner.get("variants", ()):
            variant = self.get(number)
            exhaustive = "" if "non_exhaustive" not in str(variant["attrs"]) else " (non_exhaustive)"
            self.lines.add(f"variant {path}::{variant['name']}{exhaustive}")
        for number in inner["impls"]:
            implementation = self.get(number)
            if implementation is None:
                continue
            implementation = implementation["inner"]["impl"]
            if implementation["is_synthetic"] or implementation["blanket_impl"]:
                continue
            if implementation["trait"]:
                trait = shown(implementation["trait"])
                if trait != "StructuralPartialEq":
                    self.lines.add(f"impl {trait} for {path}")
                continue
            for number in implementation["items"]:
                item = self.get(number)
                if item and item["visibility"] == "public":
                    what = "const" if "assoc_const" in item["inner"] else "fn"
                    self.lines.add(f"{what} {path}::{item['name']}")

    def visit_fields(self, kind, path):
        fields = []
        if isinstance(kind, dict):
            fields = kind.get("plain", {}).get("fields") or kind.get("tuple") or []
        for number in fields:
            field = number and self.get(number)
            if field and field["visibility"] == "public":
                self.lines.add(f"field {path}::{field['name']}")


def shown(trait):
    """A trait with its arguments, as far as they are plain types."""
    path = trait["path"].rsplit("::", 1)[-1]
    arguments = (trait.get("args") or {}).get("angle_bracketed", {}).get("args", [])
    names = [name for name in (type_name(one.get("type")) for one in arguments if isinstance(one, dict)) if name]
    return f"{path}<{', '.join(names)}>" if names else path


def type_name(kind):
    if not kind:
        return None
    if "resolved_path" in kind:
        return kind["resolved_path"]["path"].rsplit("::", 1)[-1]
    if "primitive" in kind:
        return kind["primitive"]
    if "borrowed_ref" in kind:
        inner = type_name(kind["borrowed_ref"]["type"])
        return inner and f"&{inner}"
    return None


def main():
    mode = sys.argv[1] if len(sys.argv) > 1 else "--print"
    if mode not in ("--print", "--check", "--write") or len(sys.argv) > 2:
        sys.exit(__doc__)
    found = documented()
    if found["format_version"] not in FORMATS:
        sys.exit(f"rustdoc's JSON has format {found['format_version']}, which this script does not know: adapt FORMATS")
    text = "".join(f"{line}\n" for line in sorted(Items(found).lines))
    if mode == "--print":
        print(text, end="")
    elif mode == "--write":
        LISTED.write_text(text)
    elif (listed := LISTED.read_text()) != text:
        names = str(LISTED.relative_to(ROOT)), "the library"
        print("\n".join(difflib.unified_diff(listed.splitlines(), text.splitlines(), *names, lineterm="", n=0)))
        sys.exit("public items are not as listed: run scripts/public_items.py --write, and look at the difference")


if __name__ == "__main__":
    main()
