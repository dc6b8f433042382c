//! Nudges: wake-ups outside of the writer's transaction.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgbell::{Config, Connection, ErrorKind, Listener, Notifier};
use pgbell_testkit::{PgBouncer, PoolMode, Signal};

use crate::examples::{example_output, numbers};
use crate::support::{Server, TEST_TIMEOUT, next, run, until, until_gone, until_sql, value};

/// How the sessions of a test are found in the server.
pub(crate) const NAME: &str = "nudging";

pub(crate) fn config(server: &Server) -> Config {
    server.url().parse::<Config>().unwrap().application_name(NAME)
}

/// A notifier with a short backoff.
pub(crate) async fn notifier(server: &Server) -> Notifier {
    let builder = Notifier::builder(config(server));
    builder.backoff(Duration::from_millis(10), Duration::from_millis(100)).await.unwrap()
}

/// Waits until every nudge has ended.
pub(crate) async fn until_confirmed(notifier: &Notifier) {
    until("all nudges are confirmed", || notifier.stats().nudges_unconfirmed == 0).await;
}

/// Returns the process id of the session of the nudges: the other session of the notifier.
async fn nudging(watch: &mut Connection, notifier: &Notifier) -> i32 {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME}' AND pid <> {}",
        notifier.process_id().unwrap()
    );
    value(watch, &sql).await.parse().unwrap()
}

/// Receives until this key has arrived. Returns all keys, also this one.
pub(crate) async fn keys_up_to(listener: &mut Listener, last: &str) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.last().is_none_or(|key| key != last) {
        keys.push(next(listener).await.payload().to_owned());
    }
    keys
}

#[test]
fn a_nudge_reaches_a_listener_and_the_first_one_opens_the_session() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["jobs", "Mail"]).await;
        let notifier = notifier(&server).await;
        notifier.notify("jobs", "called").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "called");
        let sessions =
            format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{NAME}'");
        assert_eq!(value(&mut watch, &sessions).await, "1");
        for (channel, key) in [("jobs", "17"), ("Mail", ""), ("jobs", "a \"b\", \\{c} é")] {
            notifier.nudge(channel, key);
            let found = next(&mut listener).await;
            assert_eq!((found.channel(), found.payload()), (channel, key));
            assert_ne!(Some(found.process_id()), notifier.process_id());
        }
        assert_eq!(value(&mut watch, &sessions).await, "2");
        until_confirmed(&notifier).await;
        let stats = notifier.stats();
        assert_eq!((stats.nudges, stats.nudges_committed, stats.nudges_dropped), (3, 3, 0));
        assert_eq!((stats.calls, stats.nudge_sessions), (1, 1));
    });
}

#[test]
fn nudges_within_the_window_are_one_transaction_with_each_key_once() {
    let server = Server::logging();
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["jobs"]).await;
        let builder = Notifier::builder(config(&server)).nudge_window(Duration::from_secs(2));
        let notifier = builder.await.unwrap();
        notifier.nudge("jobs", "first");
        assert_eq!(next(&mut listener).await.payload(), "first");
        let begin = Instant::now();
        for _ in 0..100 {
            for key in ["1", "2", "3"] {
                notifier.nudge("jobs", key);
            }
        }
        assert_eq!(keys_up_to(&mut listener, "3").await, ["1", "2", "3"]);
        // It began when the first one was sent, which was before.
        assert!(begin.elapsed() < Duration::from_secs(2) + TEST_TIMEOUT / 4);
        until_confirmed(&notifier).await;
        let stats = notifier.stats();
        assert_eq!((stats.nudges, stats.nudges_coalesced, stats.nudge_transactions), (301, 297, 2));
        let process_id = nudging(&mut watch, &notifier).await;
        let statements = server.statements_of(Some(process_id));
        assert_eq!(statements.len(), 2, "one round trip each");
        let setting = "pg_catalog.set_config('synchronous_commit', 'off', true)";
        assert!(statements.iter().all(|sql| sql.contains(setting)), "{statements:?}");
    });
}

