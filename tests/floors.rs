//! Checks the floors of ARCHITECTURE.md: which module may use which, and which names the sans-IO floors must not contain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the lowest to the highest. A module may use those on lower floors, and those to its left on its own floor
/// if the floor is ordered.
const FLOORS: [Floor; 8] = [
    Floor { modules: &["wire", "ring"], ordered: false },
    Floor { modules: &["error", "notification", "auth", "config", "route"], ordered: true },
    Floor { modules: &["session", "supervisor"], ordered: true },
    Floor { modules: &["net", "connection"], ordered: true },
    // The scripted and loopback servers, which use floors up to F3. No floor above uses them.
    Floor { modules: &["testing"], ordered: false },
    Floor { modules: &["queue", "notifier", "listener"], ordered: true },
    Floor {
        modules: &["hub", "dispatcher", "wakeups", "durable", "blocking", "guide"],
        ordered: true,
    },
    // Built only for the tests.
    Floor { modules: &["simulator"], ordered: false },
];

/// The number of lowest floors that do no I/O: no sockets, no files, no clock, no threads, no environment.
const SANS_IO_FLOORS: usize = 3;

/// Names that these floors must not contain.
const FORBIDDEN: [&str; 12] = [
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "now()",
    "tokio",
    "getrandom",
    "socket2",
    "rustls",
    "println!",
    "elapsed()",
];

/// Files in which one of these names is the type of a value that is only passed on.
const PASSED_ON: [(&str, &str); 1] = [("src/config/client_config.rs", "rustls")];

struct Floor {
    modules: &'static [&'static str],
    ordered: bool,
}

