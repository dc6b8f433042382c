//! The runs of notifications with one topic.

use std::borrow::Cow;

use super::frame_runs::{FrameRun, divide};
use crate::proto::wire::{self, RawNotification};

/// Consecutive notifications of a channel with one topic.
pub(super) type TopicRun<'a> = FrameRun<'a, Cow<'a, str>>;

/// Divides the notifications of a channel into runs whose payloads begin with one topic and `separator`. Those without a topic are left
/// out.
pub(super) fn by_prefix(frames: &[u8], separator: u8) -> impl Iterator<Item = TopicRun<'_>> {
    let runs = divide(
        frames,
        Iterator::next,
        move |first| head(first.payload, separator),
        |head, next| head.is_some_and(|head| next.payload.starts_with(head)),
    );
    runs.filter_map(|FrameRun { key, frames, run, first }| {
        // The payload was checked when it was received, and is cut before an ASCII character.
        let topic = std::str::from_utf8(key?.split_last()?.1).ok()?;
        Some(FrameRun { key: Cow::Borrowed(topic), frames, run, first })
    })
}

/// Returns the topic of a payload, with the separator.
fn head(payload: &[u8], separator: u8) -> Option<&[u8]> {
    let cut = payload.iter().position(|byte| *byte == separator);
    cut.filter(|cut| *cut > 0).and_then(|cut| payload.get(..=cut))
}

/// Divides the notifications of a channel into runs with one topic, which `topic_of` finds. It is called once for each.
pub(super) fn by_function<'a>(
    frames: &'a [u8],
    mut topic_of: impl FnMut(&RawNotification<'a>) -> Option<Cow<'a, str>>,
) -> impl Iterator<Item = TopicRun<'a>> {
    let runs = divide(
        frames,
        move |notifications| notifications.next().map(|next| topic_of(&next)),
        |first| first,
        |topic, next| topic.is_some() && topic == next,
    );
    runs.filter_map(|FrameRun { key, frames, run, first }| {
        Some(FrameRun { key: key?, frames, run, first })
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
            assert_eq!(wire::frames(run.frames).count(), run.run.count);
            (run.key.into_owned(), run.first, payloads(run.frames))
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
