//! The messages and hints of TLS errors.
//!
//! No text of a certificate is shown before it was verified: it could come from an attacker between client and server.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription as Alert, PeerIncompatible};

use super::authorities::NonSigner;
use super::certificate::Certificate;
use super::fault::{AlertName, Fault};
use super::handshake::{HANDSHAKE_BYTES_MAX, HandshakeFailure};
use super::handshake_info::HandshakeInfo;
use super::key::Key;
use super::refusal::{Flaw, Refusal};
use super::roots::Origin;
use super::verifier::Check;
use crate::error::{Error, ErrorKind};

/// The largest number of a certificate's hosts in a message.
const HOSTS_MAX: usize = 5;

/// The largest number of characters of a host in a message.
const HOST_CHARS_MAX: usize = 100;

/// A part of the names of Amazon's authorities, which the lists of systems and browsers do not contain.
const AMAZON_RDS: &[u8] = b"Amazon RDS";

/// The certificates of a server.
pub(super) struct Shown<'a> {
    pub(super) certificate: &'a CertificateDer<'a>,
    /// The certificates that it sent in addition to its own.
    pub(super) intermediates: &'a [CertificateDer<'a>],
}

fn tls(message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Tls, message).with_hint(hint)
}

/// Returns the error for a server's certificate that is refused.
#[cold]
pub(super) fn refused(refusal: &Refusal, check: &Check, shown: &Shown<'_>) -> Error {
    match refusal {
        Refusal::Chain(error) => of_chain(error, check, shown),
        Refusal::Flaw(flaw) => of_flaw(*flaw, check),
    }
}

/// Returns the error for a failed check that webpki does not make.
fn of_flaw(flaw: Flaw, check: &Check) -> Error {
    let origin = origin(check);
    match flaw {
        Flaw::AuthorityExpired { days } => tls(
            format!(
                "the authority that vouches for the server's certificate expired {days} days ago"
            ),
            format!(
                "put its new certificate into {origin}; or is the clock of this machine wrong?"
            ),
        ),
        Flaw::AuthorityNotYetValid { days } => tls(
            format!(
                "the authority that vouches for the server's certificate becomes valid in {days} days only"
            ),
            "is the clock of this machine, or of the one that made it, wrong?",
        ),
        Flaw::AuthorityRevoked => tls(
            "the authority that vouches for the server's certificate is revoked",
            format!("a list of revoked certificates contains it: remove it from {origin}"),
        ),
        Flaw::AuthorityNotForServers => tls(
            "the authority that vouches for the server's certificate is not for servers (its \
             extendedKeyUsage lacks serverAuth)",
            "issue its certificate again with extendedKeyUsage=serverAuth, or without that extension",
        ),
        Flaw::UnknownExtension => tls(
            "the authority that vouches for the server's certificate has a critical extension that is not \
             known here",
            "issue its certificate again without that extension, or not as a critical one",
        ),
        Flaw::PathTooLong => tls(
            "there are more intermediate certificates than the authority above them allows (pathlen of \
             basicConstraints)",
            "issue the authority's certificate again with a larger pathlen, or the server's by an authority \
             closer to it",
        ),
        Flaw::IntermediateMayNotSign => tls(
            "a certificate above the server's may not sign others (its keyUsage lacks keyCertSign)",
            "issue the intermediate certificate again with keyUsage=keyCertSign,cRLSign",
        ),
        Flaw::ServerMayNotUseTls => tls(
            "the server's certificate is not for TLS (its keyUsage has neither digitalSignature nor \
             keyEncipherment nor keyAgreement)",
            "issue it again with keyUsage=digitalSignature,keyEncipherment, or without that extension",
        ),
        Flaw::ServerNotForServers => not_for_servers(),
        Flaw::ServerKey(key) => unsupported_key("the server's certificate", key),
        Flaw::AuthorityKey(key) => {
            unsupported_key("the certificate of an authority above the server's", key)
        }
        Flaw::Unreadable => tls(
            "an extension of the server's certificate, or of one above it, is malformed",
            "issue it again",
        ),
    }
}

fn unsupported_key(certificate: &str, key: Key) -> Error {
    let hint = match key {
        Key::Rsa { .. } => "make a new key, of 2,048 to 8,192 bits, and a new certificate",
        Key::RsaPss => {
            "make the certificate again with a plain RSA key (openssl genpkey -algorithm RSA): TLS uses PSS with \
             those too"
        }
        Key::P521 => {
            "make a new key and certificate, ECDSA on P-256 or P-384 for example; or build pgbell with the feature \
             tls-aws-lc-rs and without tls-ring"
        }
        _ => "make a new key and certificate, ECDSA on P-256 or P-384 for example",
    };
    tls(format!("{certificate} has {key}, which is not supported"), hint)
}

