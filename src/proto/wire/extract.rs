//! Removal of single notifications from a run.

use bytes::BytesMut;

use super::notification::{RawNotification, Run, first};

/// Removes the notifications for which `is_taken` is true from the run at the beginning of `input`. Returns the run of
/// the other notifications, in their order.
///
/// One pass. The bytes after a removed notification move forward.
pub fn extract(
    input: &mut BytesMut,
    run: Run,
    mut is_taken: impl FnMut(RawNotification<'_>) -> bool,
) -> Run {
    let mut kept = Run::default();
    let mut at = 0_usize;
    while let Some((notification, bytes)) = input.get(at..run.bytes).and_then(first) {
        let end = at.saturating_add(bytes);
        if !is_taken(notification) {
            if kept.bytes < at {
                input.copy_within(at..end, kept.bytes);
            }
            kept = Run { count: kept.count + 1, bytes: kept.bytes.saturating_add(bytes) };
        }
        at = end;
    }
    if kept.bytes < at {
        let left = input.len().saturating_sub(at);
        input.copy_within(at.., kept.bytes);
        input.truncate(kept.bytes.saturating_add(left));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::{BackendMessage, scan};

    /// Notifications of these channels, each with its index as the payload, then the first byte of another message.
    fn input(channels: &[&str]) -> (BytesMut, Run) {
        let mut input = BytesMut::new();
        for (index, channel) in channels.iter().enumerate() {
            let payload = index.to_string();
            let (channel, payload) = (channel.as_bytes(), payload.as_bytes());
            let notification = RawNotification { process_id: 1, channel, payload };
            BackendMessage::NotificationResponse(notification).encode(&mut input).unwrap();
        }
        let (run, _) = scan(&input);
        assert_eq!(run.count, channels.len());
        input.extend_from_slice(b"Z");
        (input, run)
    }

    #[test]
    fn selected_notifications_are_removed_and_the_others_keep_their_order() {
        for mask in 0..32_u32 {
            let is_private = |index: usize| mask & (1 << index) != 0;
            let channels: Vec<&str> =
                (0..5).map(|index| if is_private(index) { "private" } else { "a" }).collect();
            let (mut input, run) = input(&channels);
            let left = extract(&mut input, run, |one| one.channel == b"private");
            assert_eq!(left, scan(&input).0);
            let found: Vec<_> = crate::proto::wire::frames(&input[..left.bytes])
                .map(|one| String::from_utf8(one.payload.to_vec()).unwrap())
                .collect();
            let expected: Vec<_> =
                (0..5).filter(|index| !is_private(*index)).map(|index| index.to_string()).collect();
            assert_eq!(found, expected);
            assert_eq!(&input[left.bytes..], b"Z");
        }
    }

    #[test]
    fn notifications_after_the_run_are_not_removed() {
        let (mut input, _) = input(&["a", "private", "private"]);
        let run = Run::first(2, &input);
        let left = extract(&mut input, run, |one| one.channel == b"private");
        assert_eq!(left.count, 1);
        assert_eq!(scan(&input).0.count, 2);
    }
}
