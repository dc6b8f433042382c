//! A password that programs can treat in two ways.

use pgbell::Config;
use pgbell::proto::auth::saslprep::prepare;

use crate::doctor::finding::{Finding, Severity};

const CHECK: &str = "password";

/// Nothing of the password is in the finding.
pub(in crate::doctor) fn check(config: &Config) -> Vec<Finding> {
    let environment = |name: &str| std::env::var(name).ok();
    let Ok(config) = config.clone().with_environment(environment) else { return Vec::new() };
    let Some(password) = config.get_password() else {
        return vec![Finding::ok(CHECK, "none in the connection string")];
    };
    let is_changed = prepare(password).is_ok_and(|prepared| *prepared != *password);
    if !is_changed {
        return vec![Finding::ok(CHECK, "the same for all programs")];
    }
    let summary =
        "SASLprep changes the password: it has characters with several forms, or that do not count";
    vec![
        Finding::new(CHECK, Severity::Note, summary)
            .because("programs that do not implement SASLprep compute another key, and cannot log in with SCRAM")
            .cure("use a password of ASCII"),
    ]
}
