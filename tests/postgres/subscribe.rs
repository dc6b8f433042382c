//! LISTEN and UNLISTEN: when they take effect, and which names are never sent.

use std::time::{Duration, SystemTime};

use pgbell::{ErrorKind, Listener, Listening};

use crate::support::{Server, next, receive, run, until, up_to_end, value};

/// P3: when `listen` returns, the server has committed it.
#[test]
fn a_channel_is_active_when_listen_returns() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&[]).await;
        let notifier = server.notifier().await;
        for i in 0..100 {
            let channel = format!("ch{i}");
            assert_eq!(listener.listen(&channel).await.unwrap(), Listening::Active);
            notifier.notify(&channel, "now").await.unwrap();
            assert_eq!(next(&mut listener).await.channel(), channel);
        }
        let sql = "SELECT count(*) FROM pg_listening_channels()";
        let rows = listener.simple_query(sql).await.unwrap();
        assert_eq!(rows[0].get(0).unwrap().get(0), Some("100"));
    });
}

/// P4, D2: channel, payload, sender, and the time of receipt. Without a payload it is empty.
#[test]
fn a_notification_has_channel_payload_sender_and_time() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let before = SystemTime::now();
        let mut sender = server.connection().await;
        sender.simple_query("NOTIFY ch").await.unwrap();
        sender.simple_query("NOTIFY ch, 'word'").await.unwrap();
        sender.simple_query("SELECT pg_notify('ch', NULL)").await.unwrap();
        let found = receive(&mut inline, 3).await;
        for (i, expect) in ["", "word", ""].into_iter().enumerate() {
            for found in [found[i].clone(), next(&mut listener).await] {
                assert_eq!(found.channel(), "ch");
                assert_eq!(found.channel_bytes(), b"ch");
                assert_eq!(found.payload(), expect);
                assert_eq!(Some(found.process_id()), sender.process_id());
                assert_eq!(found.sequence(), u64::try_from(i).unwrap());
                assert!((before..=SystemTime::now()).contains(&found.received_at()));
            }
        }
        // A session receives its own notifications too.
        sender.listen("ch").await.unwrap();
        sender.notify("ch", "own").await.unwrap();
        let own = receive(&mut sender, 1).await;
        assert_eq!(Some(own[0].process_id()), sender.process_id());
    });
}

/// P10: `unlisten_all` ends every channel.
#[test]
fn unlisten_all_ends_every_channel() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["a", "b"]).await;
        let mut inline = server.connection().await;
        inline.listen_all(["a", "b"]).await.unwrap();
        let notifier = server.notifier().await;
        notifier.notify("a", "1").await.unwrap();
        listener.unlisten_all().await.unwrap();
        inline.unlisten_all().await.unwrap();
        assert!(listener.handle().channels().await.unwrap().is_empty());
        notifier.notify_many([("a", "2"), ("b", "3")]).await.unwrap();
        listener.listen("b").await.unwrap();
        inline.listen("b").await.unwrap();
        notifier.notify_many([("a", "4"), ("b", "5"), ("b", "end")]).await.unwrap();
        let expect = [("a", "1"), ("b", "5")].map(|(c, p)| (c.to_owned(), p.to_owned()));
        assert_eq!(up_to_end(&mut listener).await, expect);
        let payloads = receive(&mut inline, 3).await;
        let payloads: Vec<_> = payloads.iter().map(|n| n.payload()).collect();
        assert_eq!(payloads, ["1", "5", "end"]);
    });
}

/// S2, D2: several channels are one message to the server, and keep their case.
#[test]
fn listen_all_is_one_round_trip_and_keeps_case() {
    let server = Server::logging();
    run(async {
        let mut listener = server.listener(&["Chan0", "chan0", "CHAN 1"]).await;
        let begin = server.statements_of(listener.process_id());
        assert_eq!(begin.len(), 1, "{begin:?}");
        listener.listen_all(["chan2", "Chan3", "chan\"4"]).await.unwrap();
        let then = server.statements_of(listener.process_id());
        assert_eq!(then.len(), 2, "{then:?}");
        let mut inline = server.connection().await;
        inline.listen_all(["chan0", "chan1", "Chan2"]).await.unwrap();
        assert_eq!(server.statements_of(inline.process_id()).len(), 1);

        let notifier = server.notifier().await;
        let sent = ["Chan0", "chan0", "CHAN 1", "chan2", "Chan3", "chan\"4"];
        for channel in sent {
            notifier.notify(&channel.to_ascii_uppercase(), "wrong case").await.unwrap();
            notifier.notify(channel, channel).await.unwrap();
        }
        for channel in sent {
            let mut found = next(&mut listener).await;
            if found.payload() == "wrong case" {
                // One of the names is upper case already.
                assert_eq!(found.channel(), "CHAN 1");
                found = next(&mut listener).await;
            }
            assert_eq!((found.channel(), found.payload_bytes()), (channel, channel.as_bytes()));
        }
    });
}

