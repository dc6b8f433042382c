//! The dependencies that the library adds to a user's build.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use spdx::{Expression, ParseMode};

/// The highest number of crates without TLS and without the tables of SASLprep.
const CRATES_MAX: usize = 24;

/// The highest number of crates that TLS adds: rustls with ring, and the root certificates of the system.
const TLS_CRATES_MAX: usize = 12;

/// Other drivers: pgbell implements the protocol itself.
const DRIVERS: [&str; 6] =
    ["tokio-postgres", "postgres-protocol", "postgres", "sqlx", "sqlx-postgres", "pq-sys"];

/// Queues between threads: the ring between reader and consumer is part of this crate.
const QUEUES: [&str; 8] = [
    "rtrb",
    "ringbuf",
    "crossbeam-queue",
    "crossbeam-channel",
    "flume",
    "kanal",
    "async-channel",
    "thingbuf",
];

fn tree(features: &str, edges: &str) -> BTreeSet<String> {
    lines(features, edges, "{p} {f}")
}

fn lines(features: &str, edges: &str, format: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "pgbell", "--no-default-features"])
        .args(["--features", features, "-e", edges, "--prefix", "none", "--no-dedupe"])
        .args(["--format", format])
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
fn the_tables_of_saslprep_add_few_crates() {
    let without = tree("tokio", "normal,build");
    let with = tree("tokio,saslprep", "normal,build");
    let added: Vec<_> = names(&with).difference(&names(&without)).map(|s| s.to_string()).collect();
    assert!(added.len() <= 6, "{added:?}");
}

#[test]
fn tls_adds_few_crates_and_each_provider_only_its_own() {
    let without = tree("tokio", "normal,build");
    for (feature, provider, other) in
        [("tls-ring", "ring", "aws-lc-rs"), ("tls-aws-lc-rs", "aws-lc-rs", "ring")]
    {
        let with = tree(&format!("tokio,{feature}"), "normal,build");
        let names = names(&with);
        assert!(names.contains("rustls") && names.contains(provider), "{names:?}");
        assert!(!names.contains(other), "{feature} brings {other}");
        assert!(!names.contains("tokio-rustls") && !names.contains("rustls-pemfile"), "{names:?}");
        if provider == "ring" {
            let before = self::names(&without);
            let added: Vec<_> = names.difference(&before).collect();
            assert!(added.len() <= TLS_CRATES_MAX, "{added:?}");
        }
    }
    let bare = tree("tokio,tls", "normal,build");
    assert!(!names(&bare).contains("ring") && !names(&bare).contains("aws-lc-rs"));
    assert!(!names(&without).contains("rustls"));
}

/// The macros of serde are the user's own choice.
#[test]
fn json_adds_few_crates_and_no_macros() {
    let without = tree("tokio", "normal,build");
    let with = tree("tokio,json", "normal,build");
    let (names, before) = (names(&with), names(&without));
    let added: Vec<_> = names.difference(&before).collect();
    assert!(names.contains("serde_json") && added.len() <= 5, "{added:?}");
    assert!(!names.contains("syn") && !names.contains("serde_derive"), "{added:?}");
    assert!(!before.contains("serde_core") && !before.contains("serde_json"), "{before:?}");
}

/// The default features are the documented ones.
#[test]
fn the_default_features_include_tls_with_ring() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "pgbell", "-e", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for present in ["rustls v0.23", "ring v", "stringprep v", "tokio v"] {
        assert!(text.lines().any(|line| line.starts_with(present)), "{present}");
    }
    assert!(!text.contains("serde"));
    assert!(!text.contains("aws-lc-rs v"));
}

#[test]
fn tokio_is_built_without_macros() {
    let tree = tree("tokio,saslprep", "normal,build");
    let tokio = tree.iter().find(|line| line.starts_with("tokio ")).unwrap();
    assert!(!tokio.contains("macros"), "{tokio}");
    assert!(!names(&tree).contains("syn"));
}

#[test]
fn the_sans_io_floors_have_no_runtime() {
    let tree = tree("", "normal,build");
    for absent in ["tokio", "socket2", "getrandom", "mio", "libc-net"] {
        assert!(!names(&tree).contains(absent), "{absent}");
    }
}

/// They are rivals of the ring in `benches`. tokio's channels carry requests, never notifications.
#[test]
fn no_crate_of_queues_is_linked() {
    let tree = tree("tokio,saslprep,testing", "normal,build");
    for queue in QUEUES {
        assert!(!names(&tree).contains(queue), "{queue}");
    }
}

#[test]
fn no_other_driver_is_linked_not_even_for_tests() {
    let tree = tree("tokio,saslprep,testing", "normal,build,dev");
    for driver in DRIVERS {
        assert!(!names(&tree).contains(driver), "{driver}");
    }
}

/// The strings of a list in `deny.toml`.
fn listed(list: &str) -> Vec<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let (_, rest) = text.split_once(&format!("\n{list} = [")).unwrap();
    let (inside, _) = rest
        .split_once("\n]")
        .filter(|(inside, _)| inside.starts_with('\n'))
        .unwrap_or_else(|| rest.split_once("]\n").unwrap());
    inside.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `scripts/deny.sh` runs cargo-deny, which checks more.
#[test]
fn deny_toml_allows_every_licence() {
    let allowed = listed("allow");
    assert!(allowed.contains(&"MIT".to_owned()), "{allowed:?}");
    let all = "tokio,saslprep,tls-ring,tls-aws-lc-rs,tracing,metrics,json,testing";
    let dependencies = lines(all, "normal,build", "{p}|{l}");
    assert!(dependencies.len() > 40, "{}", dependencies.len());
    for line in dependencies {
        let (package, licence) = line.split_once('|').unwrap();
        let licence = Expression::parse_mode(licence, ParseMode::LAX).unwrap();
        let is_allowed = licence.evaluate(|wanted| allowed.contains(&wanted.to_string()));
        assert!(is_allowed, "{package}: {licence}");
    }
}

#[test]
fn no_crate_that_deny_toml_denies_is_linked() {
    let denied = listed("deny");
    assert!(denied.contains(&"sqlx".to_owned()), "{denied:?}");
    let tree = tree(
        "tokio,saslprep,tls-ring,tls-aws-lc-rs,tracing,metrics,json,testing",
        "normal,build,dev",
    );
    let names = names(&tree);
    assert!(denied.iter().all(|denied| !names.contains(&**denied)), "{denied:?}");
}

#[test]
fn no_dependency_comes_from_a_repository_or_another_registry() {
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let sources: BTreeSet<&str> =
        lock.lines().filter(|line| line.starts_with("source = ")).collect();
    assert!(
        sources.len() == 1 && sources.iter().all(|one| one.contains("\"registry+")),
        "{sources:?}"
    );
}

/// The code of the tests, the simulator and the models is only for this repository.
#[test]
fn the_published_package_has_no_test_code() {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--locked", "--offline", "-p", "pgbell", "--list", "--allow-dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(list.lines().any(|file| file == "src/lib.rs"), "{list}");
    let is_test = |file: &&str| {
        ["/tests/", "/tests.rs", "/simulator/", "/loom", "/catalogue/"]
            .iter()
            .any(|part| file.contains(part))
    };
    let found: Vec<&str> = list.lines().filter(is_test).collect();
    assert!(found.is_empty(), "{found:?}");
}
