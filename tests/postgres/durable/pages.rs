//! What a page reads: its own records, and not all that wait.

use pgbell::Connection;

use super::support::{Log, sql};
use crate::matrix::on_every_version;
use crate::support::{Server, run, value};

on_every_version! {
    a_page_reads_its_own_records_only
}

/// The rows that the session has read from the log and its indexes, in this transaction and before.
const READ: &str = "SELECT sum(pg_stat_get_xact_tuples_returned(pg_class.oid)) FROM pg_class
    LEFT JOIN pg_index ON indexrelid = pg_class.oid
    WHERE coalesce(indrelid, pg_class.oid) IN (SELECT relid FROM pg_partition_tree('outbox'))";

/// Receives a page of ten records after a position, in a session that keeps its plan. Returns how many rows the server has read for it.
async fn read_ten(session: &mut Connection, position: &str) -> i64 {
    sql(session, "BEGIN").await;
    let before: i64 = value(session, READ).await.parse().unwrap();
    let page = format!("SELECT count(*) FROM outbox_read(1, 1, false, 10, {position})");
    // One row is about the cursor, and one about the end of the window if that is new.
    assert_eq!(value(session, &page).await, "12", "{position}");
    let after: i64 = value(session, READ).await.parse().unwrap();
    sql(session, "COMMIT").await;
    after - before
}

/// A session plans a page once. A plan that sorts what waits would read all of it for each page.
fn a_page_reads_its_own_records_only(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        log.open("reader").await.close().await;
        let (mut writer, mut reader) = (log.session().await, log.session().await);
        let begin = "'1:1:', 0, '1', NULL, NULL, NULL, NULL";
        // The plan is made while the log is empty.
        let empty = format!("SELECT count(*) FROM outbox_read(1, 1, false, 10, {begin})");
        assert_eq!(value(&mut reader, &empty).await, "1");
        let fill =
            "INSERT INTO outbox (key, payload) SELECT '', n FROM generate_series(1, 5000) AS n";
        sql(&mut writer, fill).await;
        let xid = value(&mut writer, "SELECT xid FROM outbox LIMIT 1").await;
        // The transaction was in progress in the lower snapshot, above its xmax or in its list.
        let above = format!("'3:3:', 5000, ({xid} + 1)::text::xid8, NULL, NULL, NULL, NULL");
        let listed = format!("'{xid}:{xid}1:{xid}', 5000, '{xid}1', NULL, NULL, NULL, NULL");
        for statistics in ["SELECT 1", "ANALYZE outbox"] {
            sql(&mut writer, statistics).await;
            for position in [begin, &above, &listed] {
                let count = read_ten(&mut reader, position).await;
                assert!((10..50).contains(&count), "{statistics}, {position}: {count} rows");
            }
        }
    });
}
