//! [`send`] and [`send_nudges`]: encode the notifications of one transaction as one statement.

use std::time::Instant;

use super::call::Call;
use super::group::Group;
use super::request::Message;
use crate::error::{Error, ErrorKind};
use crate::proto::session::{CommandId, Session};

/// Object id of the type `text[]` in `pg_type`.
const TEXT_ARRAY_OID: u32 = 1009;

/// One statement, so one transaction. `unnest` returns its rows in the order of the arrays, and the server keeps that
/// order. The names are qualified because of the user's `search_path`, except `unnest`: with several arguments it is syntax
/// of the server, which must not be qualified.
// N51.
const NOTIFY_MANY: &str = "SELECT pg_catalog.count(pg_catalog.pg_notify(c, p)) \
                           FROM unnest($1, $2) AS t(c, p)";

/// The same for nudges. The setting is that of this transaction only, so it stays in no session of a pooler. It makes the commit wait
/// for no disk and no standby, whatever else the server writes with it.
// N192.
const NUDGE: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'off', true), \
                     pg_catalog.count(pg_catalog.pg_notify(c, p)) FROM unnest($1, $2) AS t(c, p)";

/// The largest answer of the server, in bytes. It has one row with one number, or with one empty text.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Encodes the calls of a transaction into the output of a session.
pub(super) fn send(
    calls: &[Call],
    now: Instant,
    session: &mut Session,
) -> Result<CommandId, Error> {
    let id = match calls {
        [] => return Err(Error::new(ErrorKind::Misuse, "a transaction without notifications")),
        [Call { message: Message::Notify { channel, payload }, .. }] => {
            session.notify(now, channel, payload)?
        }
        [Call { message: Message::Many { channels, payloads }, .. }] => {
            of_arrays(NOTIFY_MANY, now, session, channels, payloads)?
        }
        calls => of_pairs(NOTIFY_MANY, calls.iter().filter_map(Call::pair), now, session)?,
    };
    limit(id, session);
    Ok(id)
}

/// Encodes nudges, which are pairs of a channel and a key, into the output of a session.
pub(super) fn send_nudges<'a>(
    nudges: impl Iterator<Item = (&'a str, &'a str)>,
    now: Instant,
    session: &mut Session,
) -> Result<CommandId, Error> {
    let id = of_pairs(NUDGE, nudges, now, session)?;
    limit(id, session);
    Ok(id)
}

fn limit(id: CommandId, session: &mut Session) {
    session.require_commit(id);
    session.limit_answer(id, ANSWER_BYTES_MAX);
    session.limit_rows(id, 1);
}

fn of_pairs<'a>(
    sql: &str,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    now: Instant,
    session: &mut Session,
) -> Result<CommandId, Error> {
    let mut group = Group::new();
    for (channel, payload) in pairs {
        group.push(channel, payload)?;
    }
    let (channels, payloads) = group.finish();
    of_arrays(sql, now, session, &channels, &payloads)
}

fn of_arrays(
    sql: &str,
    now: Instant,
    session: &mut Session,
    channels: &str,
    payloads: &str,
) -> Result<CommandId, Error> {
    // A buffer that grows by doubling could take twice as much.
    session.transmit().reserve(channels.len() + payloads.len() + 1_024);
    let parameters = [(TEXT_ARRAY_OID, Some(channels)), (TEXT_ARRAY_OID, Some(payloads))];
    session.query(now, sql, &parameters)
}