/// S2, Q13: 100 kB in one Query, with one answer: all channels or none.
#[test]
fn five_thousand_channels_are_one_query_and_one_transaction() {
    let server = Server::logging();
    run(async {
        let names: Vec<String> = (0..5_000).map(|n| format!("channel number {n}")).collect();
        let listener = server.listener(&[]).await;
        listener.listen_all(names.clone()).await.unwrap();
        assert_eq!(server.statements_of(listener.process_id()).len(), 1);
        let mut inline = server.connection().await;
        inline.listen_all(&names).await.unwrap();
        assert_eq!(server.statements_of(inline.process_id()).len(), 1);
        let count = "SELECT count(*) FROM pg_listening_channels()";
        assert_eq!(value(&mut inline, count).await, "5000");
        let rows = listener.simple_query(count).await.unwrap();
        assert_eq!(rows[0].get(0).unwrap().get(0), Some("5000"));
        // All statements of a Query are one transaction: if the last one is refused, the first ones have no effect.
        let mut other = server.connection().await;
        let error = other.simple_query("LISTEN \"a\";LISTEN \"b\";SELECT 1/0").await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22012"), "{error}");
        assert_eq!(value(&mut other, count).await, "0");
    });
}

/// D2: an empty list of channels is an error.
#[test]
fn zero_channels_are_an_error() {
    let server = Server::logging();
    run(async {
        let listener = server.listener(&[]).await;
        let mut inline = server.connection().await;
        let none: [&str; 0] = [];
        for error in [
            listener.listen_all(none).await.unwrap_err(),
            listener.handle().listen_all(none).await.unwrap_err(),
            inline.listen_all(none).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        }
        assert!(server.statements_of(listener.process_id()).is_empty());
        assert!(server.statements_of(inline.process_id()).is_empty());
    });
}

/// P3: names and payloads that the server would refuse or cut are refused by the client, and nothing is sent.
#[test]
fn refused_names_and_payloads_send_nothing() {
    let server = Server::logging();
    run(async {
        let listener = server.listener(&[]).await;
        let mut inline = server.connection().await;
        let notifier = server.notifier().await;
        let long = "x".repeat(64);
        let wide = format!("{}xx", "é".repeat(31));
        for channel in ["", "a\0b", "\0", &long, &wide] {
            for error in [
                listener.listen(channel).await.unwrap_err(),
                listener.listen_all(["good", channel]).await.unwrap_err(),
                listener.unlisten(channel).await.unwrap_err(),
                inline.listen(channel).await.unwrap_err(),
                inline.listen_all(["good", channel]).await.unwrap_err(),
                inline.unlisten(channel).await.unwrap_err(),
                inline.notify(channel, "").await.unwrap_err(),
                notifier.notify(channel, "").await.unwrap_err(),
                notifier.notify_many([("good", ""), (channel, "")]).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Misuse, "{channel:?}: {error}");
            }
        }
        let wide = "é".repeat(4_000);
        for payload in [&"x".repeat(8_000), "a\0b", &wide] {
            for error in [
                inline.notify("good", payload).await.unwrap_err(),
                notifier.notify("good", payload).await.unwrap_err(),
                notifier.notify_many([("good", ""), ("good", payload)]).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
                assert!(
                    !format!("{error:#}").contains("xxx"),
                    "the payload is not repeated: {error}"
                );
            }
        }
        assert_eq!(inline.simple_query("SELECT '\0'").await.unwrap_err().kind(), ErrorKind::Misuse);

        // All clients still work, and this LISTEN is their first statement at the server.
        listener.listen("good").await.unwrap();
        assert_eq!(value(&mut inline, "SELECT 1").await, "1");
        notifier.notify("good", "").await.unwrap();
        for (pid, count) in
            [(listener.process_id(), 1), (inline.process_id(), 1), (notifier.process_id(), 1)]
        {
            let statements = server.statements_of(pid);
            assert_eq!(statements.len(), count, "{statements:?}");
        }
    });
}

