//! Notifications arrive through the connection, not through the client.

use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, NoTls};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (mut client, mut connection) =
        tokio_postgres::connect(&std::env::var("DATABASE_URL").unwrap(), NoTls).await.unwrap();
    let (sender, mut payloads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(one) = message.unwrap() {
                sender.send(one.payload_bytes().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("LISTEN orders").await.unwrap();
    client.batch_execute("NOTIFY orders, 'plain'").await.unwrap();
    client.execute("NOTIFY orders, $$it's$$", &[]).await.unwrap();
    client.query("SELECT pg_notify($1, $2)", &[&"orders", &"bound é"]).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("NOTIFY orders, 'rolled back'", &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("NOTIFY orders, 'committed'", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    for expected in ["plain", "it's", "bound é", "committed"] {
        let payload = tokio::time::timeout(Duration::from_secs(10), payloads.recv()).await.unwrap();
        assert_eq!(payload.as_deref(), Some(expected));
    }
    let error = client.batch_execute("CREATE TABLE stock (id int)").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    let error = client.query("SELECT id FROM missing WHERE id = $1", &[&7]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    let row = client.query_one("SELECT id, name FROM stock WHERE id = $1", &[&7]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (7, "ink"));
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}