fn not_for_servers() -> Error {
    tls(
        "the server's certificate is not for servers (its extendedKeyUsage lacks serverAuth)",
        "issue it again with extendedKeyUsage=serverAuth, or without that extension",
    )
}

/// Returns the error for one of webpki.
fn of_chain(error: &webpki::Error, check: &Check, shown: &Shown<'_>) -> Error {
    use webpki::Error as E;
    let parsed = Certificate::parse(shown.certificate);
    match error {
        E::UnknownIssuer => unknown_issuer(check, shown, parsed.as_ref()),
        E::CertNotValidForName(_) => wrong_host(check, parsed.as_ref()),
        E::CertExpired { not_after, .. } => {
            let seconds = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            let own = parsed.is_some_and(|parsed| parsed.not_after == seconds);
            let which =
                if own { "the server's certificate" } else { "a certificate above the server's" };
            tls(
                format!("{which} expired {} days ago", days_before(error)),
                "renew it, and have the server read it again (pg_ctl reload); or is the clock of this \
                 machine wrong?",
            )
        }
        E::CertNotValidYet { .. } => tls(
            format!(
                "the server's certificate, or one above it, becomes valid in {} days only",
                days_before(error)
            ),
            "is the clock of this machine, or of the one that made it, wrong?",
        ),
        E::CaUsedAsEndEntity => tls(
            "the server sends the certificate of an authority as its own",
            "openssl req -x509 makes such a certificate (CA:TRUE): copy exactly that file from the server \
             into sslrootcert, and it is accepted, and with it every certificate that its key signs; or let the \
             authority issue one for the server",
        ),
        E::EndEntityUsedAsCa => tls(
            "a certificate above the server's is not that of an authority (no basicConstraints CA:TRUE)",
            "issue the intermediate certificate again, as that of an authority",
        ),
        E::UnsupportedCertVersion => tls(
            "the server's certificate is of version 1, which cannot contain hosts and purposes",
            "openssl x509 -req makes such certificates: give it -extfile with a line subjectAltName=DNS:HOST",
        ),
        E::RequiredEkuNotFoundContext(_) => not_for_servers(),
        E::CertRevoked => tls(
            "the server's certificate, or one above it, is revoked",
            "the server needs a new certificate",
        ),
        E::UnknownRevocationStatus => tls(
            "no list of revoked certificates is from an authority that vouches for the server",
            "sslcrl, sslcrldir or root.crl must contain a list of each authority of the chain",
        ),
        E::CrlExpired { .. } => tls(
            "a list of revoked certificates is too old",
            "get a new one of that authority for sslcrl, sslcrldir or root.crl",
        ),
        E::InvalidSignatureForPublicKey => tls(
            "a signature on the server's certificate, or on one above it, is not the authority's",
            "is there an older authority of the same name in sslrootcert? Copy the file again",
        ),
        E::InvalidCrlSignatureForPublicKey | E::IssuerNotCrlSigner => tls(
            "a list of revoked certificates is not signed by its authority",
            "get the list for sslcrl, sslcrldir or root.crl again",
        ),
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => tls(
            "the server's certificate, or one above it, is signed in a way that is not accepted",
            "SHA-1, RSA keys below 2048 bits and rare curves are not: issue it again with SHA-256",
        ),
        other => {
            Error::caused(ErrorKind::Tls, "the server's certificate is not accepted", other.clone())
        }
    }
}

fn days_before(error: &webpki::Error) -> u64 {
    let seconds = match error {
        webpki::Error::CertExpired { time, not_after } => {
            time.as_secs().saturating_sub(not_after.as_secs())
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            not_before.as_secs().saturating_sub(time.as_secs())
        }
        _ => 0,
    };
    seconds.div_ceil(86_400)
}

/// Returns where the authorities come from.
fn origin(check: &Check) -> String {
    match check {
        Check::Nothing => String::new(),
        Check::Chain(trust) | Check::Host(trust, _) => trust.origin.to_string(),
    }
}

