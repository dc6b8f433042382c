//! The table of all connection parameters of libpq, and how each is handled.

use super::form::Form;
use super::values::{
    LOAD_BALANCE_HOSTS, PROTOCOL_VERSIONS, SSL_CERT_MODES, SSL_MODES, SSL_NEGOTIATIONS,
    TARGET_SESSION_ATTRS,
};

/// Declares the parameters whose values are stored as text.
macro_rules! keys {
    ($($variant:ident = $name:literal,)+) => {
        /// A parameter whose value is stored as text. `Display` of `Config` shows the parameters in this order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum ParameterKey {
            $($variant,)+
        }

        impl ParameterKey {
            /// The name, as libpq spells it if libpq has the parameter.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

keys! {
    Host = "host",
    Hostaddr = "hostaddr",
    Port = "port",
    Dbname = "dbname",
    User = "user",
    Passfile = "passfile",
    Service = "service",
    Servicefile = "servicefile",
    ApplicationName = "application_name",
    FallbackApplicationName = "fallback_application_name",
    Options = "options",
    ClientEncoding = "client_encoding",
    ConnectTimeout = "connect_timeout",
    Keepalives = "keepalives",
    KeepalivesIdle = "keepalives_idle",
    KeepalivesInterval = "keepalives_interval",
    KeepalivesCount = "keepalives_count",
    TcpUserTimeout = "tcp_user_timeout",
    TargetSessionAttrs = "target_session_attrs",
    LoadBalanceHosts = "load_balance_hosts",
    Sslmode = "sslmode",
    Sslnegotiation = "sslnegotiation",
    Sslrootcert = "sslrootcert",
    Sslcert = "sslcert",
    Sslkey = "sslkey",
    Sslcertmode = "sslcertmode",
    Sslcrl = "sslcrl",
    Sslcrldir = "sslcrldir",
    Sslsni = "sslsni",
    SslMinProtocolVersion = "ssl_min_protocol_version",
    SslMaxProtocolVersion = "ssl_max_protocol_version",
    ChannelBinding = "channel_binding",
    RequireAuth = "require_auth",
    Requirepeer = "requirepeer",
    ScramIterationsMin = "scram_iterations_min",
    ScramIterationsMax = "scram_iterations_max",
    MinProtocolVersion = "min_protocol_version",
    MaxProtocolVersion = "max_protocol_version",
}

/// The handling of a parameter's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handling {
    /// The value must have this form, and is stored.
    Kept(ParameterKey, Form),
    /// The value is stored separately from the others, and is never shown.
    Password,
    /// Only these values are accepted, which ask for the behaviour that pgbell always has. The value is not stored.
    Only(&'static [&'static str]),
    /// Any value is accepted and not used, because the parameter is for a mechanism that pgbell never uses.
    Ignored,
    /// Only the empty value is accepted, for this reason. A request for security is never silently ignored.
    Refused(&'static str),
}

/// A connection parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) handling: Handling,
}

const fn kept(key: ParameterKey, form: Form) -> Entry {
    Entry { name: key.name(), handling: Handling::Kept(key, form) }
}

