//! Parameters of TLS, authentication and protocol versions, and the defaults.

use std::time::Duration;

use pgbell::Config;
use pgbell::config::{
    ChannelBinding, LoadBalanceHosts, SslCertMode, SslMode, SslNegotiation, TargetSessionAttrs,
    TlsVersion,
};
use pgbell::proto::Effective;
use pgbell::proto::wire::ProtocolVersion;

use crate::{parse, refuse};

#[test]
fn setters_and_getters_of_security_agree() {
    let config = Config::new()
        .passfile("/p")
        .service("one")
        .service_file("/s")
        .ssl_mode(SslMode::VerifyFull)
        .ssl_negotiation(SslNegotiation::Direct)
        .ssl_root_cert("system")
        .ssl_cert("/c")
        .ssl_key("/k")
        .ssl_cert_mode(SslCertMode::Require)
        .ssl_crl("/l")
        .ssl_crl_dir("/d")
        .ssl_sni(false)
        .ssl_min_protocol_version(TlsVersion::V1_2)
        .ssl_max_protocol_version(TlsVersion::V1_3)
        .channel_binding(ChannelBinding::Require)
        .require_auth("scram-sha-256,none")
        .require_peer("postgres")
        .min_protocol_version(ProtocolVersion::V3_0)
        .max_protocol_version(ProtocolVersion::V3_2);
    config.check().unwrap();
    let text = "passfile=/p service=one servicefile=/s sslmode=verify-full sslnegotiation=direct \
                sslrootcert=system sslcert=/c sslkey=/k sslcertmode=require sslcrl=/l sslcrldir=/d \
                sslsni=0 ssl_min_protocol_version=TLSv1.2 ssl_max_protocol_version=TLSv1.3 \
                channel_binding=require require_auth=scram-sha-256,none requirepeer=postgres \
                min_protocol_version=3.0 max_protocol_version=3.2";
    assert_eq!(config.to_string(), text);
    for config in [config, parse(text)] {
        assert_eq!(config.get_passfile(), Some("/p"));
        assert_eq!(config.get_service(), Some("one"));
        assert_eq!(config.get_service_file(), Some("/s"));
        assert_eq!(config.get_ssl_mode(), Some(SslMode::VerifyFull));
        assert_eq!(config.get_ssl_negotiation(), SslNegotiation::Direct);
        assert_eq!(config.get_ssl_root_cert(), Some("system"));
        assert_eq!(config.get_ssl_cert(), Some("/c"));
        assert_eq!(config.get_ssl_key(), Some("/k"));
        assert_eq!(config.get_ssl_cert_mode(), SslCertMode::Require);
        assert_eq!(config.get_ssl_crl(), Some("/l"));
        assert_eq!(config.get_ssl_crl_dir(), Some("/d"));
        assert!(!config.get_ssl_sni());
        assert_eq!(config.get_ssl_min_protocol_version(), Some(TlsVersion::V1_2));
        assert_eq!(config.get_ssl_max_protocol_version(), Some(TlsVersion::V1_3));
        assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
        let methods = config.get_require_auth().unwrap();
        assert_eq!(methods.to_string(), "scram-sha-256,none");
        assert_eq!(config.get_require_peer(), Some("postgres"));
        assert_eq!(config.get_min_protocol_version(), Some(ProtocolVersion::V3_0));
        assert_eq!(config.get_max_protocol_version(), Some(ProtocolVersion::V3_2));
    }
    let nothing = Config::new();
    assert_eq!(nothing.get_ssl_mode(), None);
    assert_eq!(nothing.get_require_auth(), None);
    assert_eq!(nothing.get_min_protocol_version(), None);
    let invalid = Config::new().require_auth("scram").check().unwrap_err();
    assert_eq!(invalid.key(), Some("require_auth"));
}

