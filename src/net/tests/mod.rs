//! Tests of configurations from all sources, and of passwords, compared with libpq.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::future::ready;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pgbell_testkit::Installation;

use super::environment::resolve_in;
use super::now;
use crate::config::Config;
use crate::error::Error;
use libpq::{Answer, Libpq};
use random::Random;

mod hang;
mod location;
mod passfile;
mod password;
mod resolve;
mod service;

#[path = "../../../tests/conninfo/libpq.rs"]
#[expect(dead_code, reason = "a part of it is used by other tests only")]
mod libpq;
#[path = "../../../tests/conninfo/random.rs"]
mod random;
#[path = "../../../tests/conninfo/texts.rs"]
#[expect(dead_code, reason = "its values are used here, its texts are not")]
mod texts;

/// A port on which no server listens: it is reserved for `tcpmux`.
const CLOSED_PORT: &str = "1";

/// All variables of a process, or the parameters of one source.
type Variables = BTreeMap<String, String>;

async fn resolve(text: &str, variables: &Variables) -> Result<Config, Error> {
    resolve_config(text.parse()?, variables).await
}

/// Resolves a configuration in a process whose account has no name.
async fn resolve_config(config: Config, variables: &Variables) -> Result<Config, Error> {
    let variable = |name: &str| variables.get(name).map(OsString::from);
    resolve_in(config, now(), variable, || ready(None)).await
}

/// A connection string and an environment to resolve.
struct ResolveCase {
    text: String,
    variables: Variables,
}

impl ResolveCase {
    fn request(&self) -> (String, Vec<String>) {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={value}"));
        (self.text.clone(), variables.collect())
    }
}

/// Returns random parameters, most of them with a valid value.
fn parameters(random: &mut Random, libpq: &Libpq, without: &[&str], most: usize) -> Variables {
    let mut parameters = Variables::new();
    for _ in 0..random.below(most + 1) {
        let key = random.pick(texts::KEYS);
        // Its values were extended in 14.
        let old = *key == *"target_session_attrs" && libpq.version < 140_000;
        if libpq.keys.contains(key) && !without.contains(&key) && !old {
            let value = match (*key == *"user", texts::value_of(random, key)) {
                // Otherwise the user would be the account of the process.
                (true, "") => "eve",
                (_, value) => value,
            };
            parameters.insert(key.to_owned(), value.to_owned());
        }
    }
    parameters
}

/// Returns a connection string.
fn pairs(parameters: &Variables) -> String {
    let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
    parameters.iter().map(|(key, value)| format!("{key}='{}' ", quoted(value))).collect()
}

/// Returns the environment variables of the parameters that have one. Empty values are left out: pgbell ignores them.
fn environment(parameters: &Variables, libpq: &Libpq) -> Variables {
    let variable = |(key, value): (&String, &String)| {
        (!value.is_empty()).then_some((libpq.variables.get(key)?.clone(), value.clone()))
    };
    parameters.iter().filter_map(variable).collect()
}

/// Parts of the errors for values that pgbell refuses and libpq accepts, or checks only later.
// N45 to N49.
const STRICTER: [&str; 12] = [
    "channel_binding: require needs TLS",
    "this version supports only TLSv1.2, TLSv1.3",
    "this version supports only disable, prefer",
    "this version supports only 0",
    "this version supports only false, off, no, 0",
    "expected an IP address",
    "expected a host name, found ",
    "found a whole connection string inside one value",
    "expected one of 0, 1",
    "expected a number of seconds",
    "expected a whole number of 32 bits",
    "the client encoding is always UTF8",
];

/// The first version in which `sslrootcert=system` is not the name of a file.
const SYSTEM: u32 = 160_000;

/// Parameters that are accepted or refused, but not stored: there is no value to compare.
const NOT_KEPT: [&str; 7] = [
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "replication",
    "sslcompression",
    "sslpassword",
];

/// Checks that both refuse (`Ok(false)`), or both return the same configuration (`Ok(true)`).
fn compare(
    ours: Result<Config, Error>,
    theirs: &Answer,
    libpq: &Libpq,
    defaults: &Answer,
) -> Result<bool, String> {
    let before_system = libpq.version < SYSTEM;
    let config = match ours.map_err(|error| error.to_string()) {
        Err(_) if !theirs.accepted => return Ok(false),
        Err(error) if STRICTER.iter().any(|words| error.contains(words)) => return Ok(false),
        Err(error) if before_system && error.contains("sslrootcert=system needs") => {
            return Ok(false);
        }
        Err(error) => return Err(format!("we refuse: {error}")),
        Ok(config) if theirs.accepted => config,
        Ok(_) => return Err(format!("libpq refuses: {}", theirs.text("error"))),
    };
    for key in texts::KEYS.iter().filter(|key| !NOT_KEPT.contains(key)) {
        // libpq does not return these two.
        if ["service", "servicefile"].contains(key) {
            continue;
        }
        let theirs = theirs.text(key);
        let ours = match *key {
            "password" => {
                config.get_password().map(|text| String::from_utf8_lossy(text).into_owned())
            }
            "sslmode" if before_system && config.get_ssl_root_cert() == Some("system") => continue,
            // libpq returns the encoding of the locale.
            "client_encoding" if config.get(key) == Some("auto") => continue,
            "sslmode" => config.get_ssl_mode().map(|mode| mode.to_string()),
            key => config.get(key).map(ToOwned::to_owned),
        };
        let default = match *key {
            "dbname" => config.get_user().unwrap_or_default().to_owned(),
            key if config.is_set(key) => String::new(),
            // libpq returns its default path.
            "passfile" => continue,
            key => defaults.text(key),
        };
        let ours = ours.unwrap_or(default);
        if ours != theirs {
            return Err(format!("{key} is {ours:?}, for libpq {theirs:?}"));
        }
    }
    Ok(true)
}

/// The libraries to compare with: the installed one, or each of the matrix.
fn installed() -> Vec<Libpq> {
    vec![Libpq::installed()]
}

fn matrix() -> Vec<Libpq> {
    let library = |one: &Installation| one.bin().with_file_name("lib").join("libpq.so.5");
    Installation::matrix().unwrap().iter().map(|one| Libpq::at(library(one))).collect()
}

/// Compares all cases. At least `same` of them must be accepted by both.
async fn compare_all(libpq: &Libpq, cases: &[ResolveCase], files: bool, same: usize) {
    let requests: Vec<_> = cases.iter().map(ResolveCase::request).collect();
    let unset = [(String::new(), vec!["PGUSER=ann".to_owned()])];
    let defaults = libpq.start(&unset, false).remove(0);
    let mut agreed = 0;
    let mut wrong = Vec::new();
    for (case, theirs) in cases.iter().zip(libpq.start(&requests, files)) {
        let ours = resolve(&case.text, &case.variables).await;
        match compare(ours, &theirs, libpq, &defaults) {
            Ok(resolved) => agreed += usize::from(resolved),
            Err(error) => wrong.push(format!("{} {:?}\n    {error}", case.text, case.variables)),
        }
    }
    let first = &wrong[..wrong.len().min(20)];
    assert!(
        wrong.is_empty(),
        "{} differ from {}:\n{}",
        wrong.len(),
        libpq.version,
        first.join("\n")
    );
    assert!(agreed >= same, "only {agreed} of {} are resolved to the same", cases.len());
}

/// A directory that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgbell-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file with this mode.
    fn file(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> String {
        let path = self.path(name);
        fs::create_dir_all(PathBuf::from(&path).parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
