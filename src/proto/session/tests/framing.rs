//! Malformed messages, and messages in pieces.

use super::*;

const PROTOCOL: &str = "over: protocol violation: ";
const MALFORMED: &str = "over: protocol violation: ";

fn malformed(why: &str) -> String {
    format!("{MALFORMED}{why}")
}

/// F1, F2, F4, F8, F9, F11: refused as early as possible.
#[test]
fn a_malformed_notification_ends_the_session() {
    for (bytes, why) in [
        ("41 00000003", "length word 3 is below 11 in NotificationResponse"),
        ("41 00000000", "length word 0 is below 11 in NotificationResponse"),
        ("41 80000000", "length word 2147483648 is above 262144 in NotificationResponse"),
        ("41 ffffffff", "length word 4294967295 is above 262144 in NotificationResponse"),
        ("41 7fffffff", "length word 2147483647 is above 262144 in NotificationResponse"),
        ("4e 7fffffff", "length word 2147483647 is above 1073741826 in NoticeResponse"),
        ("44 7fffffff", "length word 2147483647 is above 1073741826 in DataRow"),
        ("41 0000000b 00000001 6100 62", "payload is not ended by a NUL in NotificationResponse"),
        ("41 00000008 00000001", "length word 8 is below 11 in NotificationResponse"),
        ("41 00000004", "length word 4 is below 11 in NotificationResponse"),
        ("41 00000006 0000", "length word 6 is below 11 in NotificationResponse"),
        (
            "41 0000000b 00000001 00 6200",
            "channel length is 0 where 1 or more is expected in NotificationResponse",
        ),
    ] {
        check(&Scene::idle(), &[bytes], &[&malformed(why)]);
        check(&Scene::idle(), &[A1, bytes], &["A 1 a b", &malformed(why)]);
    }
}

/// F3, F7.
#[test]
fn notifications_up_to_the_limit_are_delivered() {
    let notification = |channel: usize, payload: usize| {
        let body = [&[0, 0, 0, 1][..], &vec![b'c'; channel], &[0], &vec![b'p'; payload], &[0]];
        message(b'A', &body.concat())
    };
    let legal = notification(63, 7_999);
    assert_eq!(legal[..5], hex("41 00001f88"));
    let line = |channel, payload| format!("A 1 {} {}", "c".repeat(channel), "p".repeat(payload));
    check_bytes(&Scene::idle(), &legal, &[&line(63, 7_999)]);

    let longest = notification(1, 0x40000 - 11);
    assert_eq!(longest[..5], hex("41 00040000"));
    let (found, _) = play(&Scene::idle(), &[&longest[..70_000], &longest[70_000..]]);
    assert_eq!(found, [line(1, 0x40000 - 11)]);
    let longer = notification(1, 0x40000 - 10);
    let (found, _) = play(&Scene::idle(), &[&longer]);
    assert_eq!(found, [malformed("length word 262145 is above 262144 in NotificationResponse")]);
}

/// F5.
#[test]
fn before_authentication_a_long_message_is_refused_at_its_header() {
    for (bytes, why) in [
        ("52 7fffffff", "length word 2147483647 is above 2000 in Authentication"),
        ("45 7fffffff", "length word 2147483647 is above 30000 in ErrorResponse"),
        ("76 000007d1", "length word 2001 is above 2000 in NegotiateProtocolVersion"),
        ("52 00000003", "length word 3 is below 8 in Authentication"),
    ] {
        check(&Scene::new(), &[bytes], &[&malformed(why)]);
    }
    let text = [b"E".to_vec(), vec![b'x'; 40_000]].concat();
    let (found, _) = play(&Scene::new(), &[&text[..20_000]]);
    assert_eq!(found, [""; 0]);
    let (found, _) = play(&Scene::new(), &[&text[..20_000], &text[20_000..]]);
    assert_eq!(found, [malformed("length word 2021161080 is above 30000 in ErrorResponse")]);
}

