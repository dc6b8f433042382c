//! Notifications arrive at any time, unchanged, each exactly once.

use super::*;

/// N1, N2, N7.
#[test]
fn notifications_are_delivered_unchanged() {
    let notification = |id: u32, payload: &[u8]| {
        message(b'A', &[&id.to_be_bytes()[..], b"a\0", payload, b"\0"].concat())
    };
    let long = vec![b'x'; 7_999];
    for payload in [&b""[..], b"x", b"\n\x01", "\u{1f514}".as_bytes(), &long] {
        for (id, shown) in [(1, 1), (0, 0), (0x8000_0000, i32::MIN), (u32::MAX, -1)] {
            let expect = format!("A {shown} a {}", payload.escape_ascii());
            if payload.len() < 100 {
                check_bytes(&Scene::idle(), &notification(id, payload), &[&expect]);
            } else {
                let (log, _) = play(&Scene::idle(), &[&notification(id, payload)]);
                assert_eq!(log, [expect]);
            }
        }
    }
    for (bytes, what) in [
        ("41 0000000d 00000001 6100 fffe00", "payload is not UTF-8 from byte 0 on"),
        ("41 0000000e 00000001 6100 61e28200", "payload is not UTF-8 from byte 1 on"),
        ("41 0000000d 00000001 61ff00 6200", "channel is not UTF-8 from byte 1 on"),
    ] {
        let (log, _) = play(&Scene::idle(), &[&hex(bytes)]);
        assert!(
            matches!(&log[..], [line] if line.starts_with("over: ") && line.contains(what)),
            "{log:?}"
        );
        let hint = "PostgreSQL sends UTF-8 while client_encoding is UTF8: do not change client_encoding, and look at \
                    what is between client and server";
        assert!(log[0].ends_with(&format!("(hint: {hint})")), "{log:?}");
    }
}

/// N4, N6: two notifications at every boundary of every kind of answer.
#[test]
fn notifications_between_any_two_messages_do_not_change_the_answer() {
    let copying = || {
        Scene::after(|session, now| {
            session.simple_query(now, "COPY t TO STDOUT").unwrap();
        })
    };
    let answers: [(Scene, &[&str], &str); 4] = [
        (Scene::querying(), &[COLUMN, ROW, ROW, SELECT_1, READY], "done 0: SELECT 1 [x] [x]"),
        (Scene::listening(), &[LISTEN, READY], "done 0: "),
        (
            Scene::binding(),
            &["31 00000004", "32 00000004", COLUMN, ROW, SELECT_1, READY],
            "done 0: SELECT 1 [x]",
        ),
        (
            copying(),
            &["48 00000007 00 0000", "64 00000006 780a", "63 00000004", SELECT_1, READY],
            "done 0: unsupported: COPY TO STDOUT is not supported",
        ),
    ];
    for (scene, messages, done) in answers {
        for at in 0..=messages.len() {
            let (head, tail) = messages.split_at(at);
            let bytes = [head, &[A1, A1], tail].concat();
            let a1 = "A 1 a b";
            let expect = if tail.is_empty() { [done, a1, a1] } else { [a1, a1, done] };
            check(&scene, &bytes, &expect);
        }
        let between: Vec<&str> = messages.iter().flat_map(|part| [A1, part]).collect();
        let (log, _) = play(&scene, &[&join(&between)]);
        assert_eq!(log.len(), messages.len() + 1);
        assert_eq!(log.last().unwrap(), done);
    }
}

#[test]
fn notifications_are_taken_before_the_first_ready_and_not_before_authentication() {
    let rest = [CLIENT_ENCODING, READY].concat();
    check(&Scene::authenticated(), &[A1, &rest, A1], &["A 1 a b", "ready", "A 1 a b"]);
    check(
        &Scene::new(),
        &[A1],
        &["over: protocol violation: expected an \
           Authentication message and found NotificationResponse before authentication"],
    );
}

/// N13: comparing process ids is left to the caller.
#[test]
fn an_own_notification_comes_before_its_command_is_done() {
    let scene = Scene::after(|session, now| {
        session.notify(now, "a", "b").unwrap();
    });
    let own = "41 0000000c 00000007 6100 6200";
    check(
        &scene,
        &["31 00000004 32 00000004", COLUMN, ROW, SELECT_1, own, READY],
        &["A 7 a b", "done 0: SELECT 1 [x]"],
    );
}

/// F17, small: the run ends at the end of the bytes.
#[test]
fn many_notifications_in_unaligned_pieces_arrive_once_each_and_in_order() {
    let stream: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| message(b'A', &[&n.to_be_bytes()[..], b"a\0", b"\0"].concat()))
        .collect();
    let mut play = Scene::idle().begin();
    for piece in stream.chunks(4_099) {
        play.feed(piece);
    }
    assert_eq!(play.log, (0..20_000).map(|n| format!("A {n} a ")).collect::<Vec<_>>());
    assert!(play.input.is_empty());
}
