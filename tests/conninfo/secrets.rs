//! No output shows a password, no text causes a panic, and a printed configuration parses to the same one.

use std::time::Duration;

use pgbell::config::{ConfigError, PassFile, ServiceFile, SslMode};
use pgbell::{Config, Error};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{parse, refuse};

const CODES: &str = "in them / is written %2F, @ %40, ? %3F, # %23, : %3A and % %25";
const UNQUOTED: &str = "expected = after a key, a value with white space in it is quoted: 'a b'";

/// In an earlier version the error named the port, and did not mention the password before it.
#[test]
fn the_error_of_a_slash_in_the_password_of_a_url_names_its_code() {
    let number = format!(
        "expected a number from 1 to 65535, and found @ later: a user and password are written before @, {CODES}"
    );
    refuse(&[
        ("postgres://user:hunter/2@host/db", &format!("port at byte 16: {number}")),
        ("postgres://user:hun?ter/2@host/db", &format!("port at byte 16: {number}")),
        ("postgres://user:99999/hunter2@host/db", &format!("port at byte 16: {number}")),
        ("postgres://user:hun#ter/2@host/db", &format!("port at byte 16: {number}")),
        // Without an @ there is no user.
        ("postgres://host:5432x/db", "port at byte 16: expected a number from 1 to 65535"),
    ]);
    // These are part of a password, as in libpq.
    for text in ["hunter?2", "hunter#2", "hun:ter2"] {
        let config = parse(&format!("postgres://user:{text}@host/db"));
        assert_eq!(config.get_password(), Some(text.as_bytes()));
    }
    let percent =
        "password at byte 20: expected two hexadecimal digits after %, and % itself is written %25";
    refuse(&[("postgres://user:hunt%er2@host/db", percent)]);
}

#[test]
fn the_error_of_a_text_without_pairs_describes_a_connection_string() {
    let expected =
        "expected key=value pairs, or a URL that begins with postgres:// or postgresql://";
    for (text, at) in [("hunter2", 0), (" localhost 5432 shop", 1), ("db1:5432/shop", 0)] {
        refuse(&[(text, &format!("at byte {at}: {expected}"))]);
    }
    refuse(&[("user=a hunter2", &format!("at byte 7: {UNQUOTED}"))]);
}

/// An earlier version added the default server as a second host, without an error.
#[test]
fn a_comma_between_two_pairs_does_not_add_the_default_server() {
    let blanks = "pairs are separated by blanks, not by ; , or &, and a value that contains one is quoted: 'a;b'";
    refuse(&[
        ("host=db1, port=5", &format!("host at byte 5: {blanks}")),
        ("host=db1,db2, user=u", &format!("host at byte 5: {blanks}")),
        ("host=db1 , port=5", &format!("at byte 9: {blanks}")),
        ("host=db1 ; port=5", &format!("at byte 9: {blanks}")),
        ("host=db1 ,port=5", &format!("at byte 9: {blanks}")),
        ("hostaddr=10.0.0.1, user=u", &format!("hostaddr at byte 9: {blanks}")),
        ("user=u, host=db1", &format!("user at byte 5: {blanks}")),
        ("user=u& host=db1", &format!("user at byte 5: {blanks}")),
    ]);
    // The default server is accepted where nothing else can be meant.
    for text in [
        "host=db1,",
        "host=db1, ",
        "host='db1,' port=5",
        "host=,db1 port=5",
        "host=a,b port=5, user=u",
    ] {
        assert_eq!(parse(text).servers().unwrap().len(), 2, "{text}");
    }
    // A password may end with a comma.
    assert_eq!(parse("password=a, host=h").get_password(), Some(&b"a,"[..]));
    let quoted = Config::new().host("db1,").user("u&").to_string();
    assert_eq!(quoted, "host='db1,' user='u&'");
    assert_eq!(parse(&quoted).to_string(), quoted);
}