#[test]
fn versions_are_parsed_in_the_notation_of_libpq() {
    for (text, min, max) in [
        ("TLSv1.2", Some(TlsVersion::V1_2), Some(TlsVersion::V1_2)),
        ("tlsV1.3", Some(TlsVersion::V1_3), Some(TlsVersion::V1_3)),
        ("''", None, None),
    ] {
        let config =
            parse(&format!("ssl_min_protocol_version={text} ssl_max_protocol_version={text}"));
        assert_eq!(config.get_ssl_min_protocol_version(), min);
        assert_eq!(config.get_ssl_max_protocol_version(), max);
    }
    // A limit that allows an older version is accepted, and the version is not used; a limit that requires one is refused.
    for older in ["TLSv1", "tlsv1.1"] {
        let config = parse(&format!("ssl_min_protocol_version={older}"));
        assert_eq!(config.get_ssl_min_protocol_version(), Some(TlsVersion::V1_2));
        let error = format!("ssl_max_protocol_version={older}").parse::<Config>().unwrap_err();
        assert!(error.to_string().ends_with("this version supports only TLSv1.2, TLSv1.3"));
    }
    for (text, version) in [("3.0", "3.0"), ("3.2", "3.2"), ("latest", "3.2")] {
        let config = parse(&format!("max_protocol_version={text}"));
        assert_eq!(config.get_max_protocol_version().unwrap().to_string(), version);
    }
    let versions = "expected one of 3.0, 3.2, latest";
    refuse(&[
        ("max_protocol_version=3.1", &format!("max_protocol_version at byte 21: {versions}")),
        ("min_protocol_version=3", &format!("min_protocol_version at byte 21: {versions}")),
        ("max_protocol_version=''", &format!("max_protocol_version at byte 21: {versions}")),
    ]);
}

#[test]
fn the_iterations_of_scram_have_a_minimum_and_a_maximum() {
    let bounds = |config: &Config| {
        (Effective::of(config).scram_iterations_min(), Effective::of(config).scram_iterations_max())
    };
    for (text, expected) in [
        ("host=h", (4_096, 2_000_000)),
        ("scram_iterations_min=1", (1, 2_000_000)),
        ("postgres://h?scram_iterations_max=10000000", (4_096, 10_000_000)),
        ("scram_iterations_min=600000 scram_iterations_max=600000", (600_000, 600_000)),
        ("scram_iterations_max=2147483647 scram_iterations_min=' 1 '", (1, 2_147_483_647)),
        // If only one is given, the default of the other one adapts to it.
        ("scram_iterations_min=3000000", (3_000_000, 3_000_000)),
        ("scram_iterations_max=1000", (1_000, 1_000)),
    ] {
        let config = parse(text);
        config.check_complete().unwrap();
        assert_eq!(bounds(&config), expected, "{text}");
        assert_eq!(bounds(&parse(&config.to_string())), expected, "{text}");
    }
    let set = Config::new().scram_iterations_min(10_000).scram_iterations_max(u32::MAX);
    assert_eq!(set.to_string(), "scram_iterations_min=10000 scram_iterations_max=2147483647");
    assert_eq!(set.get_scram_iterations_min(), Some(10_000));
    let none = Config::new();
    assert_eq!((none.get_scram_iterations_min(), none.get_scram_iterations_max()), (None, None));
    let number = "expected a number from 1 to 2147483647";
    for value in ["0", "-1", "4096x", "2147483648", "1e6"] {
        let refused = [
            (format!("scram_iterations_min={value}"), "scram_iterations_min at byte 21"),
            (format!("scram_iterations_max={value}"), "scram_iterations_max at byte 21"),
        ];
        for (text, place) in refused {
            let error = text.parse::<Config>().unwrap_err();
            assert_eq!(error.to_string(), format!("{place}: {number}"), "{text}");
        }
    }
    let zero = Config::new().scram_iterations_max(0).check().unwrap_err();
    assert_eq!(zero.key(), Some("scram_iterations_max"));
}

#[test]
fn contradicting_parameters_are_refused() {
    let system = "sslmode: sslrootcert=system needs verify-full, which is its default";
    let direct = "sslmode: sslnegotiation=direct needs require, verify-ca or verify-full";
    refuse(&[
        ("sslmode=require sslrootcert=system", system),
        ("postgres://h?sslrootcert=system&sslmode=disable", system),
        ("sslmode=verify-ca sslrootcert=system", system),
        ("sslmode=disable sslnegotiation=direct", direct),
        ("sslmode=allow sslnegotiation=direct", direct),
        ("postgres://h?sslnegotiation=direct&sslmode=prefer", direct),
        (
            "sslmode=disable channel_binding=require",
            "channel_binding: require needs TLS, which sslmode=disable forbids",
        ),
        (
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
            "ssl_min_protocol_version: the value is greater than ssl_max_protocol_version",
        ),
        (
            "scram_iterations_min=4097 scram_iterations_max=4096",
            "scram_iterations_min: the value is greater than scram_iterations_max",
        ),
        (
            "min_protocol_version=latest max_protocol_version=3.0",
            "min_protocol_version: the value is greater than max_protocol_version",
        ),
    ]);
    // Another source may still contain what is missing; if none does, the default counts.
    let direct_alone = parse("sslnegotiation=direct");
    assert_eq!(direct_alone.check_complete().unwrap_err().to_string(), direct);
    assert!(direct_alone.ssl_mode(SslMode::Require).check_complete().is_ok());
    parse("sslrootcert=system sslnegotiation=direct").check_complete().unwrap();
    // Setters can contradict each other too, in any order.
    let weak = Config::new().ssl_mode(SslMode::Prefer).ssl_root_cert("system");
    assert_eq!(weak.check().unwrap_err().to_string(), system);
    assert_eq!(weak.servers().unwrap_err().to_string(), system);
}

