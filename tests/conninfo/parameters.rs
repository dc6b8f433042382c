//! Parameters: their values, setters, getters and other sources.

use std::time::Duration;

use pgbell::config::{ConfigError, Host, LoadBalanceHosts, Server, SslMode, TargetSessionAttrs};
use pgbell::{Config, Error, ErrorKind};

use crate::parse;

#[test]
fn unsupported_parameters_are_refused_by_name_and_with_the_reason() {
    for (key, reason) in [
        ("gsslib", "GSSAPI is not supported"),
        ("oauth_ca_file", "OAuth is not supported"),
        ("oauth_client_id", "OAuth is not supported"),
        ("oauth_client_secret", "OAuth is not supported"),
        ("oauth_issuer", "OAuth is not supported"),
        ("oauth_scope", "OAuth is not supported"),
        ("scram_client_key", "SCRAM keys in place of a password are not supported"),
        ("scram_server_key", "SCRAM keys in place of a password are not supported"),
        ("sslkeylogfile", "the secrets of a TLS session are never written to a file"),
        ("sslpassword", "encrypted private keys are not supported, decrypt the file of sslkey"),
    ] {
        let error = format!("{key}=x").parse::<Config>().unwrap_err();
        assert_eq!(error.key(), Some(key));
        assert_eq!(error.position(), Some(key.len() + 1));
        assert!(error.to_string().contains(&format!(": {reason}")), "{error}");
        assert!(format!("{key}=''").parse::<Config>().is_ok(), "{key}");
    }
    for (key, asks_for_nothing, asks) in [
        ("gssencmode", "disable prefer", "require"),
        ("gssdelegation", "0", "1"),
        ("replication", "false off no 0", "database"),
        ("sslcompression", "0", "1"),
    ] {
        for value in asks_for_nothing.split(' ') {
            assert!(format!("{key}={value}").parse::<Config>().is_ok(), "{key}={value}");
        }
        let error = format!("{key}='{asks}'").parse::<Config>().unwrap_err();
        assert_eq!(error.key(), Some(key));
        assert!(error.to_string().contains("this version supports only"), "{error}");
    }
    assert!("krbsrvname=x".parse::<Config>().is_ok());
}

#[test]
fn hosts_addresses_and_ports_are_paired() {
    fn servers(text: &str) -> Vec<(Option<Host>, Option<String>, u16)> {
        let servers = parse(text).servers().unwrap();
        let address = |server: &Server| server.address().map(|a| a.to_string());
        servers.iter().map(|s| (s.host().cloned(), address(s), s.port())).collect()
    }
    let tcp = |name: &str| Some(Host::Tcp(name.to_owned()));
    let unix = |name: &str| Some(Host::Unix(name.to_owned()));
    let ip = |address: &str| Some(address.to_owned());

    assert_eq!(servers(""), [(None, None, 5432)]);
    assert_eq!(servers("host=''"), [(None, None, 5432)]);
    assert_eq!(servers("port=7"), [(None, None, 7)]);
    assert_eq!(servers("port=' 7 '"), [(None, None, 7)]);
    assert_eq!(servers("host=a,b"), [(tcp("a"), None, 5432), (tcp("b"), None, 5432)]);
    assert_eq!(servers("host=a,b port=7"), [(tcp("a"), None, 7), (tcp("b"), None, 7)]);
    assert_eq!(servers("host=a,b port=7,"), [(tcp("a"), None, 7), (tcp("b"), None, 5432)]);
    assert_eq!(
        servers("postgres://[::1]:7,%2Frun,%40b:8,/"),
        [
            (tcp("::1"), None, 7),
            (unix("/run"), None, 5432),
            (unix("@b"), None, 8),
            (None, None, 5432),
        ]
    );
    assert_eq!(
        servers("hostaddr=::1,127.0.0.1 port=1,2"),
        [(None, ip("::1"), 1), (None, ip("127.0.0.1"), 2)]
    );
    assert_eq!(
        servers("host=a,b hostaddr=,::1"),
        [(tcp("a"), None, 5432), (tcp("b"), ip("::1"), 5432)]
    );

    // Ports without a host are kept for the hosts of another source.
    let ports = parse("port=1,2");
    assert_eq!(
        ports.servers().unwrap_err().to_string(),
        "port: found 2 ports for 1 hosts, expected one, or one for each"
    );
    assert_eq!(ports.host("a,b").servers().unwrap().len(), 2);
}

