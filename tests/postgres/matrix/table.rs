//! The table of logins: every method, through every kind of encryption, over both transports.

use std::fs;

use pgbell::config::{SslCertMode, SslMode, SslNegotiation};
use pgbell::proto::auth::AuthMethod;
use pgbell::{Config, Connection, Error, ErrorKind, Listener, Notifier};
use pgbell_testkit::{Auth, Certificate, Certificates, Leaf, Tls};

use super::on_every_version;
use crate::support::{Server, all_text, installation, next, run, value};

on_every_version! {
    the_table_of_logins
}

const PASSWORD: &str = "pl4nted in every table";
const WRONG: &str = "pl4nted in no table";

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Trust,
    Password,
    Md5,
    Scram,
    ScramPlus,
    Cert,
}
use Method::{Cert, Md5, Password, Scram, ScramPlus, Trust};

impl Method {
    const ALL: [Self; 6] = [Trust, Password, Md5, Scram, ScramPlus, Cert];

    /// The name of the row and of the role.
    fn name(self) -> &'static str {
        match self {
            Trust => "trust",
            Password => "password",
            Md5 => "md5",
            Scram => "scram",
            ScramPlus => "scram-plus",
            Cert => "cert",
        }
    }

    /// The method in `pg_hba.conf`.
    fn word(self) -> &'static str {
        match self {
            Scram | ScramPlus => "scram-sha-256",
            other => other.name(),
        }
    }

    /// The only method that the client is to have used.
    fn seen(self) -> AuthMethod {
        match self {
            Trust | Cert => AuthMethod::Trust,
            Password => AuthMethod::Password,
            Md5 => AuthMethod::Md5,
            Scram => AuthMethod::ScramSha256,
            ScramPlus => AuthMethod::ScramSha256Plus,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Clear,
    Tls,
    Direct,
}
use Way::{Clear, Direct};

#[derive(Clone, Copy, PartialEq)]
enum Transport {
    Tcp,
    Unix,
}
use Transport::{Tcp, Unix};

const COLUMNS: [(&str, Transport, Way); 6] = [
    ("TCP clear", Tcp, Clear),
    ("TCP TLS", Tcp, Way::Tls),
    ("TCP direct TLS", Tcp, Direct),
    ("Unix clear", Unix, Clear),
    ("Unix TLS", Unix, Way::Tls),
    ("Unix direct TLS", Unix, Direct),
];

const LEGEND: &str = "
  in   Connection, Listener and Notifier log in, only by this method; a notification arrives;
       a wrong password (for cert: no certificate) is refused with 28P01 (28000)
  (a)  only if require_auth names `password`: otherwise refused before the password is sent
  (b)  a Unix socket has no TLS and ignores sslmode: logs in, and the server reports `ssl = f`
  (c)  no TLS to bind to: refused before the startup packet is sent
  (d)  the server has no pg_hba.conf line for it without TLS: 28000
  (e)  not applicable: the server refuses `cert` in a `local` line of pg_hba.conf
  (f)  direct TLS exists since PostgreSQL 17: refused, and no other way is tried
";

/// One cluster for all cells, with a role for each method, named after it.
struct Table {
    server: Server,
    root: String,
    client: Certificate,
}

impl Table {
    fn new(major: u32, certificates: &Certificates) -> Self {
        let root = certificates.authority("root").unwrap();
        let leaf = Leaf::server("localhost").ip_address([127, 0, 0, 1]);
        let leaf = root.issue(&leaf).unwrap();
        let client = root.issue(&Leaf::client("cert")).unwrap();
        let server = Server::with(|mut builder| {
            for method in Method::ALL {
                let (role, word) = (method.name(), method.word());
                let stored = if method == Md5 { "md5" } else { "scram-sha-256" };
                builder = builder.init_sql(format!(
                    "SET password_encryption = '{stored}'; CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}'"
                ));
                // All other roles have the rule of `Auth::Cert`: they need a certificate, over TLS.
                if method != Cert {
                    builder = builder
                        .hba(format!("local all \"{role}\" {word}"))
                        .hba(format!("host all \"{role}\" 127.0.0.1/32 {word}"));
                }
            }
            builder
                .installation(installation(major))
                .auth(Auth::Cert)
                .tls(Tls::new(&leaf).client_authority(&root))
        });
        let root = root.certificate().path().to_str().unwrap().to_owned();
        Self { server, root, client }
    }

    /// Returns the configuration of a login that accepts only this method.
    fn config(&self, method: Method, way: Way, transport: Transport, password: &str) -> Config {
        let cluster = &self.server.cluster;
        let url = match transport {
            Tcp => cluster.url(method.name(), password, "postgres"),
            Unix => cluster.socket_url(method.name(), password, "postgres"),
        };
        let mut config: Config = url.parse().unwrap();
        config = match way {
            Clear => config.ssl_mode(SslMode::Disable),
            Way::Tls => config.ssl_mode(SslMode::VerifyFull).ssl_root_cert(&self.root),
            Direct => config
                .ssl_mode(SslMode::VerifyFull)
                .ssl_root_cert(&self.root)
                .ssl_negotiation(SslNegotiation::Direct),
        };
        match method {
            Trust => config.require_auth("none"),
            ScramPlus => {
                config.require_auth("scram-sha-256").channel_binding("require".parse().unwrap())
            }
            // Otherwise it would be bound to the channel whenever possible.
            Scram => {
                config.require_auth("scram-sha-256").channel_binding("disable".parse().unwrap())
            }
            Cert if way == Clear => config,
            Cert => config
                .require_auth("none")
                .ssl_cert(self.client.path().to_str().unwrap())
                .ssl_key(self.client.key_path().to_str().unwrap())
                .ssl_cert_mode(SslCertMode::Require),
            Password | Md5 => config.require_auth(method.word()),
        }
    }

    /// Returns the error of a refused login, the same for all three clients.
    async fn refused(&self, config: Config) -> Error {
        let errors = [
            Connection::connect(&config).await.unwrap_err(),
            Listener::connect(&config).await.unwrap_err(),
            Notifier::connect(&config).await.unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(error.kind(), errors[0].kind(), "{error}");
            assert!(!all_text(error).contains("pl4nted"), "a password is shown");
        }
        errors[0].clone()
    }

    /// Logs in, and checks both ends.
    async fn logs_in(&self, method: Method, way: Way, transport: Transport) {
        let config = self.config(method, way, transport, PASSWORD);
        let mut connection = Connection::connect(&config).await.unwrap();
        assert_eq!(connection.auth_method(), Some(method.seen()));
        let is_tls = transport == Tcp && way != Clear;
        let seen = "SELECT concat_ws(' ', current_user, ssl, version, client_dn, client_addr IS NULL) \
                    FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()";
        let mut expected = format!("{} ", method.name());
        expected += if is_tls { "t TLSv1.3 " } else { "f " };
        expected += if method == Cert { "/CN=cert " } else { "" };
        expected += if transport == Unix { "t" } else { "f" };
        assert_eq!(value(&mut connection, seen).await, expected);
        if self.server.cluster.major() >= 16 {
            let sql = "SELECT coalesce(split_part(system_user, ':', 1), 'trust')";
            assert_eq!(value(&mut connection, sql).await, method.word());
        }
        connection.close().await;

        let mut listener = Listener::connect(&config).await.unwrap();
        listener.listen("ch").await.unwrap();
        let notifier = Notifier::connect(&config).await.unwrap();
        notifier.notify("ch", method.name()).await.unwrap();
        assert_eq!(next(&mut listener).await.payload_bytes(), method.name().as_bytes());
        notifier.close().await;
        listener.close().await;

        // The credentials were needed for the login.
        let sqlstate = match method {
            Trust => return,
            Cert => "28000",
            _ => "28P01",
        };
        let mut config = self.config(method, way, transport, WRONG);
        if method == Cert {
            config = config.ssl_cert_mode(SslCertMode::Disable);
        }
        let error = self.refused(config).await;
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Auth, Some(sqlstate)), "{error}");
    }

    /// Returns the text of a cell: the observed result.
    async fn cell(&self, method: Method, way: Way, transport: Transport) -> String {
        let config = || self.config(method, way, transport, PASSWORD);
        match (method, way, transport) {
            (Cert, _, Unix) => "- (e)".to_owned(),
            (ScramPlus, Clear, _) | (ScramPlus, _, Unix) => {
                let error = self.refused(config()).await;
                let kind = if way == Clear { ErrorKind::Config } else { ErrorKind::Auth };
                assert_eq!((error.kind(), error.sqlstate()), (kind, None), "{error}");
                assert!(format!("{error:#}").contains("channel_binding"), "{error}");
                "refused (c)".to_owned()
            }
            (Cert, Clear, Tcp) => {
                let error = self.refused(config()).await;
                assert_eq!(error.sqlstate(), Some("28000"), "{error}");
                assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
                "refused (d)".to_owned()
            }
            (_, Direct, Tcp) if self.server.cluster.major() < 17 => {
                let error = self.refused(config()).await;
                assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Connect), "{error}");
                "refused (f)".to_owned()
            }
            (Password, Clear, Tcp) => {
                let error = self.refused(config().require_auth("")).await;
                assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Auth, None), "{error}");
                assert!(format!("{error:#}").contains("in clear"), "{error}");
                self.logs_in(method, way, transport).await;
                "in (a)".to_owned()
            }
            (_, way, transport) => {
                self.logs_in(method, way, transport).await;
                if transport == Unix && way != Clear { "in (b)" } else { "in" }.to_owned()
            }
        }
    }

    /// Checks why there is no cell for client certificates over Unix sockets.
    fn the_server_refuses_certificates_for_unix_sockets(&self) {
        let cluster = &self.server.cluster;
        let before = fs::read(cluster.data_dir().join("pg_hba.conf")).unwrap();
        let line = b"local all cert cert\n".as_slice();
        cluster.write_file("pg_hba.conf", [&before, line].concat()).unwrap();
        let refusal = cluster.reload().unwrap_err().to_string();
        assert!(refusal.contains("cert authentication is only supported"), "{refusal}");
        cluster.write_file("pg_hba.conf", before).unwrap();
        cluster.reload().unwrap();
    }
}

/// Prints the table, after every cell of it was tested on one server.
#[expect(clippy::print_stdout, reason = "the table is what the test run is to print")]
fn the_table_of_logins(major: u32) {
    let certificates = Certificates::new().unwrap();
    let table = Table::new(major, &certificates);
    table.the_server_refuses_certificates_for_unix_sockets();
    run(async {
        let mut text =
            format!("\nLogins on PostgreSQL {}\n{:12}", table.server.cluster.version(), "");
        for (title, ..) in COLUMNS {
            text += &format!("{title:17}");
        }
        for method in Method::ALL {
            text = format!("{}\n{:12}", text.trim_end(), method.name());
            for (_, transport, way) in COLUMNS {
                text += &format!("{:17}", table.cell(method, way, transport).await);
            }
        }
        println!("{}\n{LEGEND}", text.trim_end());
    });
}
