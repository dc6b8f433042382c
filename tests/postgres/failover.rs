//! A primary and its standby in one configuration.

use pgbell::{Connection, ErrorKind, Listener};
use pgbell_testkit::{Cluster, Mode};

use crate::support::{Server, next, run, value};

/// A configuration that names the servers in this order.
pub(crate) fn conninfo(servers: [&Cluster; 2], more: &str) -> String {
    let [first, second] = servers;
    format!(
        "host={},{} port={},{} user={} password={} dbname=postgres {more}",
        first.host(),
        second.host(),
        first.port(),
        second.port(),
        first.superuser(),
        first.superuser_password(),
    )
}

async fn is_in_recovery(connection: &mut Connection) -> bool {
    value(connection, "SELECT pg_is_in_recovery()").await == "t"
}

#[test]
fn the_primary_is_chosen_in_any_order_of_hosts_also_after_promotion() {
    let server = Server::start();
    let standby = server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
    standby.wait_caught_up(&server.cluster).unwrap();
    run(async {
        let wrong_order = conninfo([&standby, &server.cluster], "");
        let mut listener = Listener::builder(&wrong_order).channels(["a"]).connect().await.unwrap();
        server.notifier().await.notify("a", "from the primary").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "from the primary");
        listener.close().await;

        for (attrs, expected) in [
            ("standby", true),
            ("prefer-standby", true),
            ("read-only", true),
            ("read-write", false),
        ] {
            let right_order =
                conninfo([&server.cluster, &standby], &format!("target_session_attrs={attrs}"));
            let mut connection = Connection::connect(&right_order).await.unwrap();
            assert_eq!(is_in_recovery(&mut connection).await, expected, "{attrs}");
        }

        // Only a standby: it is refused by name, by `connect` of a listener and by LISTEN of a connection.
        let alone = standby.url_for_superuser();
        let error = Listener::connect(&alone).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Standby, "{error}");
        let mut connection = Connection::connect(&alone).await.unwrap();
        let error = connection.listen("a").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.sqlstate()),
            (ErrorKind::Standby, Some("25006")),
            "{error}"
        );
    });
    server.cluster.stop(Mode::Fast).unwrap();
    standby.promote().unwrap();
    run(async {
        let right_order = conninfo([&server.cluster, &standby], "");
        let mut listener = Listener::builder(&right_order).channels(["a"]).connect().await.unwrap();
        let mut connection = Connection::connect(&right_order).await.unwrap();
        connection.notify("a", "from the new primary").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "from the new primary");
    });
}

/// The hook must read what was committed before LISTEN, because notifications of it never arrive. A standby that lags may not
/// have that state yet.
#[test]
fn the_hook_reads_from_the_server_of_the_session_and_not_from_a_standby_that_lags() {
    let server = Server::start();
    let standby = server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
    standby.wait_caught_up(&server.cluster).unwrap();
    run(async {
        let mut paused = Connection::connect(standby.url_for_superuser()).await.unwrap();
        paused.simple_query("SELECT pg_wal_replay_pause()").await.unwrap();
        let mut writer = server.connection().await;
        writer.simple_query("CREATE TABLE state AS SELECT 'new' AS word").await.unwrap();
        for more in ["target_session_attrs=any", "target_session_attrs=prefer-standby"] {
            for servers in [[&standby, &server.cluster], [&server.cluster, &standby]] {
                let (sender, mut read) = tokio::sync::mpsc::unbounded_channel();
                let builder = Listener::builder(conninfo(servers, more).as_str()).channels(["a"]);
                let builder = builder.on_live(move |mut connection, _| {
                    let sender = sender.clone();
                    async move {
                        let is_standby = is_in_recovery(&mut connection).await;
                        let rows = connection.simple_query("SELECT word FROM state").await;
                        sender.send((is_standby, rows.map(|rows| rows[0].len()))).unwrap();
                        connection.close().await;
                        Ok(())
                    }
                });
                let listener = builder.connect().await.unwrap();
                let (is_standby, rows) = read.recv().await.unwrap();
                assert!(!is_standby, "{more}");
                assert_eq!(rows.unwrap(), 1, "{more}");
                listener.close().await;
            }
        }
    });
}

/// E10: a server with an idle timeout would end every quiet listener, unless the session sets another one.
#[test]
fn a_listener_is_not_ended_by_idle_session_timeout() {
    let server = Server::with(|builder| builder.setting("idle_session_timeout", "300ms"));
    run(async {
        let mut listener = server.listener(&["a"]).await;
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        server.notifier().await.notify("a", "still here").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "still here");
    });
}
