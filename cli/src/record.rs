//! Records: notifications and losses as text and as JSON, one per line.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgbell::proto::wire::escape::is_hidden;
use pgbell::{Batch, Gap, Lagged, Loss, NotificationRef};
use serde::Serialize;

use crate::args::Format;
use crate::json;

/// A notification as JSON. The order of the fields is the order of the keys.
#[derive(Serialize)]
struct NotificationRecord<'a> {
    channel: &'a str,
    payload: &'a str,
    process_id: i32,
    received_at: &'a str,
    sequence: u64,
    epoch: u32,
}

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

/// Appends the notifications of a batch. A loss that it carries comes first: see [`push_loss`].
pub(crate) fn push_batch(batch: &Batch<'_>, format: Format, out: &mut Vec<u8>) {
    // All of a batch were received at the same moment.
    let Some(first) = batch.iter().next() else { return };
    let received_at = timestamp(first.received_at(), decimals(format));
    for notification in batch {
        match format {
            Format::Text => push_text(&notification, &received_at, out),
            Format::Json => push_json_notification(&notification, &received_at, out),
        }
    }
}

fn push_text(notification: &NotificationRef<'_>, received_at: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(received_at.as_bytes());
    out.push(b' ');
    push_data(notification.channel(), |c| c == ' ', out);
    // Writing to a Vec does not fail.
    let _ = write!(out, " #{} ", notification.process_id());
    push_data(notification.payload(), |_| false, out);
    out.push(b'\n');
}

fn push_json_notification(
    notification: &NotificationRef<'_>,
    received_at: &str,
    out: &mut Vec<u8>,
) {
    push_json(
        &NotificationRecord {
            channel: notification.channel(),
            payload: notification.payload(),
            process_id: notification.process_id(),
            received_at,
            sequence: notification.sequence(),
            epoch: notification.epoch(),
        },
        out,
    );
}

/// Appends the record of a loss. In text the time of a lag is `now`, because a lag has no time.
pub(crate) fn push_loss(loss: &Loss, now: SystemTime, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Json => match loss {
            Loss::Gap(gap) => push_json(&gap_record(gap), out),
            Loss::Lagged(lagged) => push_json(&lagged_record(*lagged), out),
            // A kind of loss that this version does not know is printed too.
            other => {
                let what = format!("{other:?}");
                push_json(&serde_json::json!({"event": "loss", "what": what}), out);
            }
        },
        Format::Text => {
            let at = if let Loss::Gap(gap) = loss { gap.restored_at() } else { now };
            out.extend_from_slice(timestamp(at, decimals(format)).as_bytes());
            out.extend_from_slice(b" ~ ");
            push_visible(&describe(loss), out);
            out.push(b'\n');
        }
    }
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

pub(crate) fn push_json(record: &impl Serialize, out: &mut Vec<u8>) {
    // Neither writing to a Vec nor serialising strings and numbers fails.
    let _ = json::write(record, &mut *out);
    out.push(b'\n');
}

/// Decimals of a second in text.
const TEXT_DECIMALS: usize = 3;

/// Decimals of a second in JSON: the precision of common system clocks.
pub(crate) const JSON_DECIMALS: usize = 6;

pub(crate) fn decimals(format: Format) -> usize {
    match format {
        Format::Text => TEXT_DECIMALS,
        Format::Json => JSON_DECIMALS,
    }
}

/// Formats a time as RFC 3339 in UTC: `2026-11-21T12:00:01.123Z`. A time before 1970 becomes the beginning of 1970.
pub(crate) fn timestamp(at: SystemTime, decimals: usize) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.");
    let nanos = format!("{:09}", since.subsec_nanos());
    text.push_str(nanos.get(..decimals).unwrap_or(&nanos));
    text.push('Z');
    text
}

/// Returns the year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years that begin on 1 March have the leap day as their last day, and the calendar repeats every 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days.saturating_add(719_468);
    let (cycle, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    // Subtract the leap days before: one in 4 years, none in 100, one in 400.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March: 31 30 31 30 31, twice, and then January and February.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * cycle + year + next, month, day)
}

/// Appends a line for people, with the characters escaped for which [`is_hidden`] is true: those that move the cursor, end
/// the line, colour the terminal, change the direction of text, or are invisible. Backslashes are not escaped.
pub(crate) fn push_visible(text: &str, out: &mut Vec<u8>) {
    push_escaped(text, is_hidden, out);
}

/// Appends data so that it can be restored: like [`push_visible`], and escapes backslashes too, and the characters for which
/// `or` is true.
pub(crate) fn push_data(text: &str, or: impl Fn(char) -> bool, out: &mut Vec<u8>) {
    push_escaped(text, |c| c == '\\' || or(c) || is_hidden(c), out);
}

