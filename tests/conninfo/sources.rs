//! Service files and password files, as texts. `net::tests` compares them with libpq.

use pgbell::Config;
use pgbell::config::{PassFile, ServiceFile};

use crate::parse;

fn service(text: &str, name: &str) -> Option<String> {
    ServiceFile::new(text.as_bytes()).service(name).unwrap().map(|config| config.to_string())
}

#[test]
fn a_service_ends_at_the_next_section() {
    let text = "# all of this file\nport=9\n\n[shop]\n  host=db1  \r\n\tuser=bob\n#dbname=no\n\n\
                application_name= a = b\nhost=again\n[other]\nhost=db2\n[shop]\nport=5\n";
    let shop = "host=db1 user=bob application_name=' a = b'";
    assert_eq!(service(text, "shop").as_deref(), Some(shop));
    assert_eq!(service(text, "other").as_deref(), Some("host=db2"));
    assert_eq!(service(text, "nobody"), None);
    assert_eq!(service("", "shop"), None);
    assert_eq!(service("[shop]", "shop").as_deref(), Some(""));
    // As in libpq: blanks inside count, and text behind the bracket is ignored.
    assert_eq!(service("[ shop]\nhost=a", "shop"), None);
    assert_eq!(service(" [shop]x\nhost=a", "shop").as_deref(), Some("host=a"));
    // The other services are not parsed.
    assert_eq!(service("nonsense\n[a]\nnonsense\n[b]\nport=1", "b").as_deref(), Some("port=1"));
}

#[test]
fn values_of_a_service_are_neither_quoted_nor_encoded() {
    let text = "[a]\noptions='-c a=b'\npassword=p%20\\w's\ndbname=\n";
    let config = ServiceFile::new(text.as_bytes()).service("a").unwrap().unwrap();
    assert_eq!(config.get_options(), Some("'-c a=b'"));
    assert_eq!(config.get_password(), Some(&b"p%20\\w's"[..]));
    assert!(config.is_set("dbname") && config.get_dbname().is_none());
    let bytes = ServiceFile::new(b"[a]\npassword=\xff\n").service("a").unwrap().unwrap();
    assert_eq!(bytes.get_password(), Some(&b"\xff"[..]));
}

#[test]
fn an_error_in_a_service_names_its_line() {
    for (line, line_number, expected) in [
        ("host=x", 3, None),
        ("port=x", 3, Some("port in line 3: expected a number from 1 to 65535")),
        ("user=\u{0}", 3, Some("user in line 3: found a zero byte")),
        ("requiressl=1", 3, Some("line 3: this key is not known")),
        ("service=b", 3, Some("service in line 3: a service cannot name another service")),
    ] {
        let text = format!("\n[a]\n{line}\n");
        let error = ServiceFile::new(text.as_bytes()).service("a").err();
        assert_eq!(error.map(|error| error.to_string()).as_deref(), expected);
        if let Some(error) = error {
            assert_eq!(error.line(), Some(line_number));
            assert_eq!((error.position(), error.variable()), (None, None));
        }
    }
}

/// The order of libpq: the connection string, the service, the environment.
#[test]
fn a_service_fills_missing_parameters_and_precedes_the_environment() {
    let file = ServiceFile::new(b"[a]\nhost=service\nport=2\npassword=theirs\nuser=\n");
    let service = file.service("a").unwrap().unwrap();
    let variables = |name: &str| match name {
        "PGHOST" | "PGUSER" | "PGDATABASE" => Some("variable"),
        "PGPASSWORD" => Some("variable's"),
        _ => None,
    };
    let given = parse("port=1");
    let orders = [
        given.clone().with_service(&service).with_environment(variables).unwrap(),
        given.clone().with_environment(variables).unwrap().with_service(&service),
    ];
    for config in orders {
        assert_eq!(config.to_string(), "host=service port=1 dbname=variable user=''");
        assert_eq!(config.get_password(), Some(&b"theirs"[..]));
    }
    let mine = given.host("mine").password("mine").with_service(&service);
    assert_eq!(mine.get("host"), Some("mine"));
    assert_eq!(mine.get_password(), Some(&b"mine"[..]));
}

fn password(file: &str, config: &str) -> Option<String> {
    let config: Config = config.parse().unwrap();
    let server = &config.servers().unwrap()[0];
    let user = config.get_user().unwrap();
    let file = PassFile::new(file);
    let found = file.password(server, config.get_dbname().unwrap_or(user), user)?;
    Some(shown(&found))
}