#[test]
fn sslrootcert_system_requires_verify_full() {
    let config = parse("sslrootcert=system");
    assert_eq!(config.get_ssl_mode(), Some(SslMode::VerifyFull));
    assert_eq!(Effective::of(&config).ssl_mode(), SslMode::VerifyFull);
    assert_eq!(parse("sslrootcert=/ca").get_ssl_mode(), None);
    // The old parameter for TLS requires less.
    let one = |name: &str| (name == "PGREQUIRESSL").then_some("1");
    let weak = config.with_environment(one).unwrap();
    assert_eq!(weak.check().unwrap_err().key(), Some("sslmode"));
}

#[test]
fn authentication_methods_are_checked_when_they_are_parsed() {
    for (methods, words) in [
        ("scram", "expected password, md5, gss"),
        ("md5,md5", "is in the list twice"),
        ("md5,!password", "cannot be in one list"),
        ("md5, password", "no blanks"),
    ] {
        let error = format!("require_auth='{methods}'").parse::<Config>().unwrap_err();
        assert_eq!((error.key(), error.position()), (Some("require_auth"), Some(13)));
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(parse("require_auth=''").get_require_auth().is_none());
}

#[test]
fn missing_parameters_have_the_defaults_of_a_listener() {
    let config = Config::new();
    assert_eq!(Effective::of(&config).application_name(), "pgbell");
    assert_eq!(Effective::of(&parse("fallback_application_name=f")).application_name(), "f");
    assert_eq!(Effective::of(&config).connect_timeout(), Duration::from_secs(10));
    // In libpq 0 means no timeout. A listener could wait without a limit, so it uses the default.
    assert_eq!(
        Effective::of(&parse("connect_timeout=0")).connect_timeout(),
        Duration::from_secs(10)
    );
    assert_eq!(
        Effective::of(&parse("connect_timeout=3")).connect_timeout(),
        Duration::from_secs(3)
    );
    let keepalive = Effective::of(&config).keepalive().unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(
        (keepalive.idle, keepalive.interval, keepalive.count),
        (seconds(30), seconds(10), 3)
    );
    assert_eq!(Effective::of(&parse("keepalives_idle=7")).keepalive().unwrap().idle, seconds(7));
    assert_eq!(Effective::of(&parse("keepalives=0 keepalives_idle=7")).keepalive(), None);
    assert_eq!(Effective::of(&config).tcp_user_timeout(), seconds(30));
    assert_eq!(Effective::of(&parse("tcp_user_timeout=0")).tcp_user_timeout(), Duration::ZERO);
    assert_eq!(Effective::of(&config).load_balance_hosts(), LoadBalanceHosts::Disable);
    assert_eq!(Effective::of(&config).ssl_mode(), SslMode::Prefer);
    assert!(config.get_ssl_sni());
}

/// A standby refuses LISTEN.
#[test]
fn the_default_of_target_session_attrs_is_primary_for_several_servers() {
    for (text, attrs) in [
        ("", TargetSessionAttrs::Any),
        ("host=a", TargetSessionAttrs::Any),
        ("host=a hostaddr=::1", TargetSessionAttrs::Any),
        ("host=a,b", TargetSessionAttrs::Primary),
        ("hostaddr=::1,::2", TargetSessionAttrs::Primary),
        ("postgres://a,b/", TargetSessionAttrs::Primary),
        ("host=a,b target_session_attrs=any", TargetSessionAttrs::Any),
        ("host=a target_session_attrs=standby", TargetSessionAttrs::Standby),
    ] {
        assert_eq!(Effective::of(&parse(text)).target_session_attrs(), attrs, "{text}");
    }
}

#[test]
fn the_default_protocol_is_3_0() {
    for (text, min, max) in [
        ("", "3.0", "3.0"),
        ("max_protocol_version=latest", "3.0", "3.2"),
        ("min_protocol_version=3.2", "3.2", "3.2"),
        ("min_protocol_version=3.0 max_protocol_version=3.2", "3.0", "3.2"),
    ] {
        let config = parse(text);
        assert_eq!(Effective::of(&config).min_protocol_version().to_string(), min, "{text}");
        assert_eq!(Effective::of(&config).max_protocol_version().to_string(), max, "{text}");
    }
}