/// The setting is that of the transaction, so a pooler gets a session as it was.
#[test]
fn synchronous_commit_is_off_for_nudges_and_nothing_of_it_is_left() {
    let server = Server::with(|builder| builder.setting("synchronous_commit", "on"));
    run(async {
        // One session of the server, which the pooler gives to each client for one transaction.
        let cluster = &server.cluster;
        let builder = PgBouncer::builder(cluster, PoolMode::Transaction);
        let pooler = builder.setting("default_pool_size", "1").start().unwrap();
        let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let mut owner = server.connection().await;
        owner
            .simple_query(
                "CREATE TABLE seen (id int GENERATED ALWAYS AS IDENTITY, setting text, pid int);
                 -- A deferred trigger is executed by the commit.
                 CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                     UPDATE public.seen SET pid = pg_backend_pid(),
                         setting = current_setting('synchronous_commit') WHERE id = NEW.id;
                     RETURN NULL;
                 END$$;
                 CREATE CONSTRAINT TRIGGER see AFTER INSERT ON seen DEFERRABLE INITIALLY DEFERRED
                     FOR EACH ROW EXECUTE FUNCTION see();
                 CREATE FUNCTION record() RETURNS void LANGUAGE sql AS
                     'INSERT INTO public.seen DEFAULT VALUES';
                 ALTER FUNCTION pg_catalog.pg_notify RENAME TO pg_notify_itself;
                 CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE sql AS
                     $$SELECT public.record(); SELECT pg_catalog.pg_notify_itself($1, $2)$$",
            )
            .await
            .unwrap();
        let mut listener = server.listener(&["jobs"]).await;
        let notifier = Notifier::connect(&url).await.unwrap();
        let mut other = Connection::connect(&url).await.unwrap();
        let own = value(&mut other, "SELECT pg_backend_pid()").await;
        for round in 0..3 {
            notifier.nudge("jobs", &round.to_string());
            let found = next(&mut listener).await;
            assert_eq!(found.payload(), round.to_string());
            assert_eq!(found.process_id().to_string(), own, "the sessions are the same");
            until_confirmed(&notifier).await;
            assert_eq!(value(&mut other, "SHOW synchronous_commit").await, "on");
            other.simple_query("SELECT record()").await.unwrap();
        }
        // At the commit of each nudge, and at that of a later transaction.
        assert_eq!(
            value(&mut owner, "SELECT string_agg(setting, ' ' ORDER BY id) FROM seen").await,
            "off on off on off on"
        );
        assert_eq!(
            value(&mut owner, "SELECT string_agg(DISTINCT pid::text, ' ') FROM seen").await,
            own
        );
    });
}

/// The commit of a nudge waits for no standby: one that writes nothing needs no setting for that, so this one writes.
// N192.
#[test]
fn a_local_setting_in_the_statement_itself_applies_to_its_commit() {
    let server = Server::with(|builder| builder.setting("synchronous_standby_names", "none"));
    run(async {
        let mut session = server.connection().await;
        session.simple_query("SET synchronous_commit = local").await.unwrap();
        session
            .simple_query(
                "CREATE TABLE written (id int);
                 CREATE FUNCTION write() RETURNS int LANGUAGE sql AS
                     'INSERT INTO written VALUES (1) RETURNING id'",
            )
            .await
            .unwrap();
        session.simple_query("SET synchronous_commit = on").await.unwrap();
        // With `on` it would wait for ever.
        let sql = "SELECT set_config('synchronous_commit', 'off', true), count(pg_notify(c, write()::text)) \
                   FROM unnest($1::text[]) AS t(c)";
        let answer = tokio::time::timeout(TEST_TIMEOUT, session.query(sql, &[Some("{a,b}")]));
        assert_eq!(answer.await.unwrap().unwrap().get(0).unwrap().get(1), Some("2"));
        assert_eq!(value(&mut session, "SHOW synchronous_commit").await, "on");
        assert_eq!(value(&mut session, "SELECT count(*) FROM written").await, "2");
    });
}

