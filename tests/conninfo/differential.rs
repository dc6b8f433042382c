//! Compares the results with libpq's own parser: they are the same for the same texts, apart from intended differences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pgbell::Config;
use pgbell::config::ConfigError;
use pgbell_testkit::Installation;

use crate::libpq::{Answer, Libpq};
use crate::texts::{KEYS, texts};

const TEXTS: usize = 24_000;

/// The first version that trims blanks around the parts of a URL, and refuses blanks inside of them.
const TRIMS: u32 = 180_000;

/// Parameters that are accepted or refused, but not stored: there is no value to compare.
const NOT_KEPT: [&str; 15] = [
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "oauth_ca_file",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "replication",
    "scram_client_key",
    "scram_server_key",
    "sslcompression",
    "sslkeylogfile",
    "sslpassword",
];

struct Case<'a> {
    text: &'a str,
    libpq: &'a Libpq,
    ours: &'a Result<Config, ConfigError>,
    theirs: &'a Answer,
}

/// An intended difference, and how it is recognized.
struct Difference {
    name: &'static str,
    /// Returns whether libpq of this version differs.
    of: fn(u32) -> bool,
    explains: fn(&Case<'_>) -> bool,
}

const ALL: fn(u32) -> bool = |_| true;

/// Reasons: N45 to N49.
const DIFFERENCES: [Difference; 15] = [
    Difference {
        name: "libpq does not have the parameter yet",
        of: ALL,
        explains: |case| case.ours.is_ok() && !case.theirs.accepted && has_unknown_key(case),
    },
    Difference {
        name: "an older libpq keeps blanks in a URL",
        of: |version| version < TRIMS,
        explains: |case| {
            is_url(case.text)
                && case.text.contains(' ')
                && (case.ours.is_ok() || refusal(case, "found white space in a URL"))
        },
    },
    Difference {
        name: "white space in a URL other than the blank",
        of: ALL,
        explains: |case| {
            is_url(case.text)
                && case.text.contains(['\t', '\n', '\u{b}', '\u{c}', '\r'])
                && refusal(case, "found white space in a URL")
        },
    },
    Difference {
        name: "an @ that may belong to a password",
        of: ALL,
        explains: |case| {
            is_url(case.text)
                && refusal(case, "found @ after the user and password")
                && at(case).starts_with('@')
        },
    },
    Difference {
        name: "an @ in a host name",
        of: ALL,
        explains: |case| {
            refusal(case, "expected a host name, found @ in it")
                && (overridden(case)
                    || case
                        .theirs
                        .text("host")
                        .split(',')
                        .any(|host| host.contains('@') && !host.starts_with(['/', '@'])))
        },
    },
    Difference {
        name: "a host that is a number, or has a mark that no host has",
        of: ALL,
        explains: |case| {
            // An older libpq keeps the blanks around it.
            let number = |host: &str| host.trim().bytes().all(|byte| byte.is_ascii_digit());
            refusal(case, "expected a host name, found ")
                && (overridden(case)
                    || case.theirs.text("host").split(',').any(|host| {
                        host.contains([':', ';', '=', '&']) || (!host.is_empty() && number(host))
                    }))
        },
    },
    Difference {
        name: "pairs that are separated by other marks than blanks",
        of: ALL,
        explains: |case| {
            !is_url(case.text)
                && refusal(case, "pairs are separated by blanks")
                && at(case).contains([';', ',', '&'])
        },
    },
    Difference {
        name: "the next parameter read as a value",
        of: ALL,
        explains: |case| {
            !is_url(case.text)
                && refusal(case, "the value is missing before the next key")
                && at(case).starts_with([' ', '\t', '\n', '\u{b}', '\r'])
                && at(case).contains('=')
        },
    },
    Difference {
        name: "a connection string inside a value",
        of: ALL,
        explains: |case| {
            let nested = |value: &[u8]| {
                let value = String::from_utf8_lossy(value).to_lowercase();
                value.contains("postgres://")
                    || value.contains("postgresql://")
                    || value.contains("password")
            };
            refusal(case, "found a whole connection string inside one value")
                && (overridden(case) || case.theirs.values.values().any(|value| nested(value)))
        },
    },
    Difference {
        name: "bytes that are not UTF-8",
        of: ALL,
        explains: |case| {
            refusal(case, "expected UTF-8")
                && (overridden(case) || std::str::from_utf8(&value(case)).is_err())
        },
    },
    Difference {
        name: "a value of the wrong kind, found when it is read",
        of: ALL,
        // The value alone is refused, so it is not a difference of the grammar.
        explains: |case| {
            refused(case).and_then(|error| error.key()).is_some_and(|key| {
                let value = value(case);
                case.theirs.values.contains_key(key)
                    && std::str::from_utf8(&value)
                        .map_or(true, |value| Config::new().set(key, value).is_err())
            })
        },
    },
    Difference {
        name: "a value of the wrong kind that a later one replaces",
        of: ALL,
        explains: |case| {
            refused(case).is_some_and(|error| error.position().is_some()) && overridden(case)
        },
    },
    Difference {
        name: "lists that do not match, found when they are read",
        of: ALL,
        explains: |case| {
            let count = |key| match case.theirs.text(key).as_str() {
                "" => 0,
                list => list.split(',').count(),
            };
            let (hosts, addresses, ports) = (count("host"), count("hostaddr"), count("port"));
            (refusal(case, "addresses for") && hosts != addresses)
                || (refusal(case, "ports for") && ports != hosts.max(addresses))
        },
    },
    Difference {
        name: "parameters that contradict each other, found when they are read",
        of: ALL,
        explains: |case| {
            refused(case).is_some_and(|error| error.position().is_none())
                && again(case).is_some_and(|again| Some(&again) == refused(case))
        },
    },
    Difference {
        name: "libpq 13 has parameters that were removed",
        of: |v| v < 140_000,
        explains: |case| {
            refusal(case, "this key is not known")
                && !at(case).is_empty()
                && case.theirs.values.keys().any(|key| ["authtype", "tty"].contains(&key.as_str()))
        },
    },
];

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn refused<'a>(case: &Case<'a>) -> Option<&'a ConfigError> {
    case.ours.as_ref().err()
}

