//! Versions of the server with known faults of LISTEN.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Severity};

const CHECK: &str = "version";

/// The first releases, by major version, in which LISTEN reads the queue beside transactions whose states were removed.
const FIXED: [u32; 5] = [140_021, 150_016, 160_012, 170_008, 180_002];

pub(in crate::doctor) fn check(facts: &Facts) -> Vec<Finding> {
    let major = facts.major();
    let fixed = FIXED.into_iter().find(|fixed| fixed / 10_000 == major);
    let has_fault = major < 14 || fixed.is_some_and(|fixed| facts.version < fixed);
    let name = &facts.version_text;
    let finding = if has_fault {
        let cure = match fixed {
            Some(fixed) => format!("update to {major}.{} or later", fixed % 10_000),
            None => "upgrade: this major version gets no fixes any more".to_owned(),
        };
        Finding::new(CHECK, Severity::Note, format!("PostgreSQL {name} has a known fault of LISTEN"))
            .because("after VACUUM FREEZE, LISTEN can fail with \"could not access status of transaction\", and notifications that cannot be read are dropped with an error. SELECT pg_notification_queue_usage() helps against the first one")
            .cure(cure)
    } else {
        Finding::ok(CHECK, format!("PostgreSQL {name} has no known fault of LISTEN"))
    };
    vec![finding.metric("server_version", f64::from(facts.version))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_before_the_fix_are_named() {
        for (version, has_fault) in [
            (130_023, true),
            (140_020, true),
            (140_021, false),
            (170_007, true),
            (180_001, true),
            (180_002, false),
            (190_000, false),
        ] {
            let facts =
                Facts { version, version_text: "x".to_owned(), is_standby: false, sees_all: true };
            let is_note = check(&facts)[0].severity == Severity::Note;
            assert_eq!(is_note, has_fault, "{version}");
        }
    }
}
