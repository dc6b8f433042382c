#!/usr/bin/env python3
"""Lists every public item of the library, one line each, sorted by path.

    scripts/public_items.py           prints the list
    scripts/public_items.py --check   compares it with docs/public-items.txt, and prints the difference
    scripts/public_items.py --write   writes docs/public-items.txt

An item is listed with its signature or type, under each path by which a user can name it. A trait implementation is listed at its type, unless the
compiler derives it for every type (`Send`, blanket implementations). The list comes from rustdoc's JSON output with all features;
`[feature]` marks what the default features do not have.
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
# Marks an item that the default features do not have.
FEATURE = "  [feature]"
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


def documented(*features):
    """Returns the JSON output of rustdoc for the library with these features."""
    environment = dict(os.environ, RUSTC_BOOTSTRAP="1")
    command = ["cargo", "rustdoc", "-q", "--locked", "-p", "pgbell", "--lib", *features, "--"]
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
        self.lines.add(line(item, path) + exhaustive)
        if kind == "module":
            self.visit_module(item, path, parents)
        elif kind == "trait":
            for number in inner["items"]:
                self.lines.add(line(self.get(number), f"{path}::{self.get(number)['name']}"))
        elif kind in ("struct", "enum", "union"):
            self.visit_type(kind, inner, path)

    def visit_type(self, kind, inner, path):
        if kind == "struct":
            self.visit_fields(inner["kind"], path)
        for number in inner.get("variants", ()):
            variant = self.get(number)
            exhaustive = "" if "non_exhaustive" not in str(variant["attrs"]) else " (non_exhaustive)"
            own = f"{path}::{variant['name']}"
            self.lines.add(f"variant {own}{self.variant_fields(variant)}{exhaustive}")
        for number in inner["impls"]:
            implementation = self.get(number)
            if implementation is None:
                continue
            implementation = implementation["inner"]["impl"]
            if implementation["is_synthetic"] or implementation["blanket_impl"]:
                continue
            if implementation["trait"]:
                trait = path_text(implementation["trait"])
                if trait != "StructuralPartialEq":
                    self.lines.add(f"impl {trait} for {path}")
                continue
            for number in implementation["items"]:
                item = self.get(number)
                if item and item["visibility"] == "public":
                    self.lines.add(line(item, f"{path}::{item['name']}"))

    def visit_fields(self, kind, path):
        fields = []
        if isinstance(kind, dict):
            fields = kind.get("plain", {}).get("fields") or kind.get("tuple") or []
        for number in fields:
            field = number and self.get(number)
            if field and field["visibility"] == "public":
                self.lines.add(line(field, f"{path}::{field['name']}"))

    def variant_fields(self, variant):
        """Returns the fields of a variant, with their types."""
        kind = variant["inner"]["variant"]["kind"]
        if not isinstance(kind, dict):
            return ""
        if "tuple" in kind:
            return f"({', '.join(self.field_type(number) for number in kind['tuple'])})"
        fields = [f"{self.get(number)['name']}: {self.field_type(number)}" for number in kind["struct"]["fields"]]
        return f" {{ {', '.join(fields)} }}"

    def field_type(self, number):
        field = number and self.get(number)
        return type_text(field["inner"]["struct_field"]) if field else "_"


def line(item, path):
    """Returns the line of an item: its kind, its path, and its signature or type."""
    (kind, inner), = item["inner"].items()
    if kind == "function":
        prefix, rest = signature(inner)
        return f"{prefix}fn {path}{rest}"
    if kind in ("struct_field", "constant", "assoc_const"):
        own = inner if kind == "struct_field" else inner["type"]
        return f"{'field' if kind == 'struct_field' else 'const'} {path}: {type_text(own)}"
    return f"{NAMED.get(kind, kind)} {path}"


# ---- types and signatures, as they are written in Rust ----


def signature(function):
    """Returns the part of a function behind its name."""
    sig, header = function["sig"], function["header"]
    inputs = [parameter(name, kind) for name, kind in sig["inputs"]]
    output = f" -> {type_text(sig['output'])}" if sig["output"] else ""
    prefix = "async " * header["is_async"] + "unsafe " * header["is_unsafe"] + "const " * header["is_const"]
    params, where = generics_text(function["generics"])
    return prefix, f"{params}({', '.join(inputs)}){output}{where}"


def parameter(name, kind):
    own = type_text(kind)
    if name == "self":
        return {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}.get(own, f"self: {own}")
    return f"{name}: {own}"


def generics_text(generics):
    params = []
    for param in generics["params"]:
        (kind, inner), = param["kind"].items()
        # The parameter of `impl Trait` is in the signature itself.
        if kind == "type" and inner.get("is_synthetic"):
            continue
        bounds = bounds_text(inner.get("bounds", [])) if kind == "type" else ""
        const = f": {type_text(inner['type'])}" if kind == "const" else ""
        prefix = "const " if kind == "const" else ""
        params.append(prefix + param["name"] + (f": {bounds}" if bounds else "") + const)
    where = []
    for predicate in generics["where_predicates"]:
        (kind, inner), = predicate.items()
        if kind == "bound_predicate":
            where.append(f"{type_text(inner['type'])}: {bounds_text(inner['bounds'])}")
    return (f"<{', '.join(params)}>" if params else ""), (f" where {', '.join(where)}" if where else "")


def bounds_text(bounds):
    texts = []
    for bound in bounds:
        if "trait_bound" in bound:
            maybe = "?" if bound["trait_bound"]["modifier"] == "maybe" else ""
            texts.append(maybe + path_text(bound["trait_bound"]["trait"]))
        elif "outlives" in bound:
            texts.append(bound["outlives"])
    return " + ".join(texts)


def path_text(path):
    """Returns the last name of a path, with its arguments."""
    return (path.get("path") or path.get("name")).rsplit("::", 1)[-1] + arguments_text(path.get("args"))


def arguments_text(args):
    if not args:
        return ""
    if "parenthesized" in args:
        inner = args["parenthesized"]
        output = f" -> {type_text(inner['output'])}" if inner["output"] else ""
        return f"({', '.join(map(type_text, inner['inputs']))}){output}"
    inner = args.get("angle_bracketed")
    if not inner:
        return ""
    texts = []
    for one in inner["args"]:
        if isinstance(one, dict):
            (kind, value), = one.items()
            texts.append({"lifetime": str, "type": type_text, "const": lambda c: c["expr"]}[kind](value))
    for constraint in inner["constraints"]:
        (kind, value), = constraint["binding"].items()
        if kind == "equality":
            texts.append(f"{constraint['name']} = {type_text(value.get('type'))}")
        else:
            texts.append(f"{constraint['name']}: {bounds_text(value)}")
    return f"<{', '.join(texts)}>" if texts else ""


def type_text(kind):
    if kind is None:
        return "()"
    if kind == "infer":
        return "_"
    (name, inner), = kind.items()
    if name == "resolved_path":
        return path_text(inner)
    if name in ("primitive", "generic"):
        return inner
    if name == "tuple":
        return f"({', '.join(map(type_text, inner))})"
    if name == "slice":
        return f"[{type_text(inner)}]"
    if name == "array":
        return f"[{type_text(inner['type'])}; {inner['len']}]"
    if name == "borrowed_ref":
        lifetime = f"{inner['lifetime']} " if inner["lifetime"] else ""
        return f"&{lifetime}{'mut ' * inner['is_mutable']}{type_text(inner['type'])}"
    if name == "impl_trait":
        return f"impl {bounds_text(inner)}"
    if name == "dyn_trait":
        traits = [path_text(one["trait"]) for one in inner["traits"]] + [inner["lifetime"]] * bool(inner["lifetime"])
        return f"dyn {' + '.join(traits)}"
    if name == "qualified_path":
        trait = f" as {path_text(inner['trait'])}" if inner["trait"] and inner["trait"].get("path") else ""
        own = type_text(inner["self_type"])
        return f"{f'<{own}{trait}>' if trait else own}::{inner['name']}"
    if name == "function_pointer":
        output = f" -> {type_text(inner['sig']['output'])}" if inner["sig"]["output"] else ""
        return f"fn({', '.join(type_text(one) for _, one in inner['sig']['inputs'])}){output}"
    return name


def order(line):
    """Sorts by path, so that what belongs to a type is together."""
    return line.split("pgbell", 1)[-1], line


def main():
    mode = sys.argv[1] if len(sys.argv) > 1 else "--print"
    if mode not in ("--print", "--check", "--write") or len(sys.argv) > 2:
        sys.exit(__doc__)
    found = documented()
    if found["format_version"] not in FORMATS:
        sys.exit(f"rustdoc's JSON has format {found['format_version']}, which this script does not know: adapt FORMATS")
    default = Items(found).lines
    every = Items(documented("--all-features")).lines
    if lost := default - every:
        sys.exit("more features change these items:\n" + "\n".join(sorted(lost)))
    text = "".join(f"{line}{'' if line in default else FEATURE}\n" for line in sorted(every, key=order))
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