#[test]
fn dependencies_point_downward() {
    let root_names = root_names();
    let mut wrong = Vec::new();
    for (module, files) in modules() {
        let allowed = allowed(&module);
        for file in files {
            let source = shipped_source(&file);
            for used in used_from_root(&source, &file) {
                let target = root_names.get(&used).cloned().unwrap_or(used);
                if target != module && !allowed.contains(target.as_str()) {
                    wrong.push(format!("{} uses crate::{target}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these dependencies do not point downward:\n{}", wrong.join("\n"));
}

#[test]
fn the_lower_floors_do_no_io() {
    let sans_io: BTreeSet<_> =
        FLOORS[..SANS_IO_FLOORS].iter().flat_map(|floor| floor.modules).copied().collect();
    let mut wrong = Vec::new();
    for (module, files) in modules() {
        if !sans_io.contains(module.as_str()) {
            continue;
        }
        for file in files {
            let source = shipped_source(&file);
            // `use std::{net, fs}` names them too.
            let source = source.replace("use std::{", "use std:: {");
            for line in source.lines() {
                let grouped = line.trim_start().strip_prefix("use std:: {").is_some_and(|group| {
                    ["net", "fs", "env", "thread", "process"]
                        .iter()
                        .any(|name| group.split([',', '}', ':', ' ']).any(|word| word == *name))
                });
                let is_passed_on =
                    |name: &str| PASSED_ON.iter().any(|(at, it)| *it == name && file.ends_with(at));
                let named = FORBIDDEN.iter().any(|name| line.contains(name) && !is_passed_on(name));
                if grouped || named {
                    wrong.push(format!("{}: {}", file.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the sans-IO floors contain forbidden names:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_on_a_floor() {
    let known: BTreeSet<_> = FLOORS.iter().flat_map(|floor| floor.modules).copied().collect();
    let found: BTreeSet<_> = modules().into_keys().collect();
    let missing: Vec<_> = found.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "add to FLOORS and to ARCHITECTURE.md: {missing:?}");
}

/// Tests the check itself: it must find every form of a path.
#[test]
fn the_parser_of_use_lines_finds_nested_and_inline_paths() {
    let file = Path::new("src/proto/wire/frame.rs");
    let source = "use crate::proto::{session::{a, b}, ring};\nuse crate::Error;\nlet x = crate::net::now();\nuse super::super::auth;";
    let mut used = used_from_root(source, file);
    used.sort();
    assert_eq!(used, ["Error", "auth", "net", "ring", "session"]);
    assert!(allowed("session").contains("ring"));
    assert!(!allowed("session").contains("supervisor"));
    assert!(!allowed("wire").contains("ring"));
}

/// The methods of the supervisor call each other only downward. What one part causes in another one is an effect, which the
/// loop in `apply.rs` applies after the first part has returned.
#[test]
fn no_method_of_the_supervisor_calls_itself_through_others() {
    let calls = supervisor_calls();
    assert!(calls.len() > 30, "the methods are found: {:?}", calls.keys());
    assert!(calls["handle_link"].contains("run"), "a call is found");
    for method in calls.keys() {
        let mut reached = BTreeSet::new();
        let mut open = vec![method];
        while let Some(next) = open.pop() {
            open.extend(calls[next].iter().filter(|called| reached.insert(*called)));
        }
        assert!(!reached.contains(method), "{method} calls itself: {reached:?}");
    }
}

/// Returns the methods of `impl Supervisor` blocks, each with the methods of the same type that it calls.
fn supervisor_calls() -> BTreeMap<String, BTreeSet<String>> {
    let mut bodies = BTreeMap::<String, String>::new();
    for file in modules().remove("supervisor").unwrap() {
        let source = shipped_source(&file);
        let (mut is_inside, mut method) = (false, String::new());
        for line in source.lines() {
            let begins = line.starts_with("impl") && line.contains("> Supervisor<");
            is_inside = begins || is_inside && line != "}";
            let signature = line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '/']));
            if let Some((_, name)) = signature.and_then(|rest| rest.split_once("fn ")) {
                method = name.split(['(', '<']).next().unwrap().to_owned();
            }
            if is_inside && !begins {
                bodies.entry(method.clone()).or_default().push_str(line.trim());
            }
        }
    }
    bodies.remove("");
    let called = |body: &String| {
        let names = bodies.keys().filter(|name| {
            ["self.", "Self::"].iter().any(|path| body.contains(&format!("{path}{name}(")))
        });
        names.cloned().collect()
    };
    bodies.iter().map(|(name, body)| (name.clone(), called(body))).collect()
}

fn allowed(module: &str) -> BTreeSet<&'static str> {
    let mut allowed = BTreeSet::new();
    for floor in &FLOORS {
        if let Some(place) = floor.modules.iter().position(|name| *name == module) {
            if floor.ordered {
                allowed.extend(&floor.modules[..place]);
            }
            return allowed;
        }
        allowed.extend(floor.modules);
    }
    allowed
}

/// Top-level modules with their files, `lib.rs` excepted.
fn modules() -> BTreeMap<String, Vec<PathBuf>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::<_, Vec<_>>::new();
    let mut stack = vec![source.clone()];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "rs")
                && !path.ends_with("src/lib.rs")
                && !path.ends_with("src/proto/mod.rs")
            {
                let inside = path.strip_prefix(&source).unwrap();
                // `proto` is not a floor itself: its modules are.
                let inside = inside.strip_prefix("proto").unwrap_or(inside);
                let first = Path::new(inside.components().next().unwrap().as_os_str());
                let module = first.file_stem().unwrap().to_str().unwrap().to_owned();
                modules.entry(module).or_default().push(path);
            }
        }
    }
    assert!(modules.len() > 10, "the source tree was not found");
    modules
}

/// The shipped code: without comments and without test modules.
fn shipped_source(file: &Path) -> String {
    let name = file.file_name().unwrap().to_str().unwrap();
    let in_tests = file.components().any(|part| part.as_os_str() == "tests");
    if in_tests || ["tests.rs", "loom.rs", "properties.rs"].contains(&name) {
        return String::new();
    }
    let source = fs::read_to_string(file).unwrap();
    // By convention a test module is the last item of its file.
    let shipped = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let shipped = shipped.split("\n#[cfg(test)]\n#[cfg(not(loom))]\nmod tests {").next().unwrap();
    // A module does not use its own test helpers.
    let is_code = |line: &&str| {
        !["//", "#[cfg(all(", "#[cfg(feature", "#[cfg_attr(docsrs", "not(feature = "]
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    };
    let code = shipped.lines().filter(is_code);
    code.collect::<Vec<_>>().join("\n")
}

/// The first path segments after `crate::`, and after as many `super::` as lead to the root.
fn used_from_root(source: &str, file: &Path) -> Vec<String> {
    let inside: Vec<_> =
        file.components().skip_while(|part| part.as_os_str() != "src").skip(1).collect();
    let depth = inside.len() - usize::from(file.ends_with("mod.rs"));
    let mut used = Vec::new();
    let mut prefixes = vec!["crate::".to_owned(), "super::".repeat(depth)];
    if inside.first().is_some_and(|part| part.as_os_str() == "proto") {
        prefixes.push("super::".repeat(depth - 1));
    }
    for prefix in prefixes {
        let mut rest = source;
        while let Some(at) = rest.find(&prefix) {
            let whole =
                !rest[..at].ends_with("super::") && !rest[..at].ends_with(char::is_alphanumeric);
            rest = &rest[at + prefix.len()..];
            if whole && !rest.starts_with("super::") {
                used.extend(first_segments(rest.strip_prefix("proto::").unwrap_or(rest)));
            }
        }
    }
    used
}

/// `a::b` gives `a`; `{a, b::{c, d}}` gives `a` and `b`.
fn first_segments(path: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut level, mut segments, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level > 0 => level -= 1,
            ',' | '}' if level == 0 => {
                segments.push(word(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// The names that `lib.rs` re-exports, with the module of each.
fn root_names() -> BTreeMap<String, String> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let source = fs::read_to_string(library).unwrap();
    let mut names = BTreeMap::new();
    for statement in source.split("pub use ").skip(1) {
        let statement = statement.split(';').next().unwrap();
        let statement = statement.strip_prefix("proto::").unwrap_or(statement);
        let (module, rest) = statement.split_once("::").unwrap();
        for name in first_segments(rest) {
            names.insert(name, module.to_owned());
        }
    }
    assert_eq!(names.get("Error").map(String::as_str), Some("error"));
    names
}
