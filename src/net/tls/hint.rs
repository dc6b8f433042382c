//! What went wrong, and what to change: the words of TLS errors.
//!
//! Nothing of a certificate is shown before an authority has vouched for it: anybody between us and the
//! server could have written it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription as Alert, PeerIncompatible};

use super::authorities::Other;
use super::certificate::Certificate;
use super::fault::{AlertName, Fault};
use super::handshake::Failure;
use super::key::Key;
use super::refusal::{Flaw, Refusal};
use super::roots::Origin;
use super::told::Told;
use super::verifier::Check;
use crate::{Error, ErrorKind};

/// Most hosts of a certificate that are listed.
const HOSTS_MAX: usize = 5;

/// Most characters of one that are shown.
const HOST_CHARS_MAX: usize = 100;

/// What Amazon's authorities have in their names. No list of a system or browser has them.
const AMAZON_RDS: &[u8] = b"Amazon RDS";

/// What a server showed.
pub(super) struct Shown<'a> {
    pub(super) certificate: &'a CertificateDer<'a>,
    /// The certificates that it sent beside its own.
    pub(super) intermediates: &'a [CertificateDer<'a>],
}

fn tls(message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Tls, message).with_hint(hint)
}

/// Why a server's certificate is refused.
#[cold]
pub(super) fn refused(refusal: &Refusal, check: &Check, shown: &Shown<'_>) -> Error {
    match refusal {
        Refusal::Chain(error) => of_chain(error, check, shown),
        Refusal::Flaw(flaw) => of_flaw(*flaw, check),
    }
}

