//! The examples and the recipe of the chapter about durability.

use pgbell::durable::OutboxSettings;

use super::support::{Log, sql, take};
use crate::examples::example_output;
use crate::support::{Server, run};

const LOG_CHANGE: &str = include_str!("../../../src/guide/recipes/log_change.sql");

#[test]
fn a_service_that_is_killed_misses_nothing() {
    let text = example_output(&Server::start(), "outbox");
    for line in [
        "billing: all 200 orders, 0 of them twice",
        "mail: killed after",
        "mail: all 200 orders",
        "mail: 0 behind",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn effects_in_the_same_database_happen_exactly_once() {
    let text = example_output(&Server::start(), "exactly_once");
    assert!(text.contains("balance 500") && !text.contains(" 0 of them failed"), "{text}");
}

#[test]
fn a_trigger_writes_a_record_for_each_change_of_a_table() {
    let chapter = include_str!("../../../src/guide/durability.md");
    assert!(chapter.contains(LOG_CHANGE), "the chapter has another text than the file");
    let server = Server::start();
    run(async {
        let log = Log::with(server, &OutboxSettings::new()).await;
        let mut writer = log.session().await;
        sql(&mut writer, "CREATE TABLE orders (id int PRIMARY KEY, paid bool)").await;
        sql(&mut writer, LOG_CHANGE).await;
        sql(&mut writer, "BEGIN; INSERT INTO orders VALUES (7, false), (8, false); UPDATE orders SET paid = true WHERE id = 7; DELETE FROM orders WHERE id = 8; COMMIT").await;
        let mut cursor = log.open("reader").await;
        let expected = [
            "{\"id\": 7, \"paid\": false}",
            "{\"id\": 8, \"paid\": false}",
            "{\"id\": 7, \"paid\": true}",
            "{\"id\": 8, \"paid\": false}",
        ];
        assert_eq!(take(&mut cursor).await, expected);
        cursor.close().await;
    });
}
