//! libpq: one blocking thread, as in the example of the manual.

use super::{Job, PING};
use crate::latency::{Latency, Stopwatch};
use crate::outcome::Outcome;
use crate::pq::Connection;
pub(crate) use crate::pq::version;
use crate::tally::Tally;

pub(super) fn run(job: &Job) -> Outcome<()> {
    let mut connection = connect(job)?;
    connection.execute(&job.shape.listen_sql())?;
    let mut tally = Tally::begin(job.count)?;
    while !tally.is_complete() {
        connection.wait()?;
        connection.consume_input()?;
        while let Some(notification) = connection.next_notification() {
            tally.arrived();
            tally.add(notification.channel(), notification.payload());
        }
    }
    tally.finish()
}

pub(super) fn ping_pong(job: &Job) -> Outcome<Latency> {
    let mut sender = connect(job)?;
    let mut receiver = connect(job)?;
    receiver.execute(&format!("LISTEN {PING}"))?;
    let mut watch = Stopwatch::new(job.count)?;
    while let Some(ping) = watch.next() {
        sender.execute(&ping.sql())?;
        let mut arrived = false;
        while !arrived {
            receiver.wait()?;
            receiver.consume_input()?;
            while let Some(notification) = receiver.next_notification() {
                ping.check(notification.payload())?;
                arrived = true;
            }
        }
        watch.arrived(&ping);
    }
    watch.finish()
}

fn connect(job: &Job) -> Outcome<Connection> {
    Connection::connect(&format!("{} gssencmode=disable", job.conninfo()))
}