fn unknown_issuer(check: &Check, shown: &Shown<'_>, parsed: Option<&Certificate<'_>>) -> Error {
    let trust = match check {
        Check::Nothing => None,
        Check::Chain(trust) | Check::Host(trust, _) => Some(trust),
    };
    let is_system = trust.is_some_and(|trust| trust.origin == Origin::System);
    let self_issued = parsed.is_some_and(Certificate::is_self_issued);
    let of_amazon = parsed.is_some_and(|parsed| {
        parsed.issuer.windows(AMAZON_RDS.len()).any(|part| part == AMAZON_RDS)
    });
    // The name is not verified, and is used only for the hint.
    let sent = shown.intermediates.iter().filter_map(|certificate| Certificate::parse(certificate));
    let issuers =
        parsed.map(|parsed| parsed.issuer).into_iter().chain(sent.map(|sent| sent.issuer));
    let other = trust.and_then(|trust| {
        issuers.into_iter().find_map(|issuer| trust.authorities.non_signer(issuer))
    });
    let origin = origin(check);
    let message = if self_issued {
        format!("the server's certificate is signed by itself, and it is not in {origin}")
    } else {
        format!("no authority in {origin} vouches for the server's certificate")
    };
    let hint: Cow<'static, str> = if let (Some(other), false) = (other, self_issued) {
        format!(
            "{origin} has a certificate with the name of the issuer, but {}",
            non_signer_hint(other)
        )
        .into()
    } else if of_amazon {
        "Amazon RDS has its own authorities: download \
         https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem and name it with sslrootcert"
            .into()
    } else if self_issued {
        "copy the certificate from the server, and name that file with sslrootcert".into()
    } else if shown.intermediates.is_empty() {
        "either sslrootcert has to name the authority that issued it (a hosted database offers the \
         file for download), or the server does not send its intermediate certificates: its \
         ssl_cert_file must contain them, after its own"
            .into()
    } else if is_system {
        "is it a private authority? Name its certificate with sslrootcert".into()
    } else {
        "name the authority that issued it with sslrootcert; a hosted database offers the file for \
         download"
            .into()
    };
    tls(message, hint)
}

/// Returns why a certificate of the file must not sign others.
fn non_signer_hint(other: NonSigner) -> &'static str {
    match other {
        NonSigner::OldVersion => {
            "it is of version 1, which cannot be that of an authority: issue it again, with the same key \
             and name, with basicConstraints=critical,CA:TRUE"
        }
        NonSigner::NotAuthority => {
            "it is not an authority (no basicConstraints CA:TRUE), and is accepted only as a server's own: issue \
             it again, with the same key and name, with basicConstraints=critical,CA:TRUE"
        }
        NonSigner::MayNotSign => {
            "it may not sign others (its keyUsage lacks keyCertSign): issue it again, with the same key and \
             name, with keyUsage=keyCertSign,cRLSign"
        }
        NonSigner::Malformed => "it is malformed in part, and cannot verify others",
    }
}

/// Returns the error for a certificate of another host. The chain was verified: its names can be shown.
fn wrong_host(check: &Check, parsed: Option<&Certificate<'_>>) -> Error {
    let host = match check {
        Check::Host(_, host) => host.to_str(),
        Check::Nothing | Check::Chain(_) => Cow::Borrowed(""),
    };
    let hosts = parsed.map(Certificate::hosts).unwrap_or_default();
    let common_name = parsed.and_then(Certificate::common_name);
    match (hosts.is_empty(), common_name) {
        (true, Some(name)) => tls(
            format!(
                "the server's certificate names a host only in its common name, which is not used: {}, \
                 and {host:?} is required",
                listed(&[name])
            ),
            "issue it with subjectAltName=DNS:HOST (libpq still uses the common name), or verify only the \
             authority: sslmode=verify-ca",
        ),
        (true, None) => tls(
            format!("the server's certificate names no host, and {host:?} is required"),
            "issue it with subjectAltName=DNS:HOST, or verify only the authority: sslmode=verify-ca",
        ),
        (false, _) => tls(
            format!("the server's certificate is for {} and not for {host:?}", listed(&hosts)),
            "connect with a name that it contains (host=NAME, and hostaddr=ADDRESS if the name has another address), \
             or issue it for this one, or verify only the authority: sslmode=verify-ca",
        ),
    }
}

/// Returns a few names, quoted.
fn listed(names: &[String]) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().take(HOSTS_MAX).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let name: String = name.chars().take(HOST_CHARS_MAX).collect();
        let _ = write!(text, "{comma}{name:?}");
    }
    if names.len() > HOSTS_MAX {
        let _ = write!(text, " and {} more", names.len() - HOSTS_MAX);
    }
    text
}