#[test]
fn setters_and_getters_agree() {
    let config = Config::new()
        .host("db1")
        .hostaddr("192.0.2.1")
        .port(5433)
        .dbname("shop")
        .user("bob")
        .password("secret")
        .application_name("app")
        .options("-c geqo=off")
        .connect_timeout(Duration::from_millis(1_500))
        .keepalives(false)
        .keepalives_idle(Duration::from_millis(29_001))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_count(3)
        .tcp_user_timeout(Duration::from_micros(29_999_001))
        .target_session_attrs(TargetSessionAttrs::Primary)
        .load_balance_hosts(LoadBalanceHosts::Random)
        .ssl_mode(SslMode::VerifyFull);
    config.check().unwrap();
    assert_eq!(
        config.to_string(),
        "host=db1 hostaddr=192.0.2.1 port=5433 dbname=shop user=bob application_name=app \
         options='-c geqo=off' connect_timeout=1.500 keepalives=0 keepalives_idle=30 \
         keepalives_interval=10 keepalives_count=3 tcp_user_timeout=30000 \
         target_session_attrs=primary load_balance_hosts=random sslmode=verify-full"
    );
    assert_eq!(config.get("host"), Some("db1"));
    assert_eq!(config.get("password"), None);
    assert_eq!(config.get_dbname(), Some("shop"));
    assert_eq!(config.get_user(), Some("bob"));
    assert_eq!(config.get_password(), Some(&b"secret"[..]));
    assert_eq!(config.get_application_name(), Some("app"));
    assert_eq!(config.get_options(), Some("-c geqo=off"));
    assert_eq!(config.get_connect_timeout(), Some(Duration::from_millis(1_500)));
    assert_eq!(config.get_keepalives(), Some(false));
    assert_eq!(config.get_keepalives_idle(), Some(Duration::from_secs(30)));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(10)));
    assert_eq!(config.get_keepalives_count(), Some(3));
    assert_eq!(config.get_tcp_user_timeout(), Some(Duration::from_secs(30)));
    assert_eq!(config.get_target_session_attrs(), Some(TargetSessionAttrs::Primary));
    assert_eq!(config.get_load_balance_hosts(), Some(LoadBalanceHosts::Random));
    assert_eq!(config.get_ssl_mode(), Some(SslMode::VerifyFull));

    let fallback = parse("fallback_application_name=f");
    assert_eq!(fallback.get_application_name(), Some("f"));
    assert_eq!(fallback.get_ssl_mode(), None);
    assert_eq!(parse("user='' password=''").get_user(), None);
    assert_eq!(parse("user='' password=''").get_password(), None);
}

#[test]
fn timeouts_are_rounded_up_and_never_become_no_limit() {
    for (given, kept) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_nanos(1), Duration::from_millis(1)),
        (Duration::from_nanos(999_999_999), Duration::from_secs(1)),
        (Duration::from_secs(3), Duration::from_secs(3)),
        (Duration::MAX, Duration::from_secs(2_147_483_647)),
    ] {
        let config = Config::new().connect_timeout(given);
        assert_eq!(config.get_connect_timeout(), Some(kept));
    }
    for (text, kept) in [("-1", 0), ("0", 0), (" 5 ", 5_000), ("+5", 5_000), ("0.25", 250)] {
        let config = Config::new().set("connect_timeout", text).unwrap();
        assert_eq!(config.get_connect_timeout(), Some(Duration::from_millis(kept)), "{text}");
    }
    for text in [".5", "1.", "1.2345", "-0.5", "1e3", "2147483648", "2147483648.1", "1.+1"] {
        assert!(Config::new().set("connect_timeout", text).is_err(), "{text}");
    }
    let idle = Config::new().keepalives_idle(Duration::MAX).keepalives_count(1);
    assert_eq!(idle.get_keepalives_idle(), Some(Duration::from_secs(2_147_483_647)));
    assert_eq!(parse("keepalives_idle=-1").get_keepalives_idle(), Some(Duration::ZERO));
}