/// F12: each of the 256 type bytes with an empty body, in each state.
#[test]
fn an_empty_message_of_any_type_has_a_defined_result() {
    let scenes = [
        ("startup", Scene::new(), ""),
        ("authenticated", Scene::authenticated(), ""),
        ("idle", Scene::idle(), ""),
        ("LISTEN", Scene::listening(), ""),
        ("query", Scene::querying(), "I"),
        ("query with parameters", Scene::binding(), "123nI"),
    ];
    for (state, scene, accepted) in scenes {
        for tag in 0..=255 {
            let mut play = scene.begin();
            play.feed(&message(tag, b""));
            let accepted = accepted.contains(char::from(tag));
            assert_eq!(play.over, !accepted, "{tag} in {state}: {:?}", play.log);
            if play.over {
                let last = play.log.last().unwrap();
                assert!(last.starts_with(PROTOCOL), "{tag} in {state}: {last}");
            }
        }
    }
}

/// F14.
#[test]
fn another_protocol_is_named_and_its_bytes_are_escaped() {
    for (peer, shown) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP/1.1 400 Bad Request"),
        (b"SSH-2.0-OpenSSH\x1b[2J\r\n", "SSH-2.0-OpenSSH\\x1b[2J\\r\\n"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "\\x15\\x03\\x01\\x00\\x02\\x02("),
        (b"\x4a\0\0\0\x0a8.4.0\0", "J\\x00\\x00\\x00\\n8.4.0\\x00"),
    ] {
        let mut play = Scene::new().begin();
        play.feed(peer);
        let expect = malformed(&format!("not a PostgreSQL server: it began with \"{shown}\""));
        assert_eq!(play.log, [expect]);
        // The length of the quoted text depends on what has arrived.
        for at in 1..peer.len() {
            let (log, _) = super::play(&Scene::new(), &[&peer[..at], &peer[at..]]);
            let [line] = &log[..] else { panic!("{log:?}") };
            assert!(line.starts_with(&malformed("not a PostgreSQL server: it began with")));
        }
    }
}

#[test]
fn every_split_of_a_whole_session_gives_the_same_events() {
    let (scene, bytes) = recorded();
    let a1 = "A 1 a b";
    let refused = "server error: the server refused";
    let expect = [
        "ready",
        a1,
        a1,
        "done 0: ",
        a1,
        a1,
        a1,
        "done 1: SELECT 1 [x] [x], ",
        a1,
        "done 2: SELECT 1 [x]",
        a1,
        "done 3: SELECT 1",
        "done 4: unsupported: COPY TO STDOUT is not supported",
        &format!("done 5: {refused} the query: ERROR: no (SQLSTATE 42501)"),
        a1,
        &format!("done 6: {refused} LISTEN: ERROR: no (SQLSTATE 42501)"),
        "done 7: ",
        "done 8: ",
        "dropped: server error: the server dropped a notification: ERROR: no (SQLSTATE 42501)",
        a1,
    ];
    let found = play(&scene, &[&bytes]);
    assert_eq!(found.0, expect);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert!(play(&scene, &single) == found);
    for at in 1..bytes.len() {
        assert!(play(&scene, &[&bytes[..at], &bytes[at..]]) == found, "split at {at}");
    }
}

/// F15.
#[test]
fn the_end_of_the_stream_at_any_byte_is_an_error_and_answers_every_command() {
    let (scene, bytes) = recorded();
    // The last error is a stray error. While no message follows it, it is the cause.
    let (last_error, ready) = (bytes.len() - join(&[READY, A1]).len(), hex(READY).len());
    for length in 0..bytes.len() {
        let is_reason = (last_error..last_error + ready).contains(&length);
        let mut play = scene.begin();
        play.feed(&bytes[..length]);
        let (ready, middle) = (play.session.is_ready(), !play.input.is_empty());
        let error = play.eof();
        let kind = if is_reason { ErrorKind::Server } else { ErrorKind::Connect };
        assert_eq!(error.kind(), kind, "{length}");
        let text = error.to_string();
        assert_eq!(text.contains("in the middle of a message"), middle, "{length}: {text}");
        assert_eq!(text.contains("before it was ready"), !ready, "{length}: {text}");
        let done = play.log.iter().filter(|line| line.starts_with("done ")).count();
        assert_eq!(done, play.commands_sent, "{length}");
    }
}

/// F16.
#[test]
fn no_flipped_bit_does_more_than_end_the_session() {
    let (scene, bytes) = recorded();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut play = scene.begin();
        play.feed(&flipped);
        if !play.over {
            play.eof();
        }
        let done = play.log.iter().filter(|line| line.starts_with("done ")).count();
        assert_eq!(done, play.commands_sent, "bit {bit}: {:#?}", play.log);
        assert!(play.sent.len() < 4_096, "bit {bit}");
        play.sent_messages();
    }
}