/// The text of a password, read from the only place that contains it: the answer to a server that asks for it in clear.
pub(crate) fn shown(password: &pgbell::proto::auth::Password) -> String {
    use pgbell::proto::auth::{AuthPolicy, AuthStep, Authenticator, Credentials, ScramNonce};
    let credentials = Credentials::new("x").unwrap().password(password.clone()).unwrap();
    let policy = AuthPolicy::default().allow_cleartext(true);
    let mut login = Authenticator::new(credentials, policy, ScramNonce::new([0; 18]));
    match login.handle(&pgbell::proto::wire::Authentication::CleartextPassword) {
        Ok(AuthStep::Send(response)) => {
            let body = response.body();
            String::from_utf8(body[..body.len() - 1].to_vec()).unwrap()
        }
        // An empty password is none.
        _ => String::new(),
    }
}

#[test]
fn the_first_matching_line_has_the_password() {
    let file = "db1:5432:shop:bob:one\ndb1:*:shop:bob:two\n*:*:*:bob:three\n*:*:*:*:four\n";
    for (config, expected) in [
        ("host=db1 dbname=shop user=bob", "one"),
        ("host=db1 port=1 dbname=shop user=bob", "two"),
        ("host=db1 dbname=other user=bob", "three"),
        ("host=db2 dbname=shop user=eve", "four"),
    ] {
        assert_eq!(password(file, config).as_deref(), Some(expected), "{config}");
    }
    assert_eq!(password("db1:*:*:bob:x", "host=db2 user=bob"), None);
    // If no database is given, it is the user's name.
    assert_eq!(password("*:*:bob:*:x", "user=bob").as_deref(), Some("x"));
    assert_eq!(password("", "user=bob"), None);
}

#[test]
fn wildcards_comments_and_line_ends_are_those_of_libpq() {
    for (line, config, expected) in [
        ("# *:*:*:*:no\n*:*:*:*:yes", "user=a", Some("yes")),
        (" #:*:*:*:no", "user=a", None),
        ("*:*:*:*:pw\r\n", "user=a", Some("pw")),
        ("*:*:*:*: p w ", "user=a", Some(" p w ")),
        (r"*:*:*:*:a\:b\\c\d", "user=a", Some(r"a:b\cd")),
        ("*:*:*:*:a:b", "user=a", Some("a")),
        (r"*:*:*:*:a\", "user=a", Some(r"a\")),
        ("*:*:*:*:", "user=a", Some("")),
        ("*:*:*:a", "user=a", None),
        ("::1:*:*:*:x", "host=::1 user=a", Some("x")),
        (r"\:\:1:*:*:*:x", "host=::1 user=a", Some("x")),
        (r"*:*:d\:b:*:x", "dbname=d:b user=a", Some("x")),
        (r"\*:*:*:*:x", "host=a user=a", None),
        ("**:*:*:*:x", "host=a user=a", None),
        ("A:*:*:*:x", "host=a user=a", None),
        // The host name counts if there is one, otherwise the address as it is written.
        ("127.0.0.1:*:*:*:x", "host=a hostaddr=127.0.0.1 user=a", None),
        ("127.0.0.1:*:*:*:x", "hostaddr=127.0.0.1 user=a", Some("x")),
        ("0\\:0\\:\\:1:*:*:*:x", "hostaddr=0:0::1 user=a", Some("x")),
        ("\\:\\:1:*:*:*:x", "hostaddr=0:0::1 user=a", None),
    ] {
        assert_eq!(password(line, config).as_deref(), expected, "{line} for {config}");
    }
}

#[test]
fn the_default_server_and_its_socket_are_localhost() {
    for (line, config, fits) in [
        ("localhost:*:*:*:x", "user=a", true),
        ("localhost:*:*:*:x", "host='' user=a", true),
        ("localhost:*:*:*:x", "host=/var/run/postgresql user=a", true),
        ("localhost:*:*:*:x", "host=/tmp user=a", false),
        ("/tmp:*:*:*:x", "host=/tmp user=a", true),
        ("localhost:*:*:*:x", "host=/run/x user=a", false),
        ("/run/x:*:*:*:x", "host=/run/x user=a", true),
        ("localhost:*:*:*:x", "host=127.0.0.1 user=a", false),
        ("localhost:*:*:*:x", "hostaddr=127.0.0.1 user=a", false),
    ] {
        assert_eq!(password(line, config).is_some(), fits, "{line} for {config}");
    }
}
