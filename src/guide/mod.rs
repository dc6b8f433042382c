//! The guide: chapters for users, with examples that are compiled and tested. Each begins with when not to do what it describes.
//!
//! | | |
//! |---|---|
//! | start | [`quick_start`] · [`choosing_a_type`] · [`moving`] from sqlx, tokio-postgres, pgorm, psycopg and asyncpg · [`when_not`] to use LISTEN and NOTIFY |
//! | connect | [`connecting`]: TLS, passwords, tokens, several hosts · [`poolers`] and hosted PostgreSQL |
//! | build | [`losing_nothing`] that matters · [`fan_out`] and topics · [`handlers`] · [`wake_or_poll`] · [`existing_queues`]: wake-ups beside pgmq, River, graphile-worker · `durability`: a log of which nothing is missed, and `tables_and_queues`: mirrors and jobs of pgmq, with the feature `durable` · [`publishing`] · [`triggers`] and SQL that notifies · `json`, with the feature `json` · `blocking`: threads without async, with the feature `blocking` · [`testing_your_code`] without a server |
//! | operate | [`production`]: numbers, alerts, probes, shutdown, containers · [`memory`] and back-pressure · [`performance`] · [`listen_cost`] |
//! | evaluate | [`correctness`]: how it is shown, with commands |
//!
//! # Answers
//!
//! | question | answer |
//! |---|---|
//! | which type for 500 clients of SSE? | one [`Hub`](crate::Hub): [`choosing_a_type`], [`memory`] |
//! | how do I miss nothing, also while nothing runs? | a log in a table, with the feature `durable`: the chapter `durability` |
//! | how do I push to browsers, with axum? | a handler subscribes, and returns the subscription as a stream: [`fan_out`](fan_out#a-complete-example) |
//! | how do I wake the workers of a job queue? | [`wake_or_poll`], and [`triggers`] for the SQL |
//! | how do I keep a table in memory? which queue? | `Mirror`, `pgmq`, with the feature `durable`: the chapter `tables_and_queues` |
//! | what happens to notifications during a failover? | they are not kept, and a [`Gap`](crate::Gap) reports that: [`losing_nothing`](losing_nothing#during-a-failover) |
//! | how much memory does a consumer take that sleeps? | at most 22 MiB by default, and 33 MiB if the server sends very long messages: [`memory`] |
//! | how do I run behind PgBouncer, on RDS, on Neon? | [`poolers`] |
//! | how do I test a handler? | [`testing_your_code`](testing_your_code#a-handler) |
//! | how do I replace `PgListener` of sqlx? | [`moving`](moving#sqlx-pglistener) |
//! | how do I shut down without a loss? | [`production`](production#shutting-down-without-a-loss) |
//! | what do I alert on? | [`production`](production#what-to-alert-on) |
//! | what does this error mean? | [`ErrorKind`](crate::ErrorKind) |

#[doc = include_str!("choosing_a_type.md")]
pub mod choosing_a_type {}

#[doc = include_str!("connecting.md")]
pub mod connecting {}

#[doc = include_str!("correctness.md")]
pub mod correctness {}

#[cfg(feature = "blocking")]
#[doc = include_str!("blocking.md")]
pub mod blocking {}

#[cfg(feature = "durable")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable")))]
#[doc = include_str!("durability.md")]
pub mod durability {}

#[doc = include_str!("existing_queues.md")]
pub mod existing_queues {}

#[doc = include_str!("fan_out.md")]
pub mod fan_out {}

#[doc = include_str!("handlers.md")]
pub mod handlers {}

#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
#[doc = include_str!("json.md")]
pub mod json {}

#[doc = include_str!("listen_cost.md")]
pub mod listen_cost {}

#[doc = include_str!("losing_nothing.md")]
pub mod losing_nothing {}

#[doc = include_str!("memory.md")]
pub mod memory {}

#[doc = include_str!("moving.md")]
pub mod moving {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("poolers.md")]
pub mod poolers {}

#[doc = include_str!("production.md")]
pub mod production {}

#[doc = include_str!("publishing.md")]
pub mod publishing {}

#[doc = include_str!("quick_start.md")]
pub mod quick_start {}

#[cfg(feature = "durable")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable")))]
#[doc = include_str!("tables_and_queues.md")]
pub mod tables_and_queues {}

#[doc = include_str!("testing_your_code.md")]
pub mod testing_your_code {}

/// A statement of the chapter about triggers, with its name as the heading.
macro_rules! recipe {
    ($name:literal) => {
        concat!("\n## `", $name, "`\n\n```sql\n", include_str!(concat!("recipes/", $name)), "```\n")
    };
}

// The tests run these files: `tests/postgres/matrix/recipes.rs`.
#[doc = include_str!("triggers.md")]
#[doc = recipe!("notify_change.sql")]
#[doc = recipe!("notify_key.sql")]
#[doc = recipe!("notify_row.sql")]
#[doc = recipe!("record_change.sql")]
#[doc = recipe!("take_changes.sql")]
#[doc = recipe!("notify_values.sql")]
#[doc = recipe!("update_and_notify.sql")]
pub mod triggers {}

#[doc = include_str!("wake_or_poll.md")]
pub mod wake_or_poll {}

#[doc = include_str!("when_not.md")]
pub mod when_not {}
