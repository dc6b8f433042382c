//! A notification as a record.

use std::io::Write as _;

use pgbell::NotificationRef;
use serde::Serialize;

use super::escape::push_data;
use super::push_json;

/// What is printed of a notification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) channel: &'a str,
    pub(crate) payload: &'a str,
    /// The topic, if one is wanted. It is not a part of `payload` then.
    pub(crate) topic: Option<&'a str>,
    pub(crate) process_id: i32,
    pub(crate) sequence: u64,
    pub(crate) epoch: u32,
}

/// A notification as JSON. The order of the fields is the order of the keys.
#[derive(Serialize)]
struct JsonItem<'a> {
    channel: &'a str,
    payload: &'a str,
    process_id: i32,
    received_at: &'a str,
    sequence: u64,
    epoch: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
}

impl<'a> Item<'a> {
    pub(crate) fn new(notification: &NotificationRef<'a>) -> Self {
        Self {
            channel: notification.channel(),
            payload: notification.payload(),
            topic: None,
            process_id: notification.process_id(),
            sequence: notification.sequence(),
            epoch: notification.epoch(),
        }
    }

    /// Appends it as one JSON object in one line.
    pub(crate) fn push_json(&self, received_at: &str, out: &mut Vec<u8>) {
        push_json(&self.json(received_at), out);
    }

    /// Appends it as one line of text, without colours.
    pub(crate) fn push_text(&self, received_at: &str, out: &mut Vec<u8>) {
        if !received_at.is_empty() {
            out.extend_from_slice(received_at.as_bytes());
            out.push(b' ');
        }
        push_data(self.channel, |c| c == ' ', out);
        // Writing to a Vec does not fail.
        let _ = write!(out, " #{} ", self.process_id);
        push_data(self.payload, |_| false, out);
        out.push(b'\n');
    }

    fn json(&self, received_at: &'a str) -> impl Serialize {
        let Self { channel, payload, topic, process_id, sequence, epoch } = *self;
        JsonItem { channel, payload, process_id, received_at, sequence, epoch, topic }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Item<'static> = Item {
        channel: "orders",
        payload: "{\"id\":1}\n",
        topic: None,
        process_id: 4711,
        sequence: 7,
        epoch: 1,
    };

    fn json(item: Item<'static>) -> String {
        let mut out = Vec::new();
        item.push_json("2026-11-21T12:00:01.123456Z", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_its_keys_in_order() {
        assert_eq!(
            json(ITEM),
            "{\"channel\":\"orders\",\"payload\":\"{\\\"id\\\":1}\\n\",\"process_id\":4711,\
             \"received_at\":\"2026-11-21T12:00:01.123456Z\",\"sequence\":7,\"epoch\":1}\n"
        );
        let with_topic = json(Item { topic: Some("42"), ..ITEM });
        assert!(with_topic.ends_with(",\"epoch\":1,\"topic\":\"42\"}\n"), "{with_topic}");
    }

    #[test]
    fn text_without_a_time_begins_with_the_channel() {
        let mut out = Vec::new();
        ITEM.push_text("", &mut out);
        assert_eq!(out, b"orders #4711 {\"id\":1}\\n\n");
    }
}
