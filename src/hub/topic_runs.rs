//! The runs of notifications with one topic.

use std::borrow::Cow;

use bytes::Bytes;

use super::frame_runs::{FrameRun, divide};
use crate::proto::wire::{self, Beginning, RawNotification, Run};

/// Consecutive notifications of a channel with one topic.
pub(super) type TopicRun<'a> = FrameRun<'a, Cow<'a, str>>;

/// Divides the notifications of a channel into runs whose payloads begin with one topic and `separator`. Those without a topic are left
/// out. The channel has `channel` bytes, so that the payloads are found without a search for the end of the channel.
pub(super) fn by_prefix(
    frames: &[u8],
    channel: usize,
    separator: u8,
) -> impl Iterator<Item = TopicRun<'_>> {
    let mut rest = frames;
    let mut passed = 0;
    std::iter::from_fn(move || {
        loop {
            let (payload, mut behind) = first_payload(rest, channel)?;
            let head = head(payload, separator);
            let (first, mut count) = (passed, 1);
            // Nothing begins with an empty one.
            let beginning = Beginning::of(head.unwrap_or_default());
            while let Some((payload, next)) = first_payload(behind, channel) {
                if !beginning.begins(payload) {
                    break;
                }
                (count, behind) = (count + 1, next);
            }
            let (frames, behind) = rest.split_at(rest.len() - behind.len());
            rest = behind;
            passed += count;
            // The payload was checked when it was received, and is cut before an ASCII character.
            let topic = head.and_then(|head| std::str::from_utf8(head.split_last()?.1).ok());
            if let Some(topic) = topic {
                let run = Run { count, bytes: frames.len() };
                return Some(FrameRun { key: Cow::Borrowed(topic), frames, run, first });
            }
        }
    })
}

/// Returns the payload of the first frame, and the bytes behind the frame. The channel has `channel` bytes.
#[inline(always)]
fn first_payload(frames: &[u8], channel: usize) -> Option<(&[u8], &[u8])> {
    let (&[_, a, b, c, d], body) = frames.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let (body, behind) = body.split_at_checked(length.checked_sub(4)?)?;
    // The process id, the channel and a NUL; the payload and a NUL.
    let payload = body.get(4 + channel + 1..)?.split_last()?.1;
    Some((payload, behind))
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

/// Returns a copy of the frames of a run, each without the first `cut` bytes of its payload. The channel has `channel` bytes.
pub(super) fn strip(frames: &[u8], run: Run, channel: usize, cut: usize) -> Bytes {
    let payload_at = wire::TEXT_AT + channel + 1;
    // Exactly what is written, so that the memory is not moved to become `Bytes`.
    let mut out = Vec::with_capacity(run.bytes.saturating_sub(run.count * cut));
    let mut rest = frames;
    while let Some((&[_, a, b, c, d], _)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([a, b, c, d]);
        let Some((frame, next)) = rest.split_at_checked(1 + length as usize) else { break };
        let (Some(head), Some(payload)) = (frame.get(..payload_at), frame.get(payload_at + cut..))
        else {
            break;
        };
        let shorter = u32::try_from(cut).map_or(0, |cut| length.saturating_sub(cut));
        let at = out.len() + 1;
        out.extend_from_slice(head);
        if let Some(length) = out.get_mut(at..at + 4) {
            length.copy_from_slice(&shorter.to_be_bytes());
        }
        out.extend_from_slice(payload);
        rest = next;
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

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
        assert_eq!(found(by_prefix(&frames, 2, b':')), expected);
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
        let frames_with_topic = frames(&["a:1", "a:", "a:x:y"]);
        let run = Run { count: 3, bytes: frames_with_topic.len() };
        assert_eq!(strip(&frames_with_topic, run, 2, 2), frames(&["1", "", "x:y"]));
    }

    /// Returns the runs as [`by_function`] finds them, which reads each frame with the codec.
    fn found_by_codec(frames: &[u8], separator: u8) -> Vec<(String, usize, Vec<String>)> {
        found(by_function(frames, |raw| {
            let head = head(raw.payload, separator)?;
            std::str::from_utf8(head.split_last()?.1).ok().map(Cow::Borrowed)
        }))
    }

    /// Frames whose lengths may be wrong, or that may be cut.
    fn hostile(
        payloads: &[Vec<u8>],
        lengths: &[(prop::sample::Index, u32)],
        kept: usize,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut starts = Vec::new();
        // Not by the encoder, which checks the payload.
        for payload in payloads {
            starts.push(out.len());
            let length = u32::try_from(4 + 4 + 3 + payload.len() + 1).unwrap();
            out.extend_from_slice(b"A");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(b"\0\0\0\x07ch\0");
            out.extend_from_slice(payload);
            out.push(0);
        }
        for (index, length) in lengths.iter().filter(|_| !starts.is_empty()) {
            let at = *index.get(&starts) + 1;
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        out.truncate(kept);
        out
    }

    proptest! {
        /// Few bytes, so that topics are often equal, or begin with each other.
        #[test]
        fn the_runs_by_prefix_are_those_of_the_codec(
            payloads in prop::collection::vec("[aäb:/]{0,4}", 0..12),
            separator in prop::sample::select(vec![b':', b'/']),
        ) {
            let payloads: Vec<&str> = payloads.iter().map(|payload| &**payload).collect();
            let frames = frames(&payloads);
            prop_assert_eq!(found(by_prefix(&frames, 2, separator)), found_by_codec(&frames, separator));
        }

        /// Such frames are never received: the codec has checked them. Nothing panics, and no run has bytes that are not of whole frames.
        #[test]
        fn hostile_frames_have_runs_of_whole_frames(
            payloads in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![b'a', b':', 0, 0xff]), 0..5), 0..6),
            lengths in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![0..24_u32, any::<u32>()]), 0..3),
            kept in 0..120_usize,
            channel in 0..6_usize,
        ) {
            let frames = hostile(&payloads, &lengths, kept);
            let mut end = 0;
            for run in by_prefix(&frames, channel, b':') {
                let at = run.frames.as_ptr() as usize - frames.as_ptr() as usize;
                prop_assert!(at >= end, "two runs overlap");
                end = at + run.frames.len();
                prop_assert_eq!(run.run.bytes, run.frames.len());
                let mut rest = run.frames;
                for _ in 0..run.run.count {
                    let (payload, behind) = first_payload(rest, channel).expect("a whole frame");
                    let topic = head(payload, b':').map(|head| &head[..head.len() - 1]);
                    prop_assert_eq!(topic, Some(run.key.as_bytes()));
                    rest = behind;
                }
                prop_assert!(rest.is_empty());
            }
        }
    }
}