/// In all of these, libpq takes a part of the password as a host, port or database.
#[test]
fn a_password_that_is_not_encoded_is_never_parsed_as_another_parameter() {
    let stray = format!("found @ after the user and password: {CODES}");
    let stray = &*stray;
    refuse(
        &[
            ("postgres://user:p@ss:word@host/db", "port at byte 25: ..."),
            ("postgres://user:p@ss@host/db", "host at byte 20: ..."),
            ("postgres://user:12/ss@host/db", "dbname at byte 21: ..."),
            ("postgres://user:p@ss/word@host/db", "dbname at byte 25: ..."),
            ("postgres://user:p@ss,word@host/db", "host at byte 25: ..."),
            ("postgres://user:p@12,x:34@host/db", "port at byte 25: ..."),
        ]
        .map(|(text, place)| (text, &*place.replace("...", stray).leak())),
    );
    let nested = "found a whole connection string inside one value";
    refuse(&[
        ("postgres://user:p@ss?word@host/db", &format!("at byte 25: {stray}")),
        ("postgres://user:p@ss?wo=rd@host/db", &format!("at byte 26: {stray}")),
        ("postgres://user:pass", "port at byte 16: expected a number from 1 to 65535"),
        ("postgres://user:pa/ss", "port at byte 16: expected a number from 1 to 65535"),
        ("host=user:pass@db1", "host at byte 5: expected a host name, found @ in it"),
        ("password=my secret host=h", &format!("at byte 12: {UNQUOTED}")),
        ("password=my se=cret", "at byte 12: this key is not known"),
        ("dbname=postgres://user:pass@host/db", &format!("dbname at byte 7: {nested}")),
        ("host=POSTGRESQL://user:pass@host/db", &format!("host at byte 5: {nested}")),
        ("dbname='host=h password = x'", &format!("dbname at byte 7: {nested}")),
    ]);
    let config = Config::new().host("postgres://user:secret@host").user("bob");
    assert_eq!(config.check().unwrap_err().to_string(), format!("host: {nested}"));
    assert!(!format!("{config:?}").contains("secret"));
}

/// In an earlier version the password became the host, was shown in the error of the lookup, and was sent to the name server.
#[test]
fn pairs_that_are_not_separated_by_blanks_are_refused() {
    let blanks = "pairs are separated by blanks, not by ; , or &, and a value that contains one is quoted: 'a;b'";
    for separator in [";", ",", "&", "; "] {
        let text = ["host=db1", "port=5432", "user=u", "password=hunter2", "database=d"];
        refuse(&[(&text.join(separator), &format!("host at byte 5: {blanks}"))]);
    }
    refuse(&[
        ("host=db1 user=u;pwd=hunter2", &format!("user at byte 14: {blanks}")),
        ("user=u; host=db1", &format!("user at byte 5: {blanks}")),
        ("password=hunter2;Database=d host=db1", &format!("password at byte 9: {blanks}")),
        ("dbname=d&user=u", &format!("dbname at byte 7: {blanks}")),
    ]);
    // If it does not look like a pair, or is quoted, it is part of the value.
    for text in ["password=a;b,c&d=e;", "password='a;user=b'", "options=-ca=b,c=d", "host=a,b"] {
        parse(text);
    }
    let nested = "found a whole connection string inside one value";
    let mark = "expected a host name, found one of : ; = & in it; a port is written port=5432";
    let number = "expected a host name, found a number; a port is written port=5432";
    refuse(&[
        ("dbname='d;password=hunter2'", &format!("dbname at byte 7: {nested}")),
        ("host='/tmp;password=hunter2'", &format!("host at byte 5: {nested}")),
        ("postgres://u@h/d;password=hunter2", &format!("dbname at byte 15: {nested}")),
        ("postgres://u@h;port=1/d", &format!("host at byte 13: {mark}")),
        ("host='db1;pass=hunter2'", &format!("host at byte 5: {mark}")),
        ("host=db1:5432", &format!("host at byte 5: {mark}")),
        ("host=db1,5432", &format!("host at byte 5: {number}")),
    ]);
    for host in ["::1", "fe80::1%eth0", "fe80::1%1", "10.0.0.1", "db-1.example", "1db", "/tmp/a=b"]
    {
        parse(&format!("host={host}"));
    }
    assert_eq!(
        Config::new().host("5432").check().unwrap_err().to_string(),
        format!("host: {number}")
    );
}

