//! Finds libpq, and the versions of the drivers for the head of the tables.

use std::path::Path;
use std::process::{Command, exit};

/// The packages of the lock file whose versions are shown.
const PEERS: [&str; 7] = [
    "pgbell",
    "postgres-protocol",
    "rustls",
    "sqlx",
    "tokio",
    "tokio-postgres",
    "tokio-postgres-rustls",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    link_libpq();
    versions();
}

fn link_libpq() {
    // pkg-config prints nothing if the library is in the linker's default path.
    if let Some(flags) = output("pkg-config", &["--libs", "libpq"]) {
        for flag in flags.split_whitespace() {
            if let Some(dir) = flag.strip_prefix("-L") {
                println!("cargo::rustc-link-search=native={dir}");
            }
        }
        println!("cargo::rustc-link-lib=dylib=pq");
        return;
    }
    if let Some(dir) = output("pg_config", &["--libdir"])
        && ["libpq.so", "libpq.dylib"].iter().any(|name| Path::new(&dir).join(name).exists())
    {
        println!("cargo::rustc-link-search=native={dir}");
        println!("cargo::rustc-link-lib=dylib=pq");
        return;
    }
    println!(
        "cargo::error=peers measures libpq and does not find it: neither pkg-config nor pg_config \
         knows a libpq to link with. On Debian and Ubuntu: apt-get install libpq-dev"
    );
    exit(1);
}

fn versions() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = output(&rustc, &["--version"]).unwrap_or_else(|| "rustc, unknown".to_owned());
    println!("cargo::rustc-env=PEERS_RUSTC={rustc}");
    let lock = std::fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let version_of = |name: &str| {
        let head = format!("name = \"{name}\"\nversion = \"");
        let (_, tail) = lock.split_once(&head)?;
        tail.split_once('"').map(|(version, _)| version)
    };
    let all: Vec<String> = PEERS
        .iter()
        .map(|name| format!("{name} {}", version_of(name).unwrap_or("unknown")))
        .collect();
    println!("cargo::rustc-env=PEERS_VERSIONS={}", all.join(", "));
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