/// What webpki does not look at.
fn of_flaw(flaw: Flaw, check: &Check) -> Error {
    let place = place(check);
    match flaw {
        Flaw::AuthorityExpired { days } => tls(
            format!(
                "the authority that vouches for the server's certificate expired {days} days ago"
            ),
            format!("put its new certificate into {place}; or is the clock of this machine wrong?"),
        ),
        Flaw::AuthorityNotYetValid { days } => tls(
            format!(
                "the authority that vouches for the server's certificate becomes valid in {days} days only"
            ),
            "is the clock of this machine, or of the one that made it, wrong?",
        ),
        Flaw::AuthorityRevoked => tls(
            "the authority that vouches for the server's certificate is revoked",
            format!("a list of revoked certificates names it: take it out of {place}"),
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
        Flaw::TooLong => tls(
            "there are more intermediate certificates than the authority above them allows (pathlen of \
             basicConstraints)",
            "issue the authority's certificate again with a larger pathlen, or the server's by an authority \
             closer to it",
        ),
        Flaw::IntermediateMayNotSign => tls(
            "a certificate above the server's may not sign others (its keyUsage lacks keyCertSign)",
            "issue the intermediate certificate again with keyUsage=keyCertSign,cRLSign",
        ),
        Flaw::ServerMayNotSpeakTls => tls(
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
    let cure = match key {
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
    tls(format!("{certificate} has {key}, which is not supported"), cure)
}

fn not_for_servers() -> Error {
    tls(
        "the server's certificate is not for servers (its extendedKeyUsage lacks serverAuth)",
        "issue it again with extendedKeyUsage=serverAuth, or without that extension",
    )
}

/// What webpki says.
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
            "the server shows the certificate of an authority as its own",
            "openssl req -x509 makes such a certificate (CA:TRUE): copy exactly that file from the server \
             into sslrootcert, and it is accepted, and with it all that its key signs; or let the authority \
             issue one for the server",
        ),
        E::EndEntityUsedAsCa => tls(
            "a certificate above the server's is not one of an authority (no basicConstraints CA:TRUE)",
            "issue the intermediate certificate again, as that of an authority",
        ),
        E::UnsupportedCertVersion => tls(
            "the server's certificate is of version 1, in which hosts and purposes cannot be told",
            "openssl x509 -req makes those: give it -extfile with a line subjectAltName=DNS:HOST",
        ),
        E::RequiredEkuNotFoundContext(_) => not_for_servers(),
        E::CertRevoked => tls(
            "the server's certificate, or one above it, is revoked",
            "the server needs a new certificate",
        ),
        E::UnknownRevocationStatus => tls(
            "no list of revoked certificates is from an authority that vouches for the server",
            "sslcrl, sslcrldir or root.crl must hold a list of each authority of the chain",
        ),
        E::CrlExpired { .. } => tls(
            "a list of revoked certificates is too old",
            "get a new one of that authority for sslcrl, sslcrldir or root.crl",
        ),
        E::InvalidSignatureForPublicKey => tls(
            "a signature on the server's certificate, or on one above it, is not the authority's",
            "is there an older authority of the same name in sslrootcert? Copy the file anew",
        ),
        E::InvalidCrlSignatureForPublicKey | E::IssuerNotCrlSigner => tls(
            "a list of revoked certificates is not signed by its authority",
            "get the list for sslcrl, sslcrldir or root.crl anew",
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

/// Where the authorities come from.
fn place(check: &Check) -> String {
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
    // A name proves nothing, and nothing follows from it but the hint.
    let sent = shown.intermediates.iter().filter_map(|certificate| Certificate::parse(certificate));
    let issuers =
        parsed.map(|parsed| parsed.issuer).into_iter().chain(sent.map(|sent| sent.issuer));
    let other = trust
        .and_then(|trust| issuers.into_iter().find_map(|issuer| trust.authorities.other(issuer)));
    let place = place(check);
    let message = if self_issued {
        format!("the server's certificate is signed by itself, and it is not in {place}")
    } else {
        format!("no authority in {place} vouches for the server's certificate")
    };
    let hint: Cow<'static, str> = if let (Some(other), false) = (other, self_issued) {
        format!("{place} has a certificate with the name of the issuer, but {}", reason(other))
            .into()
    } else if of_amazon {
        "Amazon RDS has authorities of its own: download \
         https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem and name it with sslrootcert"
            .into()
    } else if self_issued {
        "copy the certificate from the server, and name that file with sslrootcert".into()
    } else if shown.intermediates.is_empty() {
        "either sslrootcert has to name the authority that issued it (a hosted database offers the \
         file for download), or the server does not send its intermediate certificates: its \
         ssl_cert_file must hold them, after its own"
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

/// Why a certificate of the file vouches for no other.
fn reason(other: Other) -> &'static str {
    match other {
        Other::OldVersion => {
            "it is of version 1, which cannot say that it is an authority: issue it again, with the same key \
             and name, with basicConstraints=critical,CA:TRUE"
        }
        Other::NotAuthority => {
            "it is not an authority (no basicConstraints CA:TRUE), and is known as a server's own only: issue \
             it again, with the same key and name, with basicConstraints=critical,CA:TRUE"
        }
        Other::MayNotSign => {
            "it may not sign others (its keyUsage lacks keyCertSign): issue it again, with the same key and \
             name, with keyUsage=keyCertSign,cRLSign"
        }
        Other::Malformed => "it is malformed in part, and vouches for no other",
    }
}

/// An authority has vouched for the certificate: its names can be shown.
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
                "the server's certificate names no host but in its common name, which does not count: {}, \
                 and {host:?} is wanted",
                listed(&[name])
            ),
            "issue it with subjectAltName=DNS:HOST (libpq still looks at the common name), or check the \
             authority alone: sslmode=verify-ca",
        ),
        (true, None) => tls(
            format!("the server's certificate names no host, and {host:?} is wanted"),
            "issue it with subjectAltName=DNS:HOST, or check the authority alone: sslmode=verify-ca",
        ),
        (false, _) => tls(
            format!("the server's certificate is for {} and not for {host:?}", listed(&hosts)),
            "connect by a name that it has (host=NAME, and hostaddr=ADDRESS where the name leads elsewhere), \
             or issue it for this one, or check the authority alone: sslmode=verify-ca",
        ),
    }
}

/// A few names, quoted.
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