/// Returns the error for a failed handshake. It is marked as [declined](Error::declined) if the handshake ended before the
/// client checked anything: not if the client has refused what the server sent.
#[cold]
pub(super) fn failed(failure: HandshakeFailure, info: &HandshakeInfo) -> Error {
    // It is the cause of every later error.
    if let Some(refusal) = info.refusal() {
        return refusal;
    }
    match failure {
        HandshakeFailure::Io(error) => {
            broken_io("the connection broke in the TLS handshake", error).declined()
        }
        HandshakeFailure::Closed => closed(),
        HandshakeFailure::EarlyBytes => early_bytes(),
        HandshakeFailure::TooLong => Error::new(
            ErrorKind::Tls,
            format!("the server sent {HANDSHAKE_BYTES_MAX} bytes and did not complete the TLS handshake"),
        ),
        HandshakeFailure::Tls(error) => match Fault::from(error) {
            Fault::Alert(alert) => ended_by(alert, info),
            fault @ Fault::NotTls => tls(
                fault.to_string(),
                "is there a PostgreSQL server at this port? With sslnegotiation=direct it must be version 17 or \
                 later",
            )
            .declined(),
            Fault::Other(error) => not_agreed(error),
            fault => Error::new(ErrorKind::Tls, fault.to_string()),
        },
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Connect, "the server ended the connection in the TLS handshake")
        .declined()
        .with_hint(
            "the server's log has the reason; it may also be overloaded, or not be PostgreSQL",
        )
}

fn not_agreed(error: rustls::Error) -> Error {
    use rustls::Error as E;
    match error {
        E::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => too_old(),
        error => Error::caused(ErrorKind::Tls, "the TLS handshake failed", error),
    }
}

fn too_old() -> Error {
    tls(
        "server and client have no version of TLS in common",
        "pgbell supports TLS 1.2 and 1.3: check ssl_max_protocol_version of the server, and \
         ssl_min_protocol_version and ssl_max_protocol_version of the connection",
    )
}

/// Returns the error for an alert with which the server ended the connection.
fn ended_by(alert: Alert, info: &HandshakeInfo) -> Error {
    match alert {
        // The cause may be on either side.
        Alert::ProtocolVersion => return too_old(),
        Alert::CloseNotify => return closed(),
        _ => {}
    }
    let message = format!("the server ended TLS with the alert {}", AlertName(alert));
    let hint: Cow<'static, str> = match alert {
        Alert::NoApplicationProtocol => {
            "it does not support PostgreSQL's protocol over TLS (ALPN postgresql): is it another server?".into()
        }
        Alert::UnrecognisedName => {
            "it does not accept the name of the host (SNI): use the right name, or sslsni=0".into()
        }
        alert if is_about_our_certificate(alert, info) => match info.certificate_file() {
            Some(path) if info.certificate_sent() => format!(
                "it refuses the client's certificate {path:?}: was that issued by an authority in the server's \
                 ssl_ca_file, not expired, and not revoked?"
            )
            .into(),
            Some(path) => format!(
                "it requires a certificate of the client: name it with sslcert and sslkey (it was searched \
                 at {path:?})"
            )
            .into(),
            None => "it requires a certificate of the client: name it with sslcert and sslkey".into(),
        },
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "it accepts none of the client's ciphers and curves: check its ssl_ciphers and ssl_groups \
             (ssl_ecdh_curve); or its certificate has an ECDSA key on P-521 or another curve, which is not \
             supported: make one on P-256 or P-384"
                .into()
        }
        _ => "the server's log has the reason".into(),
    };
    tls(message, hint).declined()
}

fn is_about_our_certificate(alert: Alert, info: &HandshakeInfo) -> bool {
    match alert {
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::NoCertificate
        | Alert::CertificateRequired => true,
        // In TLS 1.2, a server that has received no certificate sends this alert.
        Alert::HandshakeFailure => info.certificate_requested() && !info.certificate_sent(),
        _ => false,
    }
}

/// Returns the error for an established connection that ended. In TLS 1.3 a server checks the client's certificate only
/// then.
#[cold]
pub(super) fn broken(fault: Fault, info: &HandshakeInfo) -> Error {
    // `Connect`, which is transient, unlike errors of keys and trust.
    match fault {
        Fault::Alert(alert) if is_about_our_certificate(alert, info) => ended_by(alert, info),
        Fault::Other(error) => {
            Error::caused(ErrorKind::Connect, "the server violated the protocol of TLS", error)
        }
        fault => Error::new(ErrorKind::Connect, fault.to_string()),
    }
}

/// Returns the error for bytes between the answer to SSLRequest and the handshake.
#[cold]
pub(super) fn early_bytes() -> Error {
    tls(
        "the server sent bytes in clear after its answer to the request for TLS",
        "an attacker between client and server may have sent them, so that they are taken for the server's own: \
         they were discarded",
    )
}

/// Returns the error for a socket that failed.
#[cold]
pub(super) fn broken_io(message: &'static str, error: io::Error) -> Error {
    Error::caused(ErrorKind::Connect, message, error)
}