/// Returns whether pgbell refuses a text that libpq accepts, with an error that contains `words`.
fn refusal(case: &Case<'_>, words: &str) -> bool {
    case.theirs.accepted && refused(case).is_some_and(|error| error.to_string().contains(words))
}

/// The text from the position of pgbell's error.
fn at<'a>(case: &Case<'a>) -> &'a str {
    refused(case).and_then(|error| case.text.get(error.position()?..)).unwrap_or_default()
}

/// libpq's value of the parameter that pgbell refuses.
fn value(case: &Case<'_>) -> Vec<u8> {
    let key = refused(case).and_then(ConfigError::key).unwrap_or_default();
    case.theirs.values.get(key).cloned().unwrap_or_default()
}

/// Returns whether the refused parameter is given again behind that position.
fn overridden(case: &Case<'_>) -> bool {
    let Some(key) = refused(case).and_then(ConfigError::key) else { return false };
    let rest = decoded(at(case));
    let names: &[&str] = match key {
        "sslmode" => &["sslmode", "requiressl", "ssl"],
        key => &[key],
    };
    names.iter().any(|name| {
        rest.match_indices(name)
            .any(|(at, name)| rest[at + name.len()..].trim_start().starts_with('='))
    })
}

/// Decodes the percent-codes of ASCII characters, if they are valid.
fn decoded(text: &str) -> String {
    let mut text = text.to_owned();
    for byte in b' '..=b'~' {
        let c = char::from(byte).to_string();
        text = text.replace(&format!("%{byte:02x}"), &c).replace(&format!("%{byte:02X}"), &c);
    }
    text
}

/// pgbell's error for libpq's values, set one by one, without the text around them.
fn again(case: &Case<'_>) -> Option<ConfigError> {
    let mut config = Config::new();
    for (key, value) in &case.theirs.values {
        let value = std::str::from_utf8(value).ok()?;
        match config.clone().set(key, value) {
            Ok(with) => config = with,
            Err(error) => return Some(error),
        }
    }
    config.check().err()
}