/// Why a handshake failed. Marked as [declined](Error::declined) where it ended before anything was decided about the
/// server: not where we have refused what it sent.
#[cold]
pub(super) fn failed(failure: Failure, told: &Told) -> Error {
    // Whatever ended the connection after it.
    if let Some(refusal) = told.refusal() {
        return refusal;
    }
    match failure {
        Failure::Io(error) => {
            broken_io("the connection broke in the TLS handshake", error).declined()
        }
        Failure::Closed => closed(),
        Failure::Stuffed => stuffed(),
        Failure::Fault(Fault::Alert(alert)) => ended_by(alert, told),
        Failure::Fault(fault @ Fault::NotTls) => tls(
            fault.to_string(),
            "is there a PostgreSQL server at this port? With sslnegotiation=direct it must be version 17 or \
             later",
        )
        .declined(),
        Failure::Fault(fault) => Error::new(ErrorKind::Tls, fault.to_string()),
        Failure::Tls(error) => not_agreed(error, told),
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Connect, "the server ended the connection in the TLS handshake")
        .declined()
        .with_hint(
            "the server's log has the reason; it may also be overloaded, or be no PostgreSQL",
        )
}

fn not_agreed(error: rustls::Error, told: &Told) -> Error {
    use rustls::Error as E;
    match error {
        E::AlertReceived(alert) => ended_by(alert, told),
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
        "the server and we have no version of TLS in common",
        "TLS 1.2 and 1.3 are spoken here: look at ssl_max_protocol_version of the server, and at \
         ssl_min_protocol_version and ssl_max_protocol_version of the connection",
    )
}

/// The server has ended it with an alert.
fn ended_by(alert: Alert, told: &Told) -> Error {
    match alert {
        // As much our decision as the server's.
        Alert::ProtocolVersion => return too_old(),
        Alert::CloseNotify => return closed(),
        _ => {}
    }
    let message = format!("the server ended TLS with the alert {}", AlertName(alert));
    let hint: Cow<'static, str> = match alert {
        Alert::NoApplicationProtocol => {
            "it does not speak PostgreSQL's protocol behind TLS (ALPN postgresql): is it another server?".into()
        }
        Alert::UnrecognisedName => {
            "it does not know the name of the host (SNI): use the name that it has, or sslsni=0".into()
        }
        alert if is_about_our_certificate(alert, told) => match told.certificate_file() {
            Some(path) if told.certificate_sent() => format!(
                "it refuses the client's certificate {path:?}: is that from an authority in the server's \
                 ssl_ca_file, not expired, and not revoked?"
            )
            .into(),
            Some(path) => format!(
                "it wants a certificate of the client: name it with sslcert and sslkey ({path:?} was looked \
                 for)"
            )
            .into(),
            None => "it wants a certificate of the client: name it with sslcert and sslkey".into(),
        },
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "it accepts none of our ciphers and curves: look at its ssl_ciphers and ssl_groups \
             (ssl_ecdh_curve); or its certificate has an ECDSA key on P-521 or another curve, which is not \
             supported: make one on P-256 or P-384"
                .into()
        }
        _ => "the server's log has the reason".into(),
    };
    tls(message, hint).declined()
}

fn is_about_our_certificate(alert: Alert, told: &Told) -> bool {
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
        // So it says in TLS 1.2 that it has seen none.
        Alert::HandshakeFailure => told.certificate_requested() && !told.certificate_sent(),
        _ => false,
    }
}

/// Why a connection that was established cannot go on. In TLS 1.3 a server judges our certificate only then.
#[cold]
pub(super) fn broken(fault: &Fault, told: &Told) -> Error {
    match fault {
        Fault::Alert(alert) if is_about_our_certificate(*alert, told) => ended_by(*alert, told),
        // The same may go well next time, unlike what has to do with keys and trust.
        _ => Error::new(ErrorKind::Connect, fault.to_string()),
    }
}

/// Bytes came where none may.
#[cold]
pub(super) fn stuffed() -> Error {
    tls(
        "the server sent bytes in clear behind its answer to the request for TLS",
        "somebody between the server and us may have put them there, to be taken for the server's own: \
         they were not looked at",
    )
}

/// The socket failed.
#[cold]
pub(super) fn broken_io(message: &'static str, error: io::Error) -> Error {
    Error::caused(ErrorKind::Connect, message, error)
}
