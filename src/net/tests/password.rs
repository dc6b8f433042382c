//! Password providers, and the hints for missing passwords.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::config::PasswordRequest;
use crate::config::Server;
use crate::error::{Error, ErrorKind};
use crate::net::password::{password, password_hint, password_hint_with};

fn first(config: &Config) -> Server {
    config.servers().unwrap().remove(0)
}

async fn ask(config: &Config) -> Result<Option<Vec<u8>>, Error> {
    let password = password(config, &first(config)).await?;
    Ok(password.map(|password| password.expose().to_vec()))
}

#[tokio::test]
async fn a_provider_is_called_at_every_attempt_and_takes_precedence() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let config = Config::new().host("a").user("ann").password("old").password_provider(
        move |_request: PasswordRequest| {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, io::Error>(format!("token {call}")) }
        },
    );
    for call in 0..3 {
        let expected = format!("token {call}").into_bytes();
        assert_eq!(ask(&config.clone()).await.unwrap(), Some(expected));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_provider_gets_the_parameters_of_the_login() {
    async fn provider(request: PasswordRequest) -> Result<Vec<u8>, io::Error> {
        let login = (request.host(), request.port(), request.user(), request.dbname());
        Ok(format!("{login:?}").into_bytes())
    }
    for (text, expected) in [
        ("host=a,b hostaddr=::1,::2 port=1,2 user=ann dbname=d", r#"("a", 1, "ann", "d")"#),
        ("hostaddr=::1 user=ann", r#"("::1", 5432, "ann", "ann")"#),
        ("host=/tmp user=ann", r#"("/tmp", 5432, "ann", "ann")"#),
        ("user=ann", r#"("localhost", 5432, "ann", "ann")"#),
    ] {
        let config = text.parse::<Config>().unwrap().password_provider(provider);
        assert_eq!(ask(&config).await.unwrap().unwrap(), expected.as_bytes());
    }
}

#[tokio::test]
async fn a_provider_that_fails_ends_the_attempt_with_its_cause() {
    let config = Config::new()
        .password("old")
        .password_provider(|_| async { Err::<String, _>(io::Error::other("the vault is sealed")) });
    let error = ask(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert_eq!(
        format!("{error:#}"),
        "authentication: the password provider failed: the vault is sealed"
    );
    let config = Config::new().password_provider(async |_| Ok::<_, io::Error>(""));
    let error = ask(&config).await.unwrap_err();
    assert_eq!(error.to_string(), "authentication: the password provider gave an empty password");
}

/// Its future is dropped.
#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_ends_at_the_callers_deadline() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = drops.clone();
    let config = Config::new().password_provider(move |_| {
        let guard = Dropped(counted.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, io::Error>("late")
        }
    });
    assert!(tokio::time::timeout(Duration::from_secs(5), ask(&config)).await.is_err());
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn debug_and_display_of_a_configuration_show_no_secret_of_a_provider() {
    let secret = "pencil".to_owned();
    let config = Config::new().user("ann").password_provider(move |_| {
        let secret = secret.clone();
        async move { Ok::<_, io::Error>(secret) }
    });
    assert_eq!(ask(&config).await.unwrap(), Some(b"pencil".to_vec()));
    let shown = format!("{config} {config:?} {config:#?}");
    assert!(shown.contains("password_provider: set") && !shown.contains("pencil"), "{shown}");
}

#[tokio::test]
async fn the_hint_says_why_a_password_file_was_not_used_and_shows_no_content() {
    let scratch = Scratch::new("hint");
    let text = "srv:*:*:ann:pencil\nempty:*:*:*:\n";
    let hint = async |host: &str, path: &str| {
        let config = Config::new().host(host).user("ann").dbname("shop").passfile(path);
        let hint = password_hint(&config, &first(&config)).await.unwrap();
        assert!(!hint.contains("pencil"), "{hint}");
        (ask(&config).await.unwrap(), hint)
    };
    let none = |hint: String| (None, hint);

    let path = scratch.file("good", text, 0o600);
    let found =
        (Some(b"pencil".to_vec()), format!("the password came from the password file {path:?}"));
    assert_eq!(hint("srv", &path).await, found);
    let empty =
        format!("the line for this server in the password file {path:?} has an empty password");
    assert_eq!(hint("empty", &path).await, none(empty));
    let other =
        format!("the password file {path:?} has no line for \"other\":5432:\"shop\":\"ann\"");
    assert_eq!(hint("other", &path).await, none(other));

    let path = scratch.file("open", text, 0o644);
    let open = format!(
        "the password file {path:?} was ignored: it has mode 0644, which lets others read or write it: \
         use chmod 0600"
    );
    assert_eq!(hint("srv", &path).await, none(open));
    let path = scratch.path("");
    let directory = format!("the password file {path:?} was ignored: it is not a regular file");
    assert_eq!(hint("srv", &path).await, none(directory));
    let path = scratch.path("missing");
    let missing = format!("the password file {path:?} was ignored: it does not exist");
    assert_eq!(hint("srv", &path).await, none(missing));

    let given = Config::new().password("pencil").passfile(path);
    assert_eq!(password_hint(&given, &first(&given)).await, None);
}

/// Without a file that the user has named.
#[tokio::test]
async fn the_hint_for_a_password_that_is_not_given_names_all_ways_to_give_it() {
    let config = Config::new().host("srv").user("ann").dbname("shop");
    let server = first(&config);
    let remedy = "no password is given: set `password`, PGPASSWORD or a password_provider";
    let scratch = Scratch::new("home");
    for (home, expected) in [
        (String::new(), remedy.to_owned()),
        (scratch.path(""), format!("{remedy}, or a line in {:?}", scratch.path(".pgpass"))),
    ] {
        let variable = |name: &str| (name == "HOME").then(|| home.clone().into());
        let hint = password_hint_with(&config, &server, variable).await;
        assert_eq!(hint, Some(expected));
    }
}
