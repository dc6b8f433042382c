//! Connection strings: which ones are accepted and refused, and that no output shows a password.

mod differential;
mod grammar;
#[expect(dead_code, reason = "the tests of `net` compare what it resolves")]
mod libpq;
mod parameters;
mod random;
mod secrets;
mod security;
mod sources;
mod texts;

use pgbell::Config;

/// Checks texts, the pairs that they contain, and the password.
fn accept(cases: &[(&str, &str, Option<&str>)]) {
    for (text, pairs, password) in cases {
        let config: Config = match text.parse() {
            Ok(config) => config,
            Err(error) => panic!("{text:?}: {error}"),
        };
        assert_eq!(config.to_string(), *pairs, "{text:?}");
        assert_eq!(config.get_password(), password.map(str::as_bytes), "{text:?}");
    }
}

/// Checks that texts are refused, and the errors.
fn refuse(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        match text.parse::<Config>() {
            Ok(config) => panic!("{text:?}: {config:?}"),
            Err(error) => assert_eq!(error.to_string(), *expected, "{text:?}"),
        }
    }
}

fn parse(text: &str) -> Config {
    text.parse().unwrap()
}