/// The name has 60 bytes in UTF-8, and 90 in the encoding of the database. The server cuts it and reports this in a NOTICE, which
/// settings of the role can suppress. An earlier version took the channel for active, and lost its session at every heartbeat.
#[test]
fn a_name_that_is_too_long_in_the_encoding_of_the_database_is_refused() {
    let server = Server::with(|builder| builder.encoding("EUC_JP"));
    run(async {
        for level in ["notice", "warning", "error"] {
            let sql = format!("ALTER ROLE postgres SET client_min_messages = {level}");
            server.connection().await.simple_query(&sql).await.unwrap();
            refuses_long_names(&server).await;
        }
    });
}

async fn refuses_long_names(server: &Server) {
    let long = "é".repeat(30);
    let every = Duration::from_millis(100);
    let builder = Listener::builder(server.url()).channels(["a"]);
    let mut listener = builder.heartbeat(every, Duration::from_secs(10)).connect().await.unwrap();
    let error = listener.listen(&long).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42622"), "{error}");
    assert!(error.hint().unwrap().contains("63 bytes"), "{error}");
    // All or none: earlier channels stay active.
    let all = ["a".to_owned(), "é".repeat(20), long.clone()];
    assert_eq!(listener.listen_all(all).await.unwrap_err().sqlstate(), Some("42622"));
    listener.listen("é".repeat(20)).await.unwrap();
    let sql = "SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() c";
    let rows = listener.simple_query(sql).await.unwrap();
    assert_eq!(rows[0].get(0).unwrap().get(0), Some(&*format!("a,{}", "é".repeat(20))));
    let before = listener.stats().heartbeats;
    until("three more heartbeats", || listener.stats().heartbeats > before + 3).await;
    assert_eq!(listener.stats().sessions, 1);
    let mut connection = server.connection().await;
    assert_eq!(connection.listen(&long).await.unwrap_err().sqlstate(), Some("42622"));
    assert_eq!(value(&mut connection, "SELECT count(*) FROM pg_listening_channels()").await, "0");
    // The server would cut the name to that of another channel, which stays active.
    let cut = "é".repeat(21);
    connection.listen(&cut).await.unwrap();
    connection.unlisten(&long).await.unwrap();
    assert_eq!(value(&mut connection, "SELECT pg_listening_channels()").await, cut);
    // The server also refuses a notification to such a name.
    assert_eq!(connection.notify(&long, "").await.unwrap_err().sqlstate(), Some("22023"));
    connection.notify("a", "last").await.unwrap();
    assert_eq!(next(&mut listener).await.payload(), "last");
    listener.close().await;
    // For the first channels it is the error of `connect`.
    let channels = ["a".to_owned(), long];
    let error = Listener::builder(server.url()).channels(channels).connect().await.unwrap_err();
    assert!(format!("{error:#}").contains("42622"), "{error}");
}

/// A server handles so many channels without a message: at the first LISTEN, at each heartbeat, in a
/// handover and after a loss. `PGBELL_CHANNELS` sets the number.
#[test]
fn thirty_thousand_channels_are_listened_to_checked_handed_over_and_restored() {
    let many = std::env::var("PGBELL_CHANNELS").map_or(30_000, |many| many.parse().unwrap());
    let server = Server::start();
    crate::support::run_for(Duration::from_secs(1_200), async {
        let builder = Listener::builder(server.url()).channels(["first"]);
        let mut listener = builder.connect().await.unwrap();
        let mut sender = server.connection().await;
        let channels: Vec<String> = (0..many).map(|n| format!("channel.{n}")).collect();
        let last = channels.last().unwrap().clone();
        assert_eq!(listener.listen_all(channels).await.unwrap(), Listening::Active);
        assert_eq!(listener.stats().sessions, 1);
        sender.notify(&last, "1").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "1");
        let handle = listener.handle();
        handle.rotate().await.unwrap();
        while listener.stats().handovers == 0 {
            assert_eq!(listener.stats().handover_failures, 0, "{:?}", listener.last_error());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sender.notify(&last, "2").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "2");
        let sql = format!("SELECT pg_terminate_backend({})", listener.process_id().unwrap());
        assert_eq!(value(&mut sender, &sql).await, "t");
        let gap = listener.recv().await.unwrap();
        assert!(matches!(gap, pgbell::Event::Gap(_)), "{gap:?}");
        sender.notify(&last, "3").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "3");
        listener.close().await;
    });
}
