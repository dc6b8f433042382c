//! Records of losses, at their position in the stream.

use std::time::SystemTime;

use pgbell::{Gap, Lagged, Loss};
use serde::Serialize;

use super::push_json;
use super::time::{JSON_DECIMALS, timestamp};

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum LossRecord {
    Gap {
        cause: String,
        lost_at: String,
        restored_at: String,
        attempts: u32,
        sessions: u32,
        epoch: u32,
        refused: Vec<Refused>,
    },
    Lagged {
        count: u64,
        first_sequence: u64,
    },
}

#[derive(Serialize)]
struct Refused {
    channel: String,
    error: String,
}

/// Appends the record of a loss as JSON.
pub(crate) fn push_json_loss(loss: &Loss, out: &mut Vec<u8>) {
    match loss {
        Loss::Gap(gap) => push_json(&gap_record(gap), out),
        Loss::Lagged(lagged) => push_json(&lagged_record(*lagged), out),
        // A kind of loss that this version does not know is printed too.
        other => {
            let what = format!("{other:?}");
            push_json(&serde_json::json!({"event": "loss", "what": what}), out);
        }
    }
}

/// Returns the time of a loss. That of a lag is `now`, because a lag has no time.
pub(crate) fn time_of(loss: &Loss, now: SystemTime) -> SystemTime {
    if let Loss::Gap(gap) = loss { gap.restored_at() } else { now }
}

/// Returns the text of a loss, in one line.
pub(crate) fn describe(loss: &Loss) -> String {
    match loss {
        Loss::Gap(gap) => format!("gap: {gap}"),
        Loss::Lagged(lagged) => {
            format!("lagged: {lagged} (from sequence {})", lagged.first_sequence())
        }
        other => format!("{other:?}"),
    }
}

fn gap_record(gap: &Gap) -> LossRecord {
    LossRecord::Gap {
        cause: format!("{:#}", gap.cause()),
        lost_at: timestamp(gap.lost_at(), JSON_DECIMALS),
        restored_at: timestamp(gap.restored_at(), JSON_DECIMALS),
        attempts: gap.attempts(),
        sessions: gap.sessions(),
        epoch: gap.epoch(),
        refused: gap
            .refused()
            .iter()
            .map(|(channel, error)| Refused {
                channel: channel.clone(),
                error: format!("{error:#}"),
            })
            .collect(),
    }
}

fn lagged_record(lagged: Lagged) -> LossRecord {
    LossRecord::Lagged { count: lagged.count(), first_sequence: lagged.first_sequence() }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn losses_are_events() {
        let mut out = Vec::new();
        push_json(&LossRecord::Lagged { count: 12, first_sequence: 3 }, &mut out);
        assert_eq!(out, b"{\"event\":\"lagged\",\"count\":12,\"first_sequence\":3}\n");
        out.clear();
        let gap = LossRecord::Gap {
            cause: "closed".to_owned(),
            lost_at: timestamp(UNIX_EPOCH, JSON_DECIMALS),
            restored_at: timestamp(UNIX_EPOCH, JSON_DECIMALS),
            attempts: 2,
            sessions: 1,
            epoch: 2,
            refused: vec![Refused { channel: "a".to_owned(), error: "no".to_owned() }],
        };
        push_json(&gap, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"event\":\"gap\",\"cause\":\"closed\",\"lost_at\":\"1970-01-01T00:00:00.000000Z\",\
             \"restored_at\":\"1970-01-01T00:00:00.000000Z\",\"attempts\":2,\"sessions\":1,\
             \"epoch\":2,\"refused\":[{\"channel\":\"a\",\"error\":\"no\"}]}\n"
        );
    }
}
