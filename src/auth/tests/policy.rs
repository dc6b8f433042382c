//! What a policy lets through, and what a server that asks for anything else gets: nothing.

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

/// What becomes of each request: `t` let in by trust, `c` the password goes out, `m` the MD5 response,
/// `s` SCRAM begins, `p` with channel binding, `-` refused, `!` a violation.
fn outcomes(policy: &AuthPolicy) -> String {
    REQUESTS
        .map(|request| outcome(authenticator_with(credentials(), policy.clone()), request))
        .iter()
        .collect()
}

fn outcome(mut client: Authenticator, request: &Authentication<'_>) -> char {
    match client.handle(request) {
        Ok(Step::Done(AuthMethod::Trust)) => 't',
        Ok(Step::Send(response)) => match response.body() {
            b"secret\0" => 'c',
            body if body.starts_with(b"md5") => 'm',
            body if body.starts_with(b"SCRAM-SHA-256-PLUS\0") => 'p',
            body if body.starts_with(b"SCRAM-SHA-256\0") => 's',
            body => panic!("{}", body.escape_ascii()),
        },
        Ok(step) => panic!("{step:?}"),
        Err(AuthError::Violation { .. }) => '!',
        Err(error) => {
            assert!(client.handle(request).is_err(), "and stays so: {error}");
            assert!(client.handle(&Authentication::Ok).is_err(), "and stays so: {error}");
            '-'
        }
    }
}

/// A1, A12, A13, V16: nothing is answered that the policy does not allow.
#[test]
fn a12_a13_what_is_not_allowed_is_not_answered() {
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
        // Without a hash, what is offered can be bound to no certificate: only one that was verified will do.
        (over(NO_HASH, any), "tcms-"),
        (over(NO_HASH, |policy| policy.server_verified(true)), "tcmss"),
        (over(NO_HASH, binding(ChannelBinding::Disable)), "tcmss"),
        // TLS that is only preferred counts as the clear for a password, unless the server was verified.
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

/// Whatever is allowed, `require` insists on PLUS.
#[test]
fn channel_binding_require_is_not_softened_by_anything_else() {
    for change in [
        |policy: AuthPolicy| policy.allow_cleartext(true),
        |policy: AuthPolicy| policy.require_auth(require("!gss")),
        |policy: AuthPolicy| policy.require_auth(require("none,scram-sha-256,password")),
    ] {
        let policy = over(bound(), change).channel_binding(ChannelBinding::Require);
        assert_eq!(outcomes(&policy), "----p", "{policy:?}");
    }
}

/// A2: with PLUS as without it, only a verified server is believed.
#[test]
fn a2_channel_binding_require_does_not_believe_an_unfinished_exchange() {
    let policy = over(bound(), |policy| policy.channel_binding(ChannelBinding::Require));
    let mut client = authenticator_with(credentials(), policy);
    sent(client.handle(&PLUS));
    let (expected, _) = violation(client.handle(&Authentication::Ok));
    assert_eq!(expected, "the next message of the SCRAM exchange");
}

#[test]
fn a17_channel_binding_disable_says_so_in_the_header_and_is_bound_to_nothing() {
    let policy = over(bound(), |policy| policy.channel_binding(ChannelBinding::Disable));
    for offer in [&SASL, &PLUS] {
        let body = sent(authenticator_with(credentials(), policy.clone()).handle(offer));
        let expect = [b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=", NONCE.as_bytes()].concat();
        assert_eq!(body, expect);
    }
}

/// What a user reads: what was asked for, by which setting it is refused, what to do.
#[test]
fn a_refusal_names_the_setting_and_the_cure() {
    let list = |list: &'static str| move |policy: AuthPolicy| policy.require_auth(require(list));
    let bind = |policy: AuthPolicy| policy.channel_binding(ChannelBinding::Require);
    let (ok, clear) = (&Authentication::Ok, &Authentication::CleartextPassword);
    let oauth = &Authentication::Sasl { mechanisms: b"OAUTHBEARER\0\0" };
    let gss = &Authentication::Unsupported { code: 7, data: b"" };
    for (policy, request, says) in [
        (
            over(Channel::Clear, |policy| policy),
            clear,
            "server asks for method password, and the password would travel in clear (hint: use TLS",
        ),
        (
            over(NOT_TRUSTED, |policy| policy),
            clear,
            "server asks for method password and runs as account number 1, which is neither root, postgres \
             nor ours (hint: any local user may",
        ),
        (
            over(Channel::UntrustedLocal { uid: None }, |policy| policy),
            clear,
            "server asks for method password, and it cannot be told as which account it runs (hint: any",
        ),
        (
            over(bound(), list("scram-sha-256")),
            ok,
            "server lets us in without asking for anything, which require_auth=scram-sha-256 does not \
             allow (hint: trust, peer",
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
            "server asks for method md5, which channel_binding=require does not allow (hint: give",
        ),
        (
            over(bound(), bind),
            &SASL,
            "channel_binding=require cannot be met: the server does not offer SCRAM-SHA-256-PLUS \
             (hint: a pooler",
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
            "channel_binding=require cannot be met: the connection is not encrypted (hint: ask for TLS",
        ),
        (
            over(NO_HASH, |policy| policy),
            &PLUS,
            "(Ed25519 and the like) defines no hash to bind to (hint: verify the server (sslmode=verify-full with \
             sslrootcert), have its certificate signed with RSA or ECDSA, or do without with \
             channel_binding=disable)",
        ),
        (
            over(bound(), |policy| policy.opportunistic(true)),
            clear,
            "server asks for method password, TLS is only preferred, and the certificate was not verified: any \
             server would be sent the password in clear (hint: verify the server",
        ),
        (over(bound(), |policy| policy), oauth, "found OAUTHBEARER (hint: OAuth is not spoken"),
        (
            over(bound(), list("gss,scram-sha-256")),
            gss,
            "server asks for GSSAPI (code 7), which is not spoken (hint: pgbell speaks",
        ),
    ] {
        let error = authenticator_with(credentials(), policy).handle(request).unwrap_err();
        let error = Error::from(error);
        assert!(error.to_string().contains(says), "{error}");
        assert!(matches!(error.kind(), ErrorKind::Auth | ErrorKind::Unsupported), "{error}");
        assert!(!error.is_transient());
    }
}

/// Before any connection: a policy that nobody can satisfy is the user's to change.
#[test]
fn a_policy_that_no_server_can_satisfy_is_found_before_a_byte_is_sent() {
    let bind = |policy: AuthPolicy| policy.channel_binding(ChannelBinding::Require);
    for (policy, says) in [
        (
            AuthPolicy::default().require_auth(require("gss,sspi,oauth")),
            "require_auth=gss,sspi,oauth leaves no method that is spoken (hint: name one",
        ),
        (
            AuthPolicy::default().require_auth(require("!password,!md5,!scram-sha-256,!none")),
            "require_auth=!password,!md5,!scram-sha-256,!none leaves no method",
        ),
        (
            bind(AuthPolicy::default().channel(bound()).require_auth(require("md5,none"))),
            "channel_binding=require needs scram-sha-256, which require_auth=md5,none does not allow \
             (hint: allow scram-sha-256",
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
    // What the channel will be is not known before somebody is called.
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