/// Returns whether pgbell accepts a parameter that this libpq does not have.
fn has_unknown_key(case: &Case<'_>) -> bool {
    let (Ok(config), text) = (case.ours, decoded(case.text)) else { return false };
    let unknown = |key: &&&str| !case.libpq.keys.contains(**key);
    KEYS.iter().filter(unknown).any(|key| config.is_set(key))
        || NOT_KEPT.iter().filter(unknown).any(|key| text.contains(key))
}

/// The differences between two results of a text that both accept.
fn unequal(ours: &Config, theirs: &Answer) -> Vec<String> {
    let mut keys: BTreeSet<&str> = theirs.values.keys().map(String::as_str).collect();
    keys.extend(KEYS.iter().filter(|key| ours.is_set(key)));
    keys.retain(|key| !NOT_KEPT.contains(key));
    let mut unequal = Vec::new();
    for key in keys {
        let theirs = theirs.values.get(key);
        let found = match key {
            "password" => ours.get_password().map(<[u8]>::to_vec),
            key => ours.get(key).map(|text| text.as_bytes().to_vec()),
        };
        let found = found.or_else(|| ours.is_set(key).then(Vec::new));
        if found.as_ref() != theirs {
            unequal.push(format!("{key}: {found:?}, libpq {theirs:?}"));
        }
    }
    unequal
}

/// Compares the results of all texts. Every difference must be an intended one, and every intended one must occur.
fn compare(libpq: &Libpq, texts: &[String], ours: &[Result<Config, ConfigError>]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let (mut both, mut neither) = (0, 0);
    for ((text, ours), theirs) in texts.iter().zip(ours).zip(&libpq.parse(texts)) {
        let case = Case { text, libpq, ours, theirs };
        let same = match ours {
            Ok(config) => theirs.accepted && unequal(config, theirs).is_empty(),
            Err(_) => !theirs.accepted,
        };
        if same {
            *(if theirs.accepted { &mut both } else { &mut neither }) += 1;
            continue;
        }
        match DIFFERENCES.iter().find(|one| (one.of)(libpq.version) && (one.explains)(&case)) {
            Some(difference) => *counts.entry(difference.name).or_default() += 1,
            None => wrong.push(format!(
                "{text:?}\n    pgbell: {ours:?}\n    libpq: {}{:?}",
                if theirs.accepted { "" } else { "refused" },
                ours.as_ref().map(|config| unequal(config, theirs)),
            )),
        }
    }
    #[allow(clippy::print_stdout, reason = "the result of the comparison")]
    let () = println!(
        "libpq {}: {both} read the same, {neither} refused by both, intended: {counts:#?}",
        libpq.version
    );
    let first = &wrong[..wrong.len().min(20)];
    assert!(
        wrong.is_empty(),
        "{} differences with {}:\n{}",
        wrong.len(),
        libpq.version,
        first.join("\n")
    );
    // The texts must contain enough of each kind.
    assert!(both > texts.len() / 5 && neither > texts.len() / 20);
    for difference in DIFFERENCES.iter().filter(|one| (one.of)(libpq.version)) {
        assert!(counts.contains_key(difference.name), "no text shows: {}", difference.name);
    }
}

fn read(texts: &[String]) -> Vec<Result<Config, ConfigError>> {
    texts.iter().map(|text| text.parse()).collect()
}

#[test]
fn the_installed_libpq_parses_the_same() {
    let texts = texts(1, TEXTS);
    compare(&Libpq::installed(), &texts, &read(&texts));
}

#[test]
fn matrix_every_libpq_parses_the_same() {
    let texts = texts(2, TEXTS);
    let ours = read(&texts);
    for installation in Installation::matrix().unwrap() {
        compare(&Libpq::at(library(&installation)), &texts, &ours);
    }
}

fn library(installation: &Installation) -> PathBuf {
    installation.bin().with_file_name("lib").join("libpq.so.5")
}