const fn only(name: &'static str, values: &'static [&'static str]) -> Entry {
    Entry { name, handling: Handling::Only(values) }
}

const fn refused(name: &'static str, reason: &'static str) -> Entry {
    Entry { name, handling: Handling::Refused(reason) }
}

const GSS: &str = "GSSAPI is not supported";
const OAUTH: &str = "OAuth is not supported, password_provider can return a token as the password";
const SCRAM_KEY: &str = "SCRAM keys in place of a password are not supported";
const ENCRYPTED_KEY: &str = "encrypted private keys are not supported, decrypt the file of sslkey";
const KEY_LOG: &str = "the secrets of a TLS session are never written to a file";

/// Every parameter of libpq 13 to 19, and two that only pgbell has: `scram_iterations_min` and `scram_iterations_max`.
/// `keys.md` describes their meaning and defaults.
pub(super) const KEYS: &[Entry] = &[
    kept(ParameterKey::Host, Form::Hosts),
    kept(ParameterKey::Hostaddr, Form::Addresses),
    kept(ParameterKey::Port, Form::Ports),
    kept(ParameterKey::Dbname, Form::Text),
    kept(ParameterKey::User, Form::Text),
    Entry { name: "password", handling: Handling::Password },
    kept(ParameterKey::Passfile, Form::Text),
    kept(ParameterKey::Service, Form::Text),
    kept(ParameterKey::Servicefile, Form::Text),
    kept(ParameterKey::ApplicationName, Form::Text),
    kept(ParameterKey::FallbackApplicationName, Form::Text),
    kept(ParameterKey::Options, Form::Text),
    kept(ParameterKey::ClientEncoding, Form::Encoding),
    kept(ParameterKey::ConnectTimeout, Form::Seconds),
    kept(ParameterKey::Keepalives, Form::Integer),
    kept(ParameterKey::KeepalivesIdle, Form::Integer),
    kept(ParameterKey::KeepalivesInterval, Form::Integer),
    kept(ParameterKey::KeepalivesCount, Form::Integer),
    kept(ParameterKey::TcpUserTimeout, Form::Integer),
    kept(ParameterKey::TargetSessionAttrs, Form::Choice(TARGET_SESSION_ATTRS)),
    kept(ParameterKey::LoadBalanceHosts, Form::Choice(LOAD_BALANCE_HOSTS)),
    kept(ParameterKey::Sslmode, Form::Choice(SSL_MODES)),
    kept(ParameterKey::Sslnegotiation, Form::Choice(SSL_NEGOTIATIONS)),
    kept(ParameterKey::Sslrootcert, Form::Text),
    kept(ParameterKey::Sslcert, Form::Text),
    kept(ParameterKey::Sslkey, Form::Text),
    kept(ParameterKey::Sslcertmode, Form::Choice(SSL_CERT_MODES)),
    kept(ParameterKey::Sslcrl, Form::Text),
    kept(ParameterKey::Sslcrldir, Form::Text),
    kept(ParameterKey::Sslsni, Form::Choice(&["0", "1"])),
    kept(ParameterKey::SslMinProtocolVersion, Form::TlsMin),
    kept(ParameterKey::SslMaxProtocolVersion, Form::TlsMax),
    kept(ParameterKey::ChannelBinding, Form::Choice(&["disable", "prefer", "require"])),
    kept(ParameterKey::RequireAuth, Form::RequireAuth),
    kept(ParameterKey::Requirepeer, Form::Text),
    kept(ParameterKey::ScramIterationsMin, Form::Iterations),
    kept(ParameterKey::ScramIterationsMax, Form::Iterations),
    kept(ParameterKey::MinProtocolVersion, Form::Choice(PROTOCOL_VERSIONS)),
    kept(ParameterKey::MaxProtocolVersion, Form::Choice(PROTOCOL_VERSIONS)),
    only("gssencmode", &["disable", "prefer"]),
    only("gssdelegation", &["0"]),
    only("replication", &["false", "off", "no", "0"]),
    only("sslcompression", &["0"]),
    Entry { name: "krbsrvname", handling: Handling::Ignored },
    refused("gsslib", GSS),
    refused("oauth_ca_file", OAUTH),
    refused("oauth_client_id", OAUTH),
    refused("oauth_client_secret", OAUTH),
    refused("oauth_issuer", OAUTH),
    refused("oauth_scope", OAUTH),
    refused("scram_client_key", SCRAM_KEY),
    refused("scram_server_key", SCRAM_KEY),
    refused("sslkeylogfile", KEY_LOG),
    refused("sslpassword", ENCRYPTED_KEY),
];

/// Returns the parameter with this name. Names are case-sensitive, as in libpq.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    KEYS.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::super::env::VARIABLES;
    use super::super::{Config, PORT_DEFAULT};
    use super::{Handling, KEYS};

    #[test]
    fn the_documented_table_names_every_parameter_and_its_variable() {
        let text = include_str!("keys.md");
        for entry in KEYS {
            let variable = VARIABLES.iter().find(|(_, key)| *key == entry.name);
            match entry.handling {
                Handling::Kept(..) | Handling::Password => {
                    let variable =
                        variable.map(|(name, _)| format!("`{name}` ")).unwrap_or_default();
                    let row = format!("\n| `{}` | {variable}| ", entry.name);
                    assert!(format!("\n{text}").contains(&row), "{row}");
                }
                Handling::Only(values) => {
                    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                    let item = format!("`{}` ({})", entry.name, values.join(", "));
                    assert!(text.contains(&item), "{item}");
                }
                Handling::Ignored | Handling::Refused(_) => {
                    assert!(text.contains(&format!("`{}`", entry.name)), "{}", entry.name);
                }
            }
        }
        for (variable, key) in VARIABLES {
            assert!(super::find(key).is_some(), "{variable}");
        }
    }

    #[test]
    fn the_documented_defaults_are_those_that_are_used() {
        let config = Config::new();
        let keepalive = config.effective().keepalive().unwrap();
        for (key, default) in [
            ("port", PORT_DEFAULT.to_string()),
            ("connect_timeout", config.effective().connect_timeout().as_secs().to_string()),
            ("keepalives_idle", keepalive.idle.as_secs().to_string()),
            ("keepalives_interval", keepalive.interval.as_secs().to_string()),
            ("keepalives_count", keepalive.count.to_string()),
            ("tcp_user_timeout", config.effective().tcp_user_timeout().as_millis().to_string()),
            ("load_balance_hosts", format!("`{}`", config.effective().load_balance_hosts())),
            ("sslnegotiation", format!("`{}`", config.get_ssl_negotiation())),
            ("sslcertmode", format!("`{}`", config.get_ssl_cert_mode())),
            ("sslsni", u8::from(config.get_ssl_sni()).to_string()),
            ("scram_iterations_min", config.effective().scram_iterations_min().to_string()),
            ("scram_iterations_max", config.effective().scram_iterations_max().to_string()),
            ("channel_binding", format!("`{}`", config.get_channel_binding())),
            ("min_protocol_version", format!("`{}`", config.effective().min_protocol_version())),
            (
                "sslmode",
                format!(
                    "`{}`; `verify-full` with `sslrootcert=system`",
                    config.effective().ssl_mode()
                ),
            ),
            (
                "target_session_attrs",
                format!(
                    "`{}`; `{}` with several hosts",
                    config.effective().target_session_attrs(),
                    config.clone().host("a,b").effective().target_session_attrs()
                ),
            ),
            (
                "application_name",
                format!(
                    "`fallback_application_name`, else `{}`",
                    config.effective().application_name()
                ),
            ),
        ] {
            let start = format!("| `{key}` |");
            let row = include_str!("keys.md").lines().find(|line| line.starts_with(&start));
            assert!(row.unwrap().ends_with(&format!("| {default} |")), "{key}: {default}");
        }
    }
}
