//! [`TopicRun`]: consecutive notifications of a channel with the same topic.

use std::borrow::Cow;
use std::iter;

use crate::proto::wire::{self, RawNotification};

/// Consecutive notifications with the same topic.
pub(super) struct TopicRun<'a> {
    pub(super) topic: Cow<'a, str>,
    pub(super) frames: &'a [u8],
    pub(super) count: usize,
    /// The number of notifications before it.
    pub(super) first: usize,
}

/// Divides the notifications of a channel into runs whose payloads begin with one topic and `separator`. Those without a topic are left
/// out.
pub(super) fn by_prefix(frames: &[u8], separator: u8) -> impl Iterator<Item = TopicRun<'_>> {
    let mut notifications = wire::frames(frames);
    let (mut rest, mut next) = (frames, notifications.next());
    let mut passed = 0;
    iter::from_fn(move || {
        loop {
            let payload = next?.payload;
            let cut = payload.iter().position(|byte| *byte == separator);
            let head = cut.filter(|cut| *cut > 0).and_then(|cut| payload.get(..=cut));
            let mut count = 0;
            let end = loop {
                count += 1;
                let end = notifications.remaining();
                next = notifications.next();
                let is_same = |other: &RawNotification<'_>| {
                    head.is_some_and(|head| other.payload.starts_with(head))
                };
                if !next.as_ref().is_some_and(is_same) {
                    break end;
                }
            };
            let (frames, behind) = rest.split_at(rest.len() - end.len());
            let first = passed;
            rest = behind;
            passed += count;
            // The payload was checked when it was received, and is cut before an ASCII character.
            let topic = head.and_then(|head| std::str::from_utf8(head.split_last()?.1).ok());
            if let Some(topic) = topic {
                return Some(TopicRun { topic: Cow::Borrowed(topic), frames, count, first });
            }
        }
    })
}

/// Divides the notifications of a channel into runs with one topic, which `topic_of` finds. It is called once for each.
pub(super) fn by_function<'a>(
    frames: &'a [u8],
    mut topic_of: impl FnMut(&RawNotification<'a>) -> Option<Cow<'a, str>>,
) -> impl Iterator<Item = TopicRun<'a>> {
    let mut notifications = wire::frames(frames);
    let mut read = move || {
        let raw = notifications.next()?;
        Some((topic_of(&raw), notifications.remaining()))
    };
    let (mut rest, mut next) = (frames, read());
    let mut passed = 0;
    iter::from_fn(move || {
        loop {
            let (topic, mut end) = next.take()?;
            let mut count = 1;
            next = read();
            while topic.is_some()
                && let Some((_, behind)) = next.take_if(|(other, _)| *other == topic)
            {
                end = behind;
                count += 1;
                next = read();
            }
            let (frames, behind) = rest.split_at(rest.len() - end.len());
            let first = passed;
            rest = behind;
            passed += count;
            if let Some(topic) = topic {
                return Some(TopicRun { topic, frames, count, first });
            }
        }
    })
}

/// Appends the frames to `out`, each without the first `cut` bytes of its payload. The channel has `channel` bytes.
pub(super) fn strip(frames: &[u8], channel: usize, cut: usize, out: &mut bytes::BytesMut) {
    let payload_at = wire::TEXT_AT + channel + 1;
    let mut rest = frames;
    while let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([a, b, c, d]);
        let Some((frame, next)) = rest.split_at_checked(1 + length as usize) else { break };
        let (Some(head), Some(payload)) = (frame.get(5..payload_at), frame.get(payload_at + cut..))
        else {
            break;
        };
        let shorter = u32::try_from(cut).map_or(0, |cut| length.saturating_sub(cut));
        out.extend_from_slice(&[tag]);
        out.extend_from_slice(&shorter.to_be_bytes());
        out.extend_from_slice(head);
        out.extend_from_slice(payload);
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::proto::wire::BackendMessage;

    fn frames(payloads: &[&str]) -> BytesMut {
        let mut out = BytesMut::new();
        for payload in payloads {
            let raw =
                RawNotification { process_id: 7, channel: b"ch", payload: payload.as_bytes() };
            BackendMessage::NotificationResponse(raw).encode(&mut out).unwrap();
        }
        out
    }

    fn found<'a>(runs: impl Iterator<Item = TopicRun<'a>>) -> Vec<(String, usize, Vec<String>)> {
        let payloads = |frames: &[u8]| {
            wire::frames(frames)
                .map(|raw| String::from_utf8(raw.payload.to_vec()).unwrap())
                .collect()
        };
        runs.map(|run| {
            assert_eq!(wire::frames(run.frames).count(), run.count);
            (run.topic.into_owned(), run.first, payloads(run.frames))
        })
        .collect()
    }

    fn run(topic: &str, first: usize, payloads: &[&str]) -> (String, usize, Vec<String>) {
        (topic.to_owned(), first, payloads.iter().map(|&payload| payload.to_owned()).collect())
    }

    #[test]
    fn consecutive_notifications_of_a_topic_are_one_run_and_those_without_a_topic_none() {
        let payloads = ["x", "a:1", "a:2", "ab:3", "", ":", "a:4", "a", "ä:", "ä:5"];
        let frames = frames(&payloads);
        let expected = [
            run("a", 1, &["a:1", "a:2"]),
            run("ab", 3, &["ab:3"]),
            run("a", 6, &["a:4"]),
            run("ä", 8, &["ä:", "ä:5"]),
        ];
        assert_eq!(found(by_prefix(&frames, b':')), expected);
        let mut calls = 0;
        let by_function = by_function(&frames, |raw| {
            calls += 1;
            let (topic, _) = std::str::from_utf8(raw.payload).unwrap().split_once(':')?;
            (!topic.is_empty()).then_some(Cow::Borrowed(topic))
        });
        assert_eq!(found(by_function), expected);
        assert_eq!(calls, payloads.len());
    }

    #[test]
    fn a_stripped_frame_has_the_rest_of_the_payload() {
        let mut out = BytesMut::new();
        strip(&frames(&["a:1", "a:", "a:x:y"]), 2, 2, &mut out);
        assert_eq!(out, frames(&["1", "", "x:y"]));
    }
}
