//! Heartbeat queries for roles that may not execute some functions of the server.

use std::time::Duration;

use pgbell::Listener;

use super::on_every_version;
use crate::support::{Server, TEST_TIMEOUT, next, run, until};

on_every_version! {
    a_role_without_the_functions_of_a_heartbeat_query_has_a_heartbeat_and_can_rotate
}

/// In an earlier version, a server without MD5, or a role without EXECUTE, refused every heartbeat, and no session could be
/// handed over.
fn a_role_without_the_functions_of_a_heartbeat_query_has_a_heartbeat_and_can_rotate(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut admin = server.connection().await;
        admin.simple_query("CREATE ROLE bell LOGIN PASSWORD 'x'").await.unwrap();
        let url = server.cluster.url("bell", "x", "postgres");
        // Each query that is not permitted is refused once in a session.
        for (revoked, refusals) in [
            ("pg_catalog.md5(text), pg_catalog.md5(bytea)", 0),
            ("pg_catalog.sha256(bytea)", 1),
            ("pg_catalog.pg_listening_channels()", 2),
        ] {
            let sql = format!("REVOKE EXECUTE ON FUNCTION {revoked} FROM PUBLIC");
            admin.simple_query(&sql).await.unwrap();
            let every = Duration::from_millis(20);
            let builder = Listener::builder(&url).heartbeat(every, TEST_TIMEOUT);
            let mut listener = builder.channels(["a", "b"]).connect().await.unwrap();
            until("more heartbeats", || listener.stats().heartbeats > refusals + 3).await;
            assert_eq!(listener.stats().heartbeats_refused, refusals, "{revoked}");
            if refusals > 0 {
                let error = listener.last_error().unwrap();
                assert_eq!(error.sqlstate(), Some("42501"), "{error}");
            }
            listener.handle().rotate().await.unwrap();
            until("it is handed over", || listener.stats().handovers == 1).await;
            let before = listener.stats().heartbeats;
            until("more heartbeats", || listener.stats().heartbeats > before + refusals + 3).await;
            let stats = listener.stats();
            assert_eq!((stats.sessions, stats.sessions_lost), (2, 0), "{revoked}: {stats:?}");
            assert_eq!(stats.handover_failures, 0, "{revoked}: {stats:?}");
            assert_eq!(stats.heartbeats_refused, 2 * refusals, "{revoked}");
            admin.notify("a", "x").await.unwrap();
            assert_eq!(next(&mut listener).await.payload(), "x");
            listener.close().await;
        }
    });
}