#[test]
fn nudges_survive_a_kill_of_their_session() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["jobs"]).await;
        let notifier = notifier(&server).await;
        notifier.nudge("jobs", "first");
        assert_eq!(next(&mut listener).await.payload(), "first");
        for round in 0..10 {
            let process_id = nudging(&mut watch, &notifier).await;
            server.cluster.signal_backend(process_id, Signal::Stop).unwrap();
            let keys: BTreeSet<String> = (0..20).map(|key| format!("{round}-{key}")).collect();
            keys.iter().for_each(|key| notifier.nudge("jobs", key));
            // The terminated process executes nothing more, or commits and is terminated then.
            let _ = server.cluster.terminate_backend(process_id);
            server.cluster.signal_backend(process_id, Signal::Cont).unwrap();
            let mut missing = keys;
            while !missing.is_empty() {
                missing.remove(next(&mut listener).await.payload());
            }
            until_confirmed(&notifier).await;
            until_gone(&mut watch, Some(process_id)).await;
        }
        let stats = notifier.stats();
        assert_eq!((stats.nudges, stats.nudges_dropped), (201, 0));
        assert_eq!((stats.sessions, stats.nudge_sessions), (1, 11));
        assert!(notifier.last_nudge_error().is_some());
        assert!(notifier.last_error().is_none(), "the session of the calls was not lost");
    });
}

/// Every nudge is counted, also while the server does not answer, and memory is bounded.
#[test]
fn a_million_nudges_in_a_loop_take_bounded_memory_and_time() {
    const COUNT: u64 = 1_000_000;
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["jobs", "other"]).await;
        let notifier = notifier(&server).await;
        notifier.nudge("other", "");
        assert_eq!(next(&mut listener).await.channel(), "other");
        let mut watch = server.connection().await;
        let process_id = nudging(&mut watch, &notifier).await;
        server.cluster.signal_backend(process_id, Signal::Stop).unwrap();
        let nudging = notifier.clone();
        tokio::task::spawn_blocking(move || {
            for number in 0..COUNT {
                nudging.nudge("jobs", &number.to_string());
            }
        })
        .await
        .unwrap();
        // One flush may be in flight, and another one waits: 1,024 keys each.
        let waiting = notifier.stats().nudges_unconfirmed;
        assert!(waiting <= 2 * 1_024, "{waiting}");
        server.cluster.signal_backend(process_id, Signal::Cont).unwrap();
        until_confirmed(&notifier).await;
        let stats = notifier.stats();
        assert_eq!((stats.nudges, stats.nudges_dropped), (COUNT + 1, 0));
        assert_eq!(stats.nudges_coalesced + stats.nudges_committed, COUNT + 1);
        assert!(stats.nudge_transactions < 20, "{stats:?}");
        // The rest was nudged without a key.
        notifier.nudge("other", "");
        let mut payloads = Vec::new();
        loop {
            let found = next(&mut listener).await;
            if found.channel() == "other" {
                break;
            }
            payloads.push(found.payload().to_owned());
        }
        assert!(payloads.contains(&String::new()), "{} keys", payloads.len());
    });
}

#[test]
fn invalid_and_refused_nudges_are_dropped_and_counted_and_the_others_are_sent() {
    let server = Server::with(|builder| builder.encoding("LATIN1"));
    run(async {
        let mut listener = server.listener(&["jobs"]).await;
        let builder = Notifier::builder(config(&server)).nudge_window(Duration::from_millis(200));
        let notifier = builder.await.unwrap();
        for (channel, key) in [
            ("", "empty channel"),
            (&*"x".repeat(64), "long channel"),
            ("a\0", "channel with NUL"),
            ("jobs", "key with \0"),
            ("jobs", &*"x".repeat(8_000)),
        ] {
            notifier.nudge(channel, key);
            let error = notifier.last_nudge_error().unwrap();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        }
        let stats = notifier.stats();
        assert_eq!((stats.nudges, stats.nudges_dropped, stats.nudge_sessions), (5, 5, 0));
        notifier.nudge("jobs", "first");
        assert_eq!(next(&mut listener).await.payload(), "first");
        // These are one group. The encoding of the database has no €.
        for key in ["1", "2", "€ 3", "4", "ü", "€ 5"] {
            notifier.nudge("jobs", key);
        }
        until_confirmed(&notifier).await;
        notifier.nudge("jobs", "end");
        assert_eq!(keys_up_to(&mut listener, "end").await, ["1", "2", "4", "ü", "end"]);
        let stats = notifier.stats();
        assert_eq!((stats.nudges_dropped, stats.nudge_sessions), (7, 1));
        assert_eq!(notifier.last_nudge_error().unwrap().sqlstate(), Some("22P05"));
    });
}

