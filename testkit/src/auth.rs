//! How clients log in.

/// The authentication method of clients, with the names of `pg_hba.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Auth {
    /// No authentication: every user of this machine has the rights of a superuser of the server, including to run programs.
    Trust,
    /// The password is sent in clear.
    Password,
    /// MD5, with passwords stored as MD5.
    Md5,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// The common name of the client's certificate is the role. Over TLS only; over the Unix socket it is
    /// SCRAM-SHA-256. It needs [`Tls::client_authority`](crate::Tls::client_authority).
    Cert,
}

impl Auth {
    /// The method in `pg_hba.conf`, over TCP.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::Cert => "cert",
        }
    }

    /// The form in which the server stores passwords: `password_encryption`.
    pub(crate) fn stored(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Trust | Self::Password | Self::ScramSha256 | Self::Cert => "scram-sha-256",
        }
    }

    /// Returns the lines of `pg_hba.conf` for all users. Over the Unix socket, whose directory only the server's user can
    /// enter, the server asks for a password only if the test has chosen a method.
    pub(crate) fn hba(chosen: Option<Self>) -> String {
        let method = chosen.unwrap_or(Self::ScramSha256).method();
        let (host, local) = match chosen {
            None => ("host", Self::Trust.method()),
            Some(Self::Cert) => ("hostssl", Self::ScramSha256.method()),
            Some(_) => ("host", method),
        };
        let mut text = String::new();
        for database in ["all", "replication"] {
            text.push_str(&format!("local {database} all {local}\n"));
            text.push_str(&format!("{host} {database} all 127.0.0.1/32 {method}\n"));
            text.push_str(&format!("{host} {database} all ::1/128 {method}\n"));
        }
        text
    }
}
