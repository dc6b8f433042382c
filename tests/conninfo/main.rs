//! Connection strings: what is read from them, what is refused, and that no password is shown.

mod differential;
mod grammar;
#[expect(dead_code, reason = "what it resolves is compared where that is done")]
mod libpq;
mod parameters;
mod random;
mod secrets;
mod security;
mod sources;
mod texts;

use pgbell::Config;

/// Texts, the pairs they stand for, and the password.
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

/// Texts and the errors they meet.
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