/// A password of letters that no message of this crate contains, and of every mark with a meaning.
fn secret() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "Ж", "Ω", "漢", "%D0%96", "%CE%A9", "1", "5432", ":", "/", "?", "#", "[", "]", "@", "=",
        "&", ",", "%", "+", " ", "'", "\\", "\t", "\0",
    ]);
    vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

/// Returns whether a text contains a letter of a [`secret`], encoded or not.
fn contains_secret(text: &str) -> bool {
    let lower = text.to_lowercase();
    !text.is_ascii() || ["%d0", "%96", "%ce", "%a9"].iter().any(|code| lower.contains(code))
}

/// Everything that an error prints.
fn words(error: ConfigError) -> String {
    let outer = Error::from(error);
    format!("{error}\n{error:?}\n{outer}\n{outer:?}\n{outer:#?}")
}

/// Everything that a configuration prints.
fn shown(config: &Config) -> String {
    format!("{config}\n{config:?}\n{config:#?}")
}

/// Fragments of both grammars, for texts that are nearly valid.
fn nearly() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "postgres://",
        "postgresql://",
        "user",
        "password",
        "host",
        "port",
        "dbname",
        "sslmode",
        "options",
        "hostaddr",
        "sslpassword",
        "application_name",
        "require",
        "127.0.0.1",
        "::1",
        "5432",
        "=",
        " = ",
        ":",
        "@",
        "/",
        "?",
        "&",
        ",",
        "[",
        "]",
        "%20",
        "%2F",
        "%zz",
        "%00",
        "%ff",
        "'",
        "\\",
        " ",
        "\n",
        "a",
        "é",
    ]);
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_error_repeats_a_password_at_any_position(
        before in nearly(), secret in secret(), after in nearly(), url: bool,
    ) {
        let text = format!("{}{before}{secret}{after}", if url { "postgres://" } else { "" });
        if let Err(error) = text.parse::<Config>() {
            prop_assert!(!contains_secret(&words(error)), "{text:?}: {error}");
        }
        let sources = [
            Config::new().set(&before, &secret).err(),
            Config::new().set("sslmode", &secret).err(),
            Config::new().host(&secret).hostaddr(&secret).check().err(),
            Config::new().with_environment(|_| Some(secret.clone())).err(),
        ];
        for error in sources.into_iter().flatten() {
            prop_assert!(!contains_secret(&words(error)), "{error}");
        }
    }

    #[test]
    fn no_configuration_shows_its_password(secret in secret()) {
        for text in [
            format!("postgres://user:{secret}@host/db"),
            format!("postgres://user:{secret}@host:5432,other:5433/db?sslmode=require"),
            format!("postgres://user:{secret}@[::1]/db"),
            format!("postgres://host/db?password={secret}"),
            format!("password={secret}"),
            format!("host=h password={secret} user=bob"),
            format!("host=h password='{secret}' user=bob"),
            format!("host= password={secret}"),
            format!("host=h user= password={secret}"),
        ] {
            match text.parse::<Config>() {
                Ok(config) => prop_assert!(!contains_secret(&shown(&config)), "{text:?}"),
                Err(error) => prop_assert!(!contains_secret(&words(error)), "{text:?}"),
            }
        }
        let set = Config::new().user("bob").password(secret.as_str());
        prop_assert!(!contains_secret(&shown(&set)));
    }

    #[test]
    fn no_error_and_no_debug_text_repeats_the_content_of_a_file(
        before in nearly(), secret in secret(), after in nearly(), key in select(vec![
            "password", "port", "sslmode", "sslpassword", "service", "passwort", "ldap", "",
        ]),
    ) {
        let text = format!("[a]\n{before}\n{key}={secret}{after}\n[b]\n{secret}");
        let file = ServiceFile::new(text.as_bytes());
        let mut shown = format!("{file:?}");
        for name in ["a", "b", &secret] {
            if let Err(error) = file.service(name) {
                shown += &words(error);
            }
        }
        let file = PassFile::new(text.as_str());
        let server = &Config::new().host("a").servers().unwrap()[0];
        shown += &format!("{file:?}{:?}", file.password(server, &before, &after));
        prop_assert!(!contains_secret(&shown), "{}", shown);
    }

    #[test]
    fn a_password_file_returns_the_password_that_was_written(
        host in prop_oneof!["[a-z*\\\\]{1,8}", Just("fe80::1".to_owned())], user in "[a-zé:*\\\\]{1,8}", password in "[^\0\r\n]{1,20}",
    ) {
        let escaped = |text: &str| text.replace('\\', r"\\").replace(':', r"\:").replace('*', r"\*");
        let line = format!("{}:*:*:{}:{}\n", escaped(&host), escaped(&user), escaped(&password));
        let server = &Config::new().host(&host).servers().unwrap()[0];
        let file = PassFile::new(format!("other:1:d:u:p\n{line}{line}"));
        let found = file.password(server, "shop", &user).unwrap();
        prop_assert_eq!(crate::sources::shown(&found), password);
        let other = user + "x";
        prop_assert!(file.password(server, "shop", &other).is_none());
    }

    #[test]
    fn a_password_survives_both_grammars(password in vec(1_u8.., 1..40), text in "[^\0]{1,20}") {
        let encoded: String = password.iter().map(|byte| format!("%{byte:02x}")).collect();
        let config = parse(&format!("postgres://u:{encoded}@h"));
        prop_assert_eq!(config.get_password(), Some(password.as_slice()));

        let escaped = text.replace('\\', r"\\").replace('\'', r"\'");
        let config = parse(&format!("host=h password='{escaped}' user=u"));
        prop_assert_eq!(config.get_password(), Some(text.as_bytes()));
        prop_assert_eq!(config.to_string(), "host=h user=u");
    }

    #[test]
    fn a_printed_configuration_parses_to_the_same(
        host in "[^\0]{0,12}", dbname: String, user: String, name in "[ '\\\\=a-c]{0,8}",
        ports in select(vec!["", "1", "65535"]), timeout: Duration, mode in select(vec![
            SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require,
            SslMode::VerifyCa, SslMode::VerifyFull,
        ]),
    ) {
        let config = Config::new().host(host).dbname(dbname).user(user).application_name(name)
            .connect_timeout(timeout).ssl_mode(mode).set("port", ports).unwrap();
        let read = parse(&config.to_string());
        prop_assert_eq!(read.to_string(), config.to_string());
        for key in ["host", "dbname", "user", "application_name", "connect_timeout", "sslmode"] {
            prop_assert_eq!(read.get(key), config.get(key));
        }
    }

    #[test]
    fn a_parsed_configuration_prints_and_parses_to_the_same(text in nearly()) {
        if let Ok(config) = text.parse::<Config>() {
            let shown = config.to_string();
            prop_assert_eq!(parse(&shown).to_string(), shown, "{:?}", text);
        }
    }

    #[test]
    fn no_text_panics(text: String, nearly in nearly(), url: bool) {
        let scheme = if url { "postgres://" } else { "" };
        for text in [format!("{scheme}{text}"), format!("{scheme}{nearly}{text}")] {
            if let Ok(config) = text.parse::<Config>() {
                // Getters must not panic either.
                prop_assert!(config.servers().is_ok() || config.get("host").is_none());
                let _ = (config.get_connect_timeout(), config.get_keepalives_idle());
            }
        }
    }
}