#[test]
fn a_close_sends_what_waits_and_later_nudges_are_dropped() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["jobs"]).await;
        for is_dropped in [false, true] {
            let builder = Notifier::builder(config(&server)).nudge_window(Duration::from_secs(60));
            let notifier = builder.await.unwrap();
            notifier.nudge("jobs", "first");
            assert_eq!(next(&mut listener).await.payload(), "first");
            let process_id = nudging(&mut watch, &notifier).await;
            // They wait for the window.
            notifier.nudge("jobs", "1");
            notifier.nudge("jobs", "2");
            if is_dropped {
                drop(notifier);
            } else {
                let other = notifier.clone();
                notifier.close().await;
                let stats = other.stats();
                assert_eq!((stats.nudges_committed, stats.nudges_unconfirmed), (3, 0));
                other.nudge("jobs", "late");
                assert_eq!(other.stats().nudges_dropped, 1);
                assert_eq!(other.last_nudge_error().unwrap().kind(), ErrorKind::Closed);
            }
            assert_eq!(keys_up_to(&mut listener, "2").await, ["1", "2"]);
            until_gone(&mut watch, Some(process_id)).await;
        }
    });
}

#[test]
fn a_close_is_bounded_and_counts_what_it_drops() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let timeout = Duration::from_secs(2);
        let builder = Notifier::builder(config(&server)).answer_timeout(timeout);
        let notifier = builder.await.unwrap();
        notifier.nudge("jobs", "first");
        until_confirmed(&notifier).await;
        let process_id = nudging(&mut watch, &notifier).await;
        server.cluster.signal_backend(process_id, Signal::Stop).unwrap();
        notifier.nudge("jobs", "1");
        notifier.nudge("jobs", "2");
        let (other, begin) = (notifier.clone(), Instant::now());
        notifier.close().await;
        let took = begin.elapsed();
        assert!(took <= timeout + Duration::from_secs(3), "{took:?}");
        let stats = other.stats();
        assert_eq!((stats.nudges_committed, stats.nudges_dropped), (1, 2));
        server.cluster.signal_backend(process_id, Signal::Cont).unwrap();
        until_gone(&mut watch, Some(process_id)).await;
    });
}

/// A nudge may be made where no runtime is, and a notifier outlive its runtime.
#[test]
fn a_nudge_needs_no_runtime_and_is_dropped_when_that_of_the_notifier_has_ended() {
    let server = Server::start();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let notifier = first.block_on(notifier(&server));
    let mut listener = second.block_on(server.listener(&["jobs"]));
    notifier.nudge("jobs", "1");
    assert_eq!(second.block_on(next(&mut listener)).payload(), "1");
    let unused = first.block_on(self::notifier(&server));
    drop(first);
    for notifier in [notifier, unused] {
        let before = notifier.stats().nudges_dropped;
        notifier.nudge("jobs", "2");
        assert_eq!(notifier.stats().nudges_dropped, before + 1);
        let error = notifier.last_nudge_error().unwrap();
        assert!(format!("{error:#}").contains("the runtime"), "{error:#}");
        second.block_on(notifier.close());
    }
    assert!(matches!(listener.try_recv(), Ok(None)));
}

#[test]
fn a_window_that_makes_no_sense_is_refused_by_name() {
    let server = Server::start();
    run(async {
        for window in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
            let error = Notifier::builder(server.url()).nudge_window(window).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("nudge_window"), "{error}");
        }
    });
}