#[test]
fn a_zero_byte_is_refused_in_every_value() {
    let configs = [
        ("host", Config::new().host("a\0b")),
        ("dbname", Config::new().dbname("\0")),
        ("user", Config::new().user("a\0")),
        ("password", Config::new().password("a\0b")),
        ("application_name", Config::new().application_name("x\0user\0admin")),
        ("options", Config::new().options("a\0b")),
    ];
    for (key, config) in configs {
        for error in [config.check().unwrap_err(), config.servers().unwrap_err()] {
            assert_eq!(error.to_string(), format!("{key}: found a zero byte"));
            assert_eq!((error.key(), error.position()), (Some(key), None));
        }
        assert_eq!(config.to_string(), "");
    }
    // The first mistake counts, even if a later call sets a valid value.
    let twice = Config::new().user("a\0").port(0).user("bob");
    assert_eq!(twice.check().unwrap_err().key(), Some("user"));
}

#[test]
fn the_environment_fills_missing_parameters() {
    let variables = [
        ("PGHOST", "db1"),
        ("PGPORT", "7"),
        ("PGUSER", "eve"),
        ("PGPASSWORD", "secret"),
        ("PGDATABASE", "shop"),
        ("PGAPPNAME", ""),
        ("PGSSLCOMPRESSION", "0"),
        ("PGREQUIRESSL", "1"),
    ];
    let lookup = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let config = parse("user=bob dbname=''").with_environment(lookup).unwrap();
    assert_eq!(config.to_string(), "host=db1 port=7 dbname='' user=bob sslmode=require");
    assert_eq!(config.get_password(), Some(&b"secret"[..]));
    let config = parse("password=mine sslmode=disable").with_environment(lookup).unwrap();
    assert_eq!(config.get_password(), Some(&b"mine"[..]));
    assert_eq!(config.get_ssl_mode(), Some(SslMode::Disable));

    for (variable, value, expected) in [
        ("PGPORT", "seven", "PGPORT: expected a number from 1 to 65535"),
        ("PGGSSLIB", "x", "PGGSSLIB: GSSAPI is not supported"),
        ("PGUSER", "a\0b", "PGUSER: found a zero byte"),
        ("PGHOST", "postgres://u:p@h", "PGHOST: found a whole connection string inside one value"),
    ] {
        let error = Config::new()
            .with_environment(|name| (name == variable).then(|| value.to_owned()))
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.variable(), Some(variable));
    }
}

#[test]
fn connect_accepts_texts_and_configurations() {
    fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<String, Error> {
        config.try_into().map_err(Into::into).map(|config| config.to_string())
    }
    let owned = "host=a".to_owned();
    let config = parse("host=a");
    assert_eq!(connect("host=a").unwrap(), "host=a");
    assert_eq!(connect(&owned).unwrap(), "host=a");
    assert_eq!(connect(&config).unwrap(), "host=a");
    assert_eq!(connect(config).unwrap(), "host=a");
    assert_eq!(connect(owned).unwrap(), "host=a");

    let error = connect("port=x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "configuration: \
             port at byte 5: expected a number from 1 to 65535"
    );

    fn usable_anywhere<T: Send + Sync + Clone + 'static>() {}
    usable_anywhere::<Config>();
    usable_anywhere::<ConfigError>();
}
