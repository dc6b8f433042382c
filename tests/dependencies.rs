//! What the library brings into a user's build.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates without TLS and without the tables of SASLprep.
const CRATES_MAX: usize = 24;

/// Other drivers: pgbell speaks the protocol itself.
const DRIVERS: [&str; 6] =
    ["tokio-postgres", "postgres-protocol", "postgres", "sqlx", "sqlx-postgres", "pq-sys"];

fn tree(features: &str, edges: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "pgbell", "--no-default-features"])
        .args(["--features", features, "-e", edges, "--prefix", "none", "--no-dedupe"])
        .args(["--format", "{p} {f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn names(tree: &BTreeSet<String>) -> BTreeSet<&str> {
    tree.iter().filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn the_tree_without_tls_stays_small() {
    let tree = tree("tokio", "normal,build");
    let names = names(&tree);
    assert!(names.contains("tokio") && names.contains("pgbell"));
    assert!(names.len() <= CRATES_MAX, "{} crates: {names:?}", names.len());
}

#[test]
fn the_tables_of_saslprep_add_few() {
    let without = tree("tokio", "normal,build");
    let with = tree("tokio,saslprep", "normal,build");
    let added: Vec<_> = names(&with).difference(&names(&without)).map(|s| s.to_string()).collect();
    assert!(added.len() <= 6, "{added:?}");
}

#[test]
fn tokio_comes_without_macros() {
    let tree = tree("tokio,saslprep", "normal,build");
    let tokio = tree.iter().find(|line| line.starts_with("tokio ")).unwrap();
    assert!(!tokio.contains("macros"), "{tokio}");
    assert!(!names(&tree).contains("syn"));
}

#[test]
fn the_sans_io_floors_bring_no_runtime() {
    let tree = tree("", "normal,build");
    for absent in ["tokio", "socket2", "getrandom", "mio", "libc-net"] {
        assert!(!names(&tree).contains(absent), "{absent}");
    }
}

#[test]
fn no_other_driver_is_linked_not_even_for_tests() {
    let tree = tree("tokio,saslprep,testing", "normal,build,dev");
    for driver in DRIVERS {
        assert!(!names(&tree).contains(driver), "{driver}");
    }
}
