//! Connection strings and the environment, compared with libpq.

use std::time::Duration;

use super::*;
use crate::error::ErrorKind;

const CASES: usize = 8_000;

fn cases(seed: u64, libpq: &Libpq) -> Vec<ResolveCase> {
    let random = &mut Random(seed);
    let without = ["service", "servicefile", "passfile", "sslpassword", "gsslib", "krbsrvname"];
    let case = |_| {
        let text = pairs(&parameters(random, libpq, &without, 4));
        let mut variables = environment(&parameters(random, libpq, &without, 4), libpq);
        variables.entry("PGUSER".to_owned()).or_insert("ann".to_owned());
        variables.insert("HOME".to_owned(), "/nonexistent".to_owned());
        if random.once_in(5) {
            variables.insert("PGREQUIRESSL".to_owned(), random.pick(&["0", "1"]).to_owned());
        }
        ResolveCase { text, variables }
    };
    (0..CASES).map(case).collect()
}

async fn check(seed: u64, libraries: Vec<Libpq>) {
    for libpq in libraries {
        compare_all(&libpq, &cases(seed, &libpq), false, CASES / 4).await;
    }
}

#[tokio::test]
async fn text_and_environment_are_resolved_as_by_the_installed_libpq() {
    check(3, installed()).await;
}

#[tokio::test]
async fn matrix_text_and_environment_are_resolved_as_by_every_libpq() {
    check(4, matrix()).await;
}

/// libpq takes it for a value, which some parameters refuse.
#[tokio::test]
async fn an_empty_variable_is_ignored() {
    let names = ["PGHOST", "PGPORT", "PGSSLMODE", "PGSERVICE", "PGSERVICEFILE", "PGREQUIREAUTH"];
    let mut variables: Variables = names.map(|name| (name.to_owned(), String::new())).into();
    variables.insert("USER".to_owned(), "ann".to_owned());
    let config = resolve("", &variables).await.unwrap();
    assert_eq!(config.to_string(), "user=ann");
}

#[tokio::test]
async fn every_variable_of_libpq_is_read() {
    let looked = std::sync::Mutex::new(Vec::new());
    let lookup = |name: &str| {
        looked.lock().unwrap().push(name.to_owned());
        (name == "USER").then(|| OsString::from("ann"))
    };
    resolve_in(Config::new(), now(), lookup, || ready(None)).await.unwrap();
    let looked = looked.into_inner().unwrap();
    let libraries = installed().into_iter().chain(matrix_if_there());
    for libpq in libraries {
        let gone = ["PGAUTHTYPE", "PGTTY"];
        for name in libpq.variables.values().filter(|name| !gone.contains(&name.as_str())) {
            assert!(looked.contains(name), "{name} of libpq {}", libpq.version);
        }
    }
}

fn matrix_if_there() -> Vec<Libpq> {
    if Installation::matrix().is_ok() { matrix() } else { Vec::new() }
}

/// libpq does not use USER: after `su` or in a container it may be the name of another account.
#[tokio::test]
async fn without_a_user_the_account_of_the_process_is_used_before_the_variable_user() {
    let user = async |account: Option<&str>, pairs: &[(&str, &str)]| {
        let lookup = |name: &str| {
            let found = pairs.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let resolved =
            resolve_in(Config::new(), now(), lookup, || ready(account.map(OsString::from)));
        resolved.await.map(|config| config.get_user().unwrap().to_owned())
    };
    assert_eq!(user(Some("ann"), &[]).await.unwrap(), "ann");
    assert_eq!(user(Some("ann"), &[("USER", "eve"), ("LOGNAME", "eve")]).await.unwrap(), "ann");
    assert_eq!(user(Some("ann"), &[("USER", "eve"), ("PGUSER", "bob")]).await.unwrap(), "bob");
    // An id without an account.
    assert_eq!(user(None, &[("USER", "ann"), ("LOGNAME", "eve")]).await.unwrap(), "ann");
    assert_eq!(user(None, &[("USER", ""), ("LOGNAME", "eve")]).await.unwrap(), "eve");
    let error = user(None, &[]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration: no user is given, this process has no account, and USER is not set \
         (hint: set `user` in the connection string, or PGUSER)"
    );
}

/// The system may query a directory service over the network.
#[tokio::test(start_paused = true)]
async fn the_lookup_of_the_account_has_the_timeout_of_a_connection() {
    let config = Config::new().connect_timeout(Duration::from_secs(5));
    let begin = tokio::time::Instant::now();
    let error = resolve_in(config, now(), |_| None, std::future::pending).await.unwrap_err();
    assert_eq!((error.kind(), begin.elapsed().as_secs()), (ErrorKind::Timeout, 5), "{error}");
    assert!(error.hint().unwrap().contains("PGUSER"), "{error}");
}

#[tokio::test]
async fn the_account_of_the_process_is_that_of_its_effective_user_id() {
    let id = std::process::Command::new("id").arg("-un").output().unwrap();
    let expected = String::from_utf8(id.stdout).unwrap();
    let config = Config::new();
    let nothing = |_: &str| None;
    let config =
        resolve_in(config, now(), nothing, super::super::environment::account).await.unwrap();
    assert_eq!(config.get_user(), Some(expected.trim_end()));
}

/// They are found before a connection is opened.
#[tokio::test]
async fn contradictions_with_defaults_are_found_when_all_sources_are_read() {
    let user: Variables = [("USER".to_owned(), "ann".to_owned())].into();
    let error = resolve("sslnegotiation=direct", &user).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration: \
             sslmode: sslnegotiation=direct needs require, verify-ca or verify-full"
    );
    let mut strong = user.clone();
    strong.insert("PGSSLMODE".to_owned(), "require".to_owned());
    resolve("sslnegotiation=direct", &strong).await.unwrap();
    let error = resolve("sslrootcert=system", &strong).await.unwrap_err();
    assert!(
        error.to_string().ends_with("sslrootcert=system needs verify-full, which is its default")
    );
    let system = resolve("sslrootcert=system sslnegotiation=direct", &user).await.unwrap();
    assert_eq!(system.effective().ssl_mode(), crate::config::SslMode::VerifyFull);
}
