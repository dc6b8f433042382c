//! Errors of code in the database that a mirror uses, such as a function that a view calls.

use pgbell::ErrorKind;
use pgbell::durable::MirrorSource;

use super::support::{Shop, content, status};
use crate::support::{Server, run, until};

const PRICED: &str = "CREATE TABLE prices (id int, price int);
    CREATE FUNCTION tax(int) RETURNS int LANGUAGE sql AS 'SELECT $1 / 5';
    CREATE FUNCTION price(int) RETURNS int LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT tax(p.price) FROM prices p WHERE p.id = $1); END';
    INSERT INTO prices VALUES (1, 5), (2, 10), (3, 15);
    CREATE VIEW priced AS SELECT id, price(id) AS status FROM orders";

/// They had the kind and the hint of a source that does not exist. The table and the column are there, so they are errors of the server, which are
/// retried.
#[test]
fn an_error_inside_a_function_of_a_view_is_not_that_of_a_missing_table_and_is_retried() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql(PRICED).await;
        let priced = || shop_source();
        let mirror = shop.builder(priced()).load(status).await.unwrap();
        let before = content(&mirror);
        for (broken, back, sqlstate) in [
            ("ALTER TABLE prices RENAME TO old", "ALTER TABLE old RENAME TO prices", "42P01"),
            ("ALTER FUNCTION tax RENAME TO old", "ALTER FUNCTION old RENAME TO tax", "42883"),
            (
                "ALTER TABLE prices RENAME price TO old",
                "ALTER TABLE prices RENAME old TO price",
                "42703",
            ),
        ] {
            shop.sql(broken).await;
            // By keys, and by a load.
            shop.sql("NOTIFY orders, '1'").await;
            until("it is reported", || {
                mirror.last_error().is_some_and(|error| error.sqlstate() == Some(sqlstate))
            })
            .await;
            let first = shop.builder(priced()).load(status).await.unwrap_err();
            let errors = [mirror.last_error().unwrap(), mirror.reload().await.unwrap_err(), first];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Server, "{broken}: {error}");
                assert_eq!(error.sqlstate(), Some(sqlstate), "{broken}: {error}");
                let hint = error.hint().unwrap();
                assert!(hint.contains("correct the view, function or policy"), "{hint}");
            }
            let failures = mirror.stats().failures;
            until("it is tried again", || mirror.stats().failures > failures).await;
            assert_eq!(content(&mirror), before);
            shop.sql(back).await;
            until("it is right again", || mirror.status().is_current()).await;
            assert!(!mirror.status().is_closed);
            assert_eq!(content(&mirror), before, "{back}");
        }
        // The view itself is missing: that is another error, and is retried too.
        shop.sql("ALTER VIEW priced RENAME TO old").await;
        let error = mirror.reload().await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Schema, Some("42P01")), "{error}");
        shop.sql("ALTER VIEW old RENAME TO priced").await;
        until("it is right again", || mirror.status().is_current()).await;
        // What is checked leaves nothing in the session.
        mirror.close().await;
    });
}

fn shop_source() -> MirrorSource {
    MirrorSource::table("priced", "id")
}
