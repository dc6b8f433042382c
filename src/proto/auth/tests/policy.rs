//! Tests of the policy: a request that it does not permit is not answered.

use super::*;

fn require(list: &str) -> RequireAuth {
    list.parse().unwrap()
}

fn over(channel: Channel, change: impl Fn(AuthPolicy) -> AuthPolicy) -> AuthPolicy {
    change(AuthPolicy::default().channel(channel))
}

fn bound() -> Channel {
    Channel::Tls { end_point: Some(vec![7; 32]) }
}

const NO_HASH: Channel = Channel::Tls { end_point: None };

const NOT_TRUSTED: Channel = Channel::UntrustedLocal { uid: Some(1) };

/// The first requests of a server, in the order of the columns below.
const REQUESTS: [&Authentication<'static>; 5] =
    [&Authentication::Ok, &Authentication::CleartextPassword, &MD5, &SASL, &PLUS];

/// The outcome of each request: `t` accepted as trust, `c` the password is sent in clear, `m` the MD5 response is sent,
/// `s` SCRAM begins, `p` with channel binding, `-` refused, `!` a violation.
fn outcomes(policy: &AuthPolicy) -> String {
    REQUESTS
        .map(|request| outcome(authenticator_with(credentials(), policy.clone()), request))
        .iter()
        .collect()
}

fn outcome(mut client: Authenticator, request: &Authentication<'_>) -> char {
    match client.handle(request) {
        Ok(AuthStep::Done(AuthMethod::Trust)) => 't',
        Ok(AuthStep::Send(response)) => match response.body() {
            b"secret\0" => 'c',
            body if body.starts_with(b"md5") => 'm',
            body if body.starts_with(b"SCRAM-SHA-256-PLUS\0") => 'p',
            body if body.starts_with(b"SCRAM-SHA-256\0") => 's',
            body => panic!("{}", body.escape_ascii()),
        },
        Ok(step) => panic!("{step:?}"),
        Err(AuthError::Violation { .. }) => '!',
        Err(error) => {
            assert!(client.handle(request).is_err(), "the error is final: {error}");
            assert!(client.handle(&Authentication::Ok).is_err(), "the error is final: {error}");
            '-'
        }
    }
}

/// A1, A12, A13, V16.
#[test]
fn a12_a13_a_request_that_the_policy_does_not_allow_is_not_answered() {
    let list = |list: &'static str| move |policy: AuthPolicy| policy.require_auth(require(list));
    let any = |policy: AuthPolicy| policy;
    let binding = |binding| move |policy: AuthPolicy| policy.channel_binding(binding);
    let preferred = |policy: AuthPolicy| policy.opportunistic(true);
    for (policy, expect) in [
        (over(Channel::Clear, any), "t-ms!"),
        (over(Channel::Local, any), "tcms!"),
        (over(NOT_TRUSTED, any), "t-ms!"),
        (over(NOT_TRUSTED, |policy| policy.allow_cleartext(true)), "tcms!"),
        (over(NOT_TRUSTED, list("password")), "-c--!"),
        (over(NOT_TRUSTED, list("!md5")), "t--s!"),
        // Without a hash, SCRAM cannot be bound: the certificate must have been verified.
        (over(NO_HASH, any), "tcms-"),
        (over(NO_HASH, |policy| policy.server_verified(true)), "tcmss"),
        (over(NO_HASH, binding(ChannelBinding::Disable)), "tcmss"),
        // For a password, TLS that is only preferred is treated like no TLS, unless the server was verified.
        (over(bound(), preferred), "t-msp"),
        (over(bound(), |policy| preferred(policy).server_verified(true)), "tcmsp"),
        (over(bound(), |policy| preferred(policy).allow_cleartext(true)), "tcmsp"),
        (over(bound(), |policy| preferred(list("password")(policy))), "-c---"),
        (over(bound(), |policy| preferred(list("!md5")(policy))), "t--sp"),
        (over(Channel::Local, preferred), "tcms!"),
        (over(Channel::Clear, |policy| preferred(policy).server_verified(true)), "t-ms!"),
        (over(bound(), any), "tcmsp"),
        (over(Channel::Clear, |policy| policy.allow_cleartext(true)), "tcms!"),
        (over(Channel::Clear, list("password")), "-c--!"),
        (over(Channel::Clear, list("!md5")), "t--s!"),
        (over(bound(), list("scram-sha-256")), "---sp"),
        (over(Channel::Clear, list("scram-sha-256")), "---s!"),
        (over(bound(), list("scram-sha-256,none")), "t--sp"),
        (over(bound(), list("md5")), "--m--"),
        (over(bound(), list("none")), "t----"),
        (over(bound(), list("!none")), "-cmsp"),
        (over(bound(), list("!password,!md5")), "t--sp"),
        (over(bound(), list("!scram-sha-256")), "tcm--"),
        (over(bound(), binding(ChannelBinding::Disable)), "tcmss"),
        (over(bound(), binding(ChannelBinding::Require)), "----p"),
        (over(NO_HASH, binding(ChannelBinding::Require)), "-----"),
        (over(Channel::Clear, binding(ChannelBinding::Require)), "-----"),
        (over(Channel::Local, binding(ChannelBinding::Require)), "-----"),
    ] {
        assert_eq!(outcomes(&policy), expect, "{policy:?}");
    }
}

/// Whatever else is allowed, `require` accepts only PLUS.
#[test]
fn other_settings_do_not_weaken_channel_binding_require() {
    for change in [
        |policy: AuthPolicy| policy.allow_cleartext(true),
        |policy: AuthPolicy| policy.require_auth(require("!gss")),
        |policy: AuthPolicy| policy.require_auth(require("none,scram-sha-256,password")),
    ] {
        let policy = over(bound(), change).channel_binding(ChannelBinding::Require);
        assert_eq!(outcomes(&policy), "----p", "{policy:?}");
    }
}

/// A2: with PLUS as without it, only a verified server is accepted.
#[test]
fn a2_channel_binding_require_rejects_ok_in_an_incomplete_exchange() {
    let policy = over(bound(), |policy| policy.channel_binding(ChannelBinding::Require));
    let mut client = authenticator_with(credentials(), policy);
    sent(client.handle(&PLUS));
    let (expected, _) = violation(client.handle(&Authentication::Ok));
    assert_eq!(expected, "the next message of the SCRAM exchange");
}

#[test]
fn a17_with_channel_binding_disable_the_header_says_so() {
    let policy = over(bound(), |policy| policy.channel_binding(ChannelBinding::Disable));
    for offer in [&SASL, &PLUS] {
        let body = sent(authenticator_with(credentials(), policy.clone()).handle(offer));
        let expect = [b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=", NONCE.as_bytes()].concat();
        assert_eq!(body, expect);
    }
}

/// The error contains the requested method, the setting that refuses it, and what to do.
#[test]
fn a_refusal_names_the_setting_and_has_a_hint() {
    let list = |list: &'static str| move |policy: AuthPolicy| policy.require_auth(require(list));
    let bind = |policy: AuthPolicy| policy.channel_binding(ChannelBinding::Require);
    let (ok, clear) = (&Authentication::Ok, &Authentication::CleartextPassword);
    let oauth = &Authentication::Sasl { mechanisms: b"OAUTHBEARER\0\0" };
    let gss = &Authentication::Unsupported { code: 7, data: b"" };
    for (policy, request, says) in [
        (
            over(Channel::Clear, |policy| policy),
            clear,
            "server asks for method password, and the password would be sent in clear (hint: use TLS",
        ),
        (
            over(NOT_TRUSTED, |policy| policy),
            clear,
            "server asks for method password and runs as account number 1, which is neither root, postgres nor the one of \
             this process (hint: any local user may",
        ),
        (
            over(Channel::UntrustedLocal { uid: None }, |policy| policy),
            clear,
            "server asks for method password, and the account that it runs as is not known (hint: any",
        ),
        (
            over(bound(), list("scram-sha-256")),
            ok,
            "server asks for no authentication, which require_auth=scram-sha-256 does not allow (hint: trust, peer",
        ),
        (
            over(bound(), list("scram-sha-256,none")),
            &MD5,
            "server asks for method md5, which require_auth=scram-sha-256,none does not allow (hint: \
             pg_hba.conf",
        ),
        (
            over(bound(), bind),
            &MD5,
            "server asks for method md5, which channel_binding=require does not allow (hint: give \
             the role scram-sha-256 in pg_hba.conf and a password that is stored so, or set channel_binding=prefer)",
        ),
        (
            over(bound(), bind),
            &SASL,
            "channel_binding=require cannot be met: the server does not offer SCRAM-SHA-256-PLUS \
             (hint: a pooler or proxy that ends the TLS, or a server before PostgreSQL 11, cannot offer it: connect \
             directly to the server, or set channel_binding=prefer)",
        ),
        (
            over(NO_HASH, bind),
            &PLUS,
            "channel_binding=require cannot be met: the signature algorithm of the server's \
             certificate (Ed25519 and the like) defines no hash to bind to (hint: have the certificate \
             signed with RSA or ECDSA",
        ),
        (
            over(Channel::Clear, bind),
            &SASL,
            "channel_binding=require cannot be met: the connection is not encrypted (hint: use TLS",
        ),
        (
            over(NO_HASH, |policy| policy),
            &PLUS,
            "(Ed25519 and the like) defines no hash to bind to (hint: verify the server (sslmode=verify-full with \
             sslrootcert), have its certificate signed with RSA or ECDSA, or set channel_binding=disable)",
        ),
        (
            over(bound(), |policy| policy.opportunistic(true)),
            clear,
            "server asks for method password, TLS is only preferred, and the certificate was not verified: the \
             password would be sent in clear to any server (hint: verify the server (sslmode=verify-full with \
             sslrootcert), give the role scram-sha-256, or allow it with sslmode=require or require_auth=password)",
        ),
        (
            over(bound(), |policy| policy),
            oauth,
            "found OAUTHBEARER (hint: OAuth is not supported: give the role scram-sha-256 in pg_hba.conf)",
        ),
        (
            over(bound(), list("gss,scram-sha-256")),
            gss,
            "server asks for GSSAPI (code 7), which is not supported (hint: pgbell supports scram-sha-256, md5, \
             password and client certificates: give the role one of them in pg_hba.conf)",
        ),
    ] {
        let error = authenticator_with(credentials(), policy).handle(request).unwrap_err();
        let error = Error::from(error);
        assert!(error.to_string().contains(says), "{error}");
        assert!(matches!(error.kind(), ErrorKind::Auth | ErrorKind::Unsupported), "{error}");
        assert!(!error.is_transient());
    }
}

/// Such a policy is an error of the configuration, before connecting.
#[test]
fn a_policy_that_no_server_can_satisfy_is_refused_before_a_byte_is_sent() {
    let bind = |policy: AuthPolicy| policy.channel_binding(ChannelBinding::Require);
    for (policy, says) in [
        (
            AuthPolicy::default().require_auth(require("gss,sspi,oauth")),
            "require_auth=gss,sspi,oauth allows no method that is supported (hint: name one of scram-sha-256, md5, \
             password and none in require_auth)",
        ),
        (
            AuthPolicy::default().require_auth(require("!password,!md5,!scram-sha-256,!none")),
            "require_auth=!password,!md5,!scram-sha-256,!none allows no method",
        ),
        (
            bind(AuthPolicy::default().channel(bound()).require_auth(require("md5,none"))),
            "channel_binding=require needs scram-sha-256, which require_auth=md5,none does not allow \
             (hint: allow scram-sha-256, or set channel_binding=prefer)",
        ),
    ] {
        let error = Error::from(policy.check().unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(outcomes(&policy).replace('!', "-"), "-----");
    }
    for policy in [
        AuthPolicy::default(),
        AuthPolicy::default().require_auth(require("none")),
        bind(AuthPolicy::default().channel(bound())),
        bind(AuthPolicy::default().channel(bound()).require_auth(require("!none"))),
    ] {
        assert_eq!((policy.check(), policy.check_channel()), (Ok(()), Ok(())), "{policy:?}");
    }
    // The channel is not known before connecting.
    for (channel, obstacle) in [
        (NO_HASH, Obstacle::NoHash),
        (Channel::Clear, Obstacle::NoTls),
        (Channel::Local, Obstacle::NoTls),
        (NOT_TRUSTED, Obstacle::NoTls),
    ] {
        let unbound = bind(AuthPolicy::default().channel(channel));
        assert_eq!(unbound.check(), Ok(()));
        assert_eq!(unbound.check_channel(), Err(AuthError::NoChannelBinding { obstacle }));
    }
}