/// Functions of the user that come first in `search_path` are not called.
#[test]
fn nudges_call_no_functions_of_the_search_path() {
    let server = Server::start();
    run(async {
        let mut owner = server.connection().await;
        owner
            .simple_query(
                "CREATE SCHEMA shadow;
                 CREATE TABLE shadow.called (what text);
                 CREATE FUNCTION shadow.called(text) RETURNS void LANGUAGE sql AS
                     'INSERT INTO shadow.called VALUES ($1)';
                 CREATE FUNCTION shadow.pg_notify(text, text) RETURNS text LANGUAGE sql AS
                     $$SELECT shadow.called('pg_notify'); SELECT $1$$;
                 CREATE FUNCTION shadow.set_config(text, text, bool) RETURNS text LANGUAGE sql AS
                     $$SELECT shadow.called('set_config'); SELECT $1$$;
                 CREATE FUNCTION shadow.unnest(text[], text[]) RETURNS TABLE (c text, p text) LANGUAGE sql AS
                     $$SELECT shadow.called('unnest'); SELECT $1[1], $2[1]$$;
                 CREATE FUNCTION shadow.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS
                     $$SELECT shadow.called('unnest'); SELECT $1[1]$$;
                 CREATE FUNCTION shadow.add_one(int, text) RETURNS int LANGUAGE sql AS
                     $$SELECT shadow.called('count'); SELECT $1 + 1$$;
                 CREATE AGGREGATE shadow.count(text) (SFUNC = shadow.add_one, STYPE = int, INITCOND = 0);
                 ALTER ROLE postgres SET search_path = shadow, pg_catalog",
            )
            .await
            .unwrap();
        let mut listener = server.listener(&["jobs"]).await;
        let notifier = notifier(&server).await;
        for key in ["1", "2", "3"] {
            notifier.nudge("jobs", key);
        }
        assert_eq!(keys_up_to(&mut listener, "3").await, ["1", "2", "3"]);
        until_confirmed(&notifier).await;
        let called = "SELECT coalesce(string_agg(DISTINCT what, ' '), 'none') FROM shadow.called";
        assert_eq!(value(&mut owner, called).await, "none");
        // Without their schema the functions of the user would be called.
        let mut other = server.connection().await;
        let sql = "SELECT set_config('a.b', 'c', true), count(pg_notify(c, c)) \
                   FROM unnest('{jobs}'::text[]) AS t(c)";
        other.simple_query(sql).await.unwrap();
        assert_eq!(value(&mut owner, called).await, "count pg_notify set_config unnest");
    });
}

/// Writers with nudges do not wait for each other: the lock of NOTIFY is held for no flush.
#[test]
fn a_nudge_waits_for_no_standby_although_the_commits_of_the_writer_do() {
    let server = Server::with(|builder| builder.setting("synchronous_standby_names", "none"));
    run(async {
        let mut listener = server.listener(&["jobs"]).await;
        let waiting = config(&server).options("-c synchronous_commit=on");
        let notifier = Notifier::connect(waiting).await.unwrap();
        let mut watch = server.connection().await;
        let mut writer = server.connection().await;
        writer.simple_query("SET synchronous_commit = on").await.unwrap();
        let process_id = writer.process_id().unwrap();
        let written =
            tokio::spawn(
                async move { writer.simple_query("CREATE TABLE written ()").await.map(drop) },
            );
        let waits = format!(
            "SELECT wait_event IS NOT DISTINCT FROM 'SyncRep' FROM pg_stat_activity WHERE pid = {process_id}"
        );
        until_sql(&mut watch, &waits).await;
        notifier.nudge("jobs", "1");
        assert_eq!(next(&mut listener).await.payload(), "1");
        until_confirmed(&notifier).await;
        let cancel = format!("SELECT pg_cancel_backend({process_id})");
        assert_eq!(value(&mut watch, &cancel).await, "t");
        written.await.unwrap().unwrap();
    });
}

/// The example of the guide.
#[test]
fn the_example_of_nudges_does_every_job_once() {
    let server = Server::start();
    // An earlier run was ended before its end.
    run(async {
        server.connection().await.simple_query("CREATE SCHEMA pgbell_example").await.unwrap();
    });
    let text = example_output(&server, "nudge_after_commit");
    assert_eq!(numbers(&text, "job ", " is done"), (1..=20).collect::<Vec<_>>(), "{text}");
    assert!(text.contains("nudged"), "{text}");
    assert!(text.contains("20 nudges, 0 dropped"), "{text}");
}
