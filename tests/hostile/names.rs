//! Faults I and L of the catalogue in `tests/README.md`: channel names, and secrets.

use pgbell::testing::{Delivery, Script};
use pgbell::{Connection, ErrorKind, Event, Listener};

use super::attack::{Attack, message, runtime};
use super::client::{Action, PASSWORD, check_text, soon, url};

/// The client listens to this name, and must send exactly this statement.
#[track_caller]
fn listens(actions: &'static [Action], statement: &str) {
    let query = message(b'Q', format!("{statement}\0").as_bytes());
    let script = Script::ready().expect(query).send(Script::ACK).expect_hex("58 00000004");
    let attack = Attack::new(script.wait_for_eof(), Script::ACK.len(), actions);
    attack.run(&["connect", "listen", "close"], &[]);
}

/// Also V14: an SQL injection that other clients had.
#[test]
fn i1_a_name_that_ends_its_quotes_stays_a_name() {
    listens(
        &[Action::Listen(&["a\"; DROP TABLE x; --"]), Action::Close],
        "LISTEN \"a\"\"; DROP TABLE x; --\"",
    );
}

#[test]
fn i2_quotes_are_doubled() {
    listens(&[Action::Listen(&["\""]), Action::Close], "LISTEN \"\"\"\"");
    listens(&[Action::Listen(&["\"\""]), Action::Close], "LISTEN \"\"\"\"\"\"");
    listens(&[Action::Listen(&["a\"\"b"]), Action::Close], "LISTEN \"a\"\"\"\"b\"");
}

#[test]
fn i7_names_are_quoted_as_they_are() {
    for (actions, statement) in [
        (&[Action::Listen(&["Select"]), Action::Close], "LISTEN \"Select\""),
        (&[Action::Listen(&[" lead"]), Action::Close], "LISTEN \" lead\""),
        (&[Action::Listen(&["new\nline"]), Action::Close], "LISTEN \"new\nline\""),
        (&[Action::Listen(&["\\"]), Action::Close], "LISTEN \"\\\""),
        (&[Action::Listen(&["U&\"x\""]), Action::Close], "LISTEN \"U&\"\"x\"\"\""),
        (&[Action::Listen(&["$1"]), Action::Close], "LISTEN \"$1\""),
        (&[Action::Listen(&["'"]), Action::Close], "LISTEN \"'\""),
        (&[Action::Listen(&["*"]), Action::Close], "LISTEN \"*\""),
    ] {
        listens(actions, statement);
    }
    // Several in one Query, so that all of them are active or none.
    let query = message(b'Q', b"LISTEN \"a\"\"\";LISTEN \"b\"\0");
    let answer = [&Script::ACK[..12], Script::ACK].concat();
    let script = Script::ready().expect(query).send(&answer).expect_hex("58 00000004");
    let actions = &[Action::Listen(&["a\"", "b"]), Action::Close];
    let attack = Attack::new(script.wait_for_eof(), answer.len(), actions);
    attack.run(&["connect", "listen", "close"], &[]);
}

/// Names are `&str`: bytes that are not UTF-8 (I8) cannot be passed.
#[test]
fn i3_i5_invalid_names_are_refused_and_not_sent() {
    let long = "x".repeat(64);
    let names = ["", "\0", "\0a", "a\0", "a\0b", &long];
    runtime().block_on(async {
        let script = || Script::ready().expect_hex("58 00000004").wait_for_eof();
        let (address, task) = script().serve(Delivery::Whole).await.unwrap();
        let mut connection = Connection::connect(&*url(address)).await.unwrap();
        for name in names {
            for result in [
                soon("listen", connection.listen(name)).await,
                soon("unlisten", connection.unlisten(name)).await,
                soon("listen", connection.listen_all(["good", name])).await,
                soon("notify", connection.notify(name, "x")).await,
            ] {
                let error = result.unwrap_err();
                check_text(&error);
                assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
            }
        }
        soon("close", connection.close()).await;
        task.await.unwrap().unwrap();

        let (address, task) = script().serve(Delivery::Whole).await.unwrap();
        let listener = Listener::connect(&*url(address)).await.unwrap();
        for name in names {
            for result in [
                soon("listen", listener.listen(name)).await.map(drop),
                soon("unlisten", listener.unlisten(name)).await,
                soon("listen", listener.listen_all(["good", name])).await.map(drop),
            ] {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Misuse);
            }
        }
        soon("close", listener.close()).await;
        task.await.unwrap().unwrap();
    });
}

/// `Debug` of every type of the public interface shows no password, no key, and only the length of a payload. Nothing is
/// logged. `check_text` checks every error of the suite.
#[test]
fn l1_l3_no_debug_shows_a_password_a_key_or_a_payload() {
    let key = message(b'K', b"\0\0\0\x07\xde\xad\xbe\xef");
    let prelude = [&Script::PRELUDE[..60], &key, b"Z\0\0\0\x05I"].concat();
    let secret = message(b'A', b"\0\0\0\x01a\0t0psecret\0");
    let script = Script::new().expect_startup().send(prelude).expect_message(b'Q');
    let script = script
        .send(Script::FACTS)
        .expect_message(b'Q')
        .send(Script::ACK)
        .send(secret.repeat(2))
        .close();
    runtime().block_on(async {
        let mut shown = Vec::new();
        let (address, task) = script.clone().serve(Delivery::Whole).await.unwrap();
        let url = url(address);
        let config: pgbell::Config = url.parse().unwrap();
        shown.push(format!("{config:?} {config}"));
        let mut connection = Connection::connect(&config).await.unwrap();
        shown.push(format!("{connection:?}"));
        connection.listen("a").await.unwrap();
        {
            let batch = connection.recv_batch().await.unwrap();
            shown.push(format!("{batch:?}"));
            shown.extend(batch.iter().map(|n| format!("{n:?} {:?}", n.to_owned())));
        }
        shown.push(format!("{connection:?}"));
        task.await.unwrap().unwrap();

        let (address, task) = script.serve(Delivery::Whole).await.unwrap();
        let url = super::client::url(address);
        shown.push(format!("{:?}", Listener::builder(&*url)));
        let mut listener = Listener::connect(&*url).await.unwrap();
        listener.listen("a").await.unwrap();
        let event = listener.recv().await.unwrap();
        assert!(matches!(event, Event::Notification(_)));
        shown.push(format!("{event:?} {listener:?} {:?}", listener.handle()));
        task.await.unwrap().unwrap();
        for text in shown {
            for planted in [PASSWORD, "s3cret", "t0psecret", "116, 48, 112", "222, 173", "deadbeef"]
            {
                assert!(!text.contains(planted), "{planted} in {text}");
            }
        }
    });
}
