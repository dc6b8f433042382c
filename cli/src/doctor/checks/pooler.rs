//! A pooler between this program and the server.

use pgbell::{Config, Connection, Error, ErrorKind};

use crate::doctor::client::Client;
use crate::doctor::delivery_channel::private_channel;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;

const CHECK: &str = "pooler";

/// Sessions that change the server session show the mode. LISTEN is refused by the library if notifications would not arrive.
pub(in crate::doctor) async fn check(
    config: &Config,
    client: &mut Client,
    probes: bool,
) -> Result<Vec<Finding>, Error> {
    let rows = client.query("SELECT pg_catalog.pg_backend_pid()").await?;
    let is_pooled = client.connection().process_id() != rows.get(0).number(0);
    if !is_pooled {
        return Ok(vec![Finding::ok(CHECK, "there is no pooler in between")]);
    }
    if !probes {
        let summary = "there is a pooler in between; without a probe its mode is not known";
        return Ok(vec![Finding::new(CHECK, Severity::Note, summary)]);
    }
    // The library listens on a private channel, and notifies it from a second session.
    let mut receiver = Connection::connect(config.clone()).await?;
    let finding = match receiver.listen(&private_channel()).await {
        Ok(()) => {
            Finding::new(CHECK, Severity::Note, "there is a pooler in between, in session mode")
                .because("each listener keeps one of its server sessions")
        }
        Err(error) if error.kind() == ErrorKind::Pooler => Finding::new(
            CHECK,
            Severity::Critical,
            "there is a pooler in between, in transaction or statement mode",
        )
        .because("it accepts LISTEN, and no notification arrives")
        .cure("connect listeners directly to the server, or use a pool in session mode"),
        Err(error) => return Err(error),
    };
    receiver.close().await;
    Ok(vec![finding])
}