fn push_escaped(text: &str, is_escaped: impl Fn(char) -> bool, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find(&is_escaped) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = tail.chars();
        match characters.next() {
            // Printable: the standard library does not escape it.
            Some(' ') => out.extend_from_slice(b"\\u{20}"),
            // The escape is ASCII for every character.
            Some(character) => out.extend(character.escape_default().map(|c| c as u8)),
            None => {}
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(text: &str) -> String {
        let mut out = Vec::new();
        push_data(text, |_| false, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_735_603_200, "2024-12-31T00:00:00.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (1_795_262_401, "2026-11-21T12:00:01.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(at, 3), expected, "{seconds}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = civil(0);
        for days in 1..200_000 {
            let today = civil(days);
            let (year, month, day) = before;
            let next = [(year, month, day + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(next.contains(&today), "{before:?} then {today:?}");
            assert!((1..=31).contains(&today.2) && (1..=12).contains(&today.1), "{today:?}");
            before = today;
        }
        // The length of the Gregorian calendar's cycle, four times.
        assert_eq!(civil(4 * 146_097), (3_570, 1, 1));
    }

    #[test]
    fn fractions_are_truncated_not_rounded() {
        let at = UNIX_EPOCH + Duration::new(1, 123_999_999);
        assert_eq!(timestamp(at, TEXT_DECIMALS), "1970-01-01T00:00:01.123Z");
        assert_eq!(timestamp(at, JSON_DECIMALS), "1970-01-01T00:00:01.123999Z");
    }

    #[test]
    fn control_characters_and_invisible_characters_are_escaped() {
        for (text, expected) in [
            ("{\"id\":1}", "{\"id\":1}"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\x1b[2J\x07\x7f", "\\u{1b}[2J\\u{7}\\u{7f}"),
            ("\u{85}\u{9b}", "\\u{85}\\u{9b}"),
            ("x\u{202e}y\u{2028}", "x\\u{202e}y\\u{2028}"),
            ("x\u{200b}y\u{e0041}\u{feff}", "x\\u{200b}y\\u{e0041}\\u{feff}"),
            ("grüße 🔔", "grüße 🔔"),
            ("C:\\dir", "C:\\\\dir"),
            ("\\n", "\\\\n"),
            ("\\u{a}", "\\\\u{a}"),
            ("", ""),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

    /// Reverses the escapes, as the documentation describes them.
    fn restored(text: &str) -> String {
        let mut restored = String::new();
        let mut rest = text;
        while let Some((plain, escape)) = rest.split_once('\\') {
            restored.push_str(plain);
            let kind = escape.chars().next().unwrap();
            rest = &escape[1..];
            match kind {
                '\\' => restored.push('\\'),
                'n' => restored.push('\n'),
                'r' => restored.push('\r'),
                't' => restored.push('\t'),
                'u' => {
                    let (digits, after) = rest[1..].split_once('}').unwrap();
                    let character = char::from_u32(u32::from_str_radix(digits, 16).unwrap());
                    restored.push(character.unwrap());
                    rest = after;
                }
                other => panic!("{other}"),
            }
        }
        restored + rest
    }

    #[test]
    fn a_newline_and_a_backslash_with_an_n_are_written_differently_and_both_can_be_restored() {
        assert_ne!(visible("a\nb"), visible("a\\nb"));
        let every: String = (0..0x11_0000).filter_map(char::from_u32).collect();
        let mut samples = vec![every, "\\u{20}\\n\\\\".to_owned()];
        samples.extend((0..=255_u8).map(|byte| format!("\\{}n", char::from(byte))));
        for sample in samples {
            let text = visible(&sample);
            assert!(!text.contains(is_hidden));
            assert_eq!(restored(&text), sample);
        }
    }

    #[test]
    fn a_space_in_the_name_of_a_channel_does_not_end_the_name() {
        let mut out = Vec::new();
        push_data("a #1 b", |c| c == ' ', &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.as_str(), restored(&text)), ("a\\u{20}#1\\u{20}b", "a #1 b".to_owned()));
    }

    #[test]
    fn json_has_its_keys_in_order() {
        let mut out = Vec::new();
        push_json(
            &NotificationRecord {
                channel: "orders",
                payload: "{\"id\":1}\n",
                process_id: 4711,
                received_at: "2026-11-21T12:00:01.123456Z",
                sequence: 7,
                epoch: 1,
            },
            &mut out,
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"channel\":\"orders\",\"payload\":\"{\\\"id\\\":1}\\n\",\"process_id\":4711,\
             \"received_at\":\"2026-11-21T12:00:01.123456Z\",\"sequence\":7,\"epoch\":1}\n"
        );
    }

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
