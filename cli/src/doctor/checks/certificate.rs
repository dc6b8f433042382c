//! The certificates of the server: names, chain, expiry.

use std::time::{Duration, SystemTime};

use der::Decode as _;
use pgbell::Config;
use x509_cert::Certificate;

use crate::doctor::args::AllLimits;
use crate::doctor::client::Client;
use crate::doctor::finding::{Finding, Severity};
use crate::numbers::age;

const CHECK: &str = "certificate";

pub(in crate::doctor) fn check(
    config: &Config,
    client: &mut Client,
    limits: &AllLimits,
) -> Vec<Finding> {
    let chain = client.connection().peer_certificates();
    if chain.is_empty() {
        return vec![Finding::ok(CHECK, "the connection has no TLS, and so no certificate")];
    }
    let now = SystemTime::now();
    let (mut findings, mut shortest) = (Vec::new(), None::<Duration>);
    for (index, bytes) in chain.iter().enumerate() {
        let Ok(Certificate { tbs_certificate: certificate, .. }) = Certificate::from_der(bytes)
        else {
            let summary = "a certificate of the server cannot be parsed";
            findings.push(Finding::new(CHECK, Severity::Unknown, summary));
            continue;
        };
        let place = if index == 0 {
            "the certificate of the server"
        } else {
            "a certificate of its authority"
        };
        let name = format!("{place}, {}", certificate.subject);
        let validity = certificate.validity;
        if validity.not_before.to_system_time() > now {
            findings.push(Finding::new(
                CHECK,
                Severity::Critical,
                format!("{name}, is not valid yet"),
            ));
        }
        let left = validity.not_after.to_system_time().duration_since(now).unwrap_or_default();
        shortest = Some(shortest.map_or(left, |shortest| shortest.min(left)));
        let severity = limits.certificate.severity_below(left);
        if severity > Severity::Ok {
            let until = match left.is_zero() {
                true => "has expired".to_owned(),
                false => format!("expires in {}", age(left)),
            };
            findings.push(
                Finding::new(CHECK, severity, format!("{name}, {until}"))
                    .because("clients that verify it cannot connect after that")
                    .cure("install a new one, and SELECT pg_reload_conf(): sessions stay"),
            );
        }
    }
    if !is_verified(config) {
        findings.push(
            Finding::new(CHECK, Severity::Note, "the certificate of the server is not verified")
                .because("a program in between could be taken for the server")
                .cure("sslmode=verify-full, and sslrootcert"),
        );
    }
    if findings.is_empty() {
        let summary = format!("valid for {}, and verified", age(shortest.unwrap_or_default()));
        findings.push(Finding::ok(CHECK, summary));
    }
    if let (Some(first), Some(left)) = (findings.first_mut(), shortest) {
        *first = first.clone().metric_with_limits(
            "certificate_validity_seconds",
            left.as_secs_f64().floor(),
            limits.certificate.seconds(),
        );
    }
    findings
}

/// Returns whether the library has verified the certificate.
fn is_verified(config: &Config) -> bool {
    let environment = |name: &str| std::env::var(name).ok();
    let Ok(config) = config.clone().with_environment(environment) else { return false };
    match config.get("sslmode") {
        Some(mode) => mode.starts_with("verify-"),
        // The authorities of the system imply verify-full.
        None => config.get("sslrootcert") == Some("system"),
    }
}
