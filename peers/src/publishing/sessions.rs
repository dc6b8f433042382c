//! Sessions of tokio-postgres.

use tokio_postgres::{Client, NoTls};

use crate::outcome::Outcome;

/// Opens a session, whose connection is driven by a task.
pub(crate) async fn open(conninfo: &str) -> Outcome<Client> {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
