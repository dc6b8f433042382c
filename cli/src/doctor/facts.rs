//! [`Facts`]: what several checks must know of the server.

use pgbell::Error;

use super::client::Client;
use super::sql::Values as _;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// `180001`.
    pub(super) version: u32,
    /// `18.1 (Debian 18.1-1)`.
    pub(super) version_text: String,
    pub(super) is_standby: bool,
    /// Without the rights of `pg_read_all_stats`, other roles' sessions are seen without their states.
    pub(super) sees_all: bool,
}

impl Facts {
    pub(super) async fn read(client: &mut Client) -> Result<Self, Error> {
        let rows = client.query("SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.current_setting('server_version'),
                pg_catalog.pg_is_in_recovery(), pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')",
        )
        .await?;
        let row = rows.get(0);
        Ok(Self {
            version: row.number(0).unwrap_or(0),
            version_text: row.text(1),
            is_standby: row.is_true(2),
            sees_all: row.is_true(3),
        })
    }

    /// Returns the major version: 18.
    pub(super) fn major(&self) -> u32 {
        self.version / 10_000
    }
}
