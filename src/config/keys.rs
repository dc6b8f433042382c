//! Every connection parameter of libpq, and what this version does with it.

use super::values::{Form, LOAD_BALANCE_HOSTS, SSL_MODES, TARGET_SESSION_ATTRS};

/// A parameter whose value is kept as text. The order is the one in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Host,
    Hostaddr,
    Port,
    Dbname,
    User,
    ApplicationName,
    FallbackApplicationName,
    Options,
    ClientEncoding,
    ConnectTimeout,
    Keepalives,
    KeepalivesIdle,
    KeepalivesInterval,
    KeepalivesCount,
    TcpUserTimeout,
    TargetSessionAttrs,
    LoadBalanceHosts,
    Sslmode,
}

impl Key {
    /// libpq's spelling.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Hostaddr => "hostaddr",
            Self::Port => "port",
            Self::Dbname => "dbname",
            Self::User => "user",
            Self::ApplicationName => "application_name",
            Self::FallbackApplicationName => "fallback_application_name",
            Self::Options => "options",
            Self::ClientEncoding => "client_encoding",
            Self::ConnectTimeout => "connect_timeout",
            Self::Keepalives => "keepalives",
            Self::KeepalivesIdle => "keepalives_idle",
            Self::KeepalivesInterval => "keepalives_interval",
            Self::KeepalivesCount => "keepalives_count",
            Self::TcpUserTimeout => "tcp_user_timeout",
            Self::TargetSessionAttrs => "target_session_attrs",
            Self::LoadBalanceHosts => "load_balance_hosts",
            Self::Sslmode => "sslmode",
        }
    }
}

/// What becomes of a parameter's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handling {
    /// Checked against its form and kept.
    Kept(Key, Form),
    /// Kept apart from the others, and never shown.
    Password,
    /// Only values that ask for what this version does anyway.
    Only(&'static [&'static str]),
    /// Any value: it concerns a mechanism that is never used.
    Ignored,
    /// Only the empty value. What a user asks for security is refused, never skipped.
    Refused,
}

/// A connection parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) handling: Handling,
}

const fn kept(key: Key, form: Form) -> Entry {
    Entry { name: key.name(), handling: Handling::Kept(key, form) }
}

const fn only(name: &'static str, values: &'static [&'static str]) -> Entry {
    Entry { name, handling: Handling::Only(values) }
}

const fn refused(name: &'static str) -> Entry {
    Entry { name, handling: Handling::Refused }
}

/// Every parameter that libpq 13 to 19 knows. Their meaning and defaults: `keys.md`.
pub(super) const KEYS: &[Entry] = &[
    kept(Key::Host, Form::Hosts),
    kept(Key::Hostaddr, Form::Addresses),
    kept(Key::Port, Form::Ports),
    kept(Key::Dbname, Form::Text),
    kept(Key::User, Form::Text),
    Entry { name: "password", handling: Handling::Password },
    kept(Key::ApplicationName, Form::Text),
    kept(Key::FallbackApplicationName, Form::Text),
    kept(Key::Options, Form::Text),
    kept(Key::ClientEncoding, Form::Encoding),
    kept(Key::ConnectTimeout, Form::Seconds),
    kept(Key::Keepalives, Form::Integer),
    kept(Key::KeepalivesIdle, Form::Integer),
    kept(Key::KeepalivesInterval, Form::Integer),
    kept(Key::KeepalivesCount, Form::Integer),
    kept(Key::TcpUserTimeout, Form::Integer),
    kept(Key::TargetSessionAttrs, Form::Choice(TARGET_SESSION_ATTRS)),
    kept(Key::LoadBalanceHosts, Form::Choice(LOAD_BALANCE_HOSTS)),
    kept(Key::Sslmode, Form::Choice(SSL_MODES)),
    only("channel_binding", &["disable", "prefer"]),
    only("gssencmode", &["disable", "prefer"]),
    only("gssdelegation", &["0"]),
    only("max_protocol_version", &["3.0", "latest"]),
    only("min_protocol_version", &["3.0"]),
    only("replication", &["false", "off", "no", "0"]),
    only("sslcertmode", &["disable", "allow"]),
    only("sslcompression", &["0"]),
    only("sslnegotiation", &["postgres"]),
    only("sslsni", &["0", "1"]),
    Entry { name: "krbsrvname", handling: Handling::Ignored },
    refused("gsslib"),
    refused("oauth_client_id"),
    refused("oauth_client_secret"),
    refused("oauth_issuer"),
    refused("oauth_scope"),
    refused("passfile"),
    refused("require_auth"),
    refused("requirepeer"),
    refused("scram_client_key"),
    refused("scram_server_key"),
    refused("service"),
    refused("servicefile"),
    refused("ssl_max_protocol_version"),
    refused("ssl_min_protocol_version"),
    refused("sslcert"),
    refused("sslcrl"),
    refused("sslcrldir"),
    refused("sslkey"),
    refused("sslkeylogfile"),
    refused("sslpassword"),
    refused("sslrootcert"),
];

/// What other clients call the parameters, for the hint in an error.
const FOREIGN: &[(&str, &str)] = &[
    ("database", "dbname"),
    ("db", "dbname"),
    ("hostname", "host"),
    ("pass", "password"),
    ("passwd", "password"),
    ("pwd", "password"),
    ("timeout", "connect_timeout"),
    ("username", "user"),
];

/// The parameter of that name. Names are case-sensitive, as in libpq.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    KEYS.iter().find(|entry| entry.name == name)
}

/// The known parameter that was probably meant by an unknown name.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    if let Some((_, key)) = FOREIGN.iter().find(|(foreign, _)| name.eq_ignore_ascii_case(foreign)) {
        return Some(key);
    }
    // A third of the letters may differ, two at most: more is guessing.
    let most = (name.len() / 3).min(2);
    KEYS.iter()
        .filter(|entry| entry.name.len().abs_diff(name.len()) <= most)
        .map(|entry| (distance(entry.name.as_bytes(), name.as_bytes()), entry.name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// How many letters must be inserted, removed or replaced to get from one word to the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    // `row` holds the distances from the letters of `from` seen so far to each start of `to`.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (removed, a) in from.iter().enumerate() {
        let mut diagonal = removed;
        let mut left = removed + 1;
        let mut next = vec![left];
        for (above, b) in row.iter().skip(1).zip(to) {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::env::VARIABLES;
    use super::{Handling, KEYS, distance, nearest};

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
                Handling::Ignored | Handling::Refused => {
                    assert!(text.contains(&format!("`{}`", entry.name)), "{}", entry.name);
                }
            }
        }
        for (variable, key) in VARIABLES {
            assert!(super::find(key).is_some(), "{variable}");
        }
    }

    #[test]
    fn the_nearest_parameter_is_named_only_when_it_is_near() {
        for (name, expected) in [
            ("hst", Some("host")),
            ("sslMode", Some("sslmode")),
            ("ssl-mode", Some("sslmode")),
            ("aplication_nmae", None),
            ("applicationName", Some("application_name")),
            ("connect_timout", Some("connect_timeout")),
            ("PWD", Some("password")),
            ("", None),
            ("ab", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(name), expected, "{name}");
        }
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
    }
}
