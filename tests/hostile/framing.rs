//! Faults F of the catalogue in `tests/README.md`: bytes that are not valid messages.

use bytes::BytesMut;
use pgbell::proto::session::{Progress, Session};
use pgbell::testing::{Delivery, Script};

use super::attack::{Attack, LISTEN, at_login, hex, message, no_task_is_left, runtime, when_idle};
use super::client::{self, Action, login, soon, url};

fn notification(process_id: u32, channel: &[u8], payload: &[u8]) -> Vec<u8> {
    message(b'A', &[&process_id.to_be_bytes()[..], channel, b"\0", payload, b"\0"].concat())
}

#[test]
fn f1_a_length_that_is_too_small_for_anything_is_refused_at_once() {
    for (bytes, length) in [("41 00000003", 3), ("41 00000000", 0)] {
        let expect = format!("Protocol | length word {length} is below 11 in NotificationResponse");
        when_idle(&hex(bytes), &expect);
    }
}

#[test]
fn f2_a_length_is_never_read_as_a_negative_number() {
    for (bytes, length) in [("41 80000000", 2_147_483_648_u32), ("41 ffffffff", u32::MAX)] {
        let expect = format!("Protocol | length word {length} is above 262144");
        when_idle(&hex(bytes), &expect);
    }
}

#[test]
fn f3_one_byte_above_the_limit_is_refused_and_the_limit_is_delivered() {
    let largest = notification(1, b"a", &vec![b'p'; 0x40000 - 11]);
    let above = notification(1, b"a", &vec![b'p'; 0x40000 - 10]);
    assert_eq!((&largest[1..5], &above[1..5]), (&hex("00040000")[..], &hex("00040001")[..]));
    when_idle(&above, "Protocol | length word 262145 is above 262144");
    let script = Script::listening().send(&largest).expect_hex("58 00000004").wait_for_eof();
    let actions = &[Action::Listen(&["a"]), Action::Receive(1), Action::Close];
    let received = format!("1 a {}", "p".repeat(0x40000 - 11));
    let attack = Attack::new(script, largest.len(), actions);
    attack.run(&["connect", "listen", "close"], &[&received]);
}

/// Also V21: it takes no memory. The client never waits for what follows the five bytes.
#[test]
fn f4_an_announced_length_is_neither_awaited_nor_allocated() {
    for (bytes, name) in [
        ("41 7fffffff", "above 262144 in NotificationResponse"),
        ("4e 7fffffff", "above 1073741826 in NoticeResponse"),
        ("44 7fffffff", "above 1073741826 in DataRow"),
    ] {
        when_idle(&hex(bytes), &format!("Protocol | length word 2147483647 is {name}"));
    }
    // The longest lengths that are allowed are not allocated either: the caller's buffer keeps its size.
    let mut session = Session::new(login()).unwrap();
    let now = std::time::Instant::now();
    let mut input = BytesMut::from(Script::PRELUDE);
    assert_eq!(session.handle_input(now, &mut input).unwrap(), Progress::NeedMore);
    for head in ["41 00040000", "4e 00100000", "45 00100000"] {
        let mut input = BytesMut::with_capacity(64);
        input.extend_from_slice(&hex(head));
        assert_eq!(session.handle_input(now, &mut input).unwrap(), Progress::NeedMore);
        assert_eq!((input.len(), input.capacity()), (5, 64), "{head}");
    }
}

/// A message that is longer than allowed fails only its own command: in one write and in pieces, in every client.
#[test]
fn long_messages_fail_their_own_command_alone() {
    let column = hex("54 0000001a 0001 6300 00000000 0000 00000019 ffff ffffffff 0000");
    let end = hex("43 0000000d 53454c454354203100 5a 00000005 49");
    let ready = hex("5a 00000005 49");
    let row = |bytes: u32| {
        let value = vec![b'x'; usize::try_from(bytes).unwrap()];
        message(b'D', &[&[0, 1][..], &bytes.to_be_bytes(), &value].concat())
    };
    let words = |tag, severity: &str| {
        let text = "x".repeat(2_000_000);
        let fields = format!("S{severity}\0V{severity}\0C42501\0M{text}\0Hh\0\0");
        message(tag, fields.as_bytes())
    };
    let path = message(b'S', &[b"search_path\0", &[b'p'; 40_000][..], b"\0"].concat());
    let cases = [
        ([&column[..], &row(1_100_000), &end].concat(), "query SELECT 1[1]"),
        (
            [&column[..], &row(68_000_000), &end].concat(),
            "query: Unsupported | the result is larger than 67108864 bytes",
        ),
        ([&words(b'E', "ERROR")[..], &ready].concat(), "query: Server | (SQLSTATE 42501)"),
        ([&words(b'N', "NOTICE")[..], &column, &end].concat(), "query SELECT 1[0]"),
        ([&path[..], &column, &end].concat(), "query SELECT 1[0]"),
    ];
    for (answer, expect) in cases {
        let script = Script::listening().expect_message(b'Q').send(&answer).send(Script::A1);
        let script = script.expect_hex("58 00000004").wait_for_eof();
        let actions = &[
            Action::Listen(&["a"]),
            Action::Query("SELECT 'x'"),
            Action::Receive(1),
            Action::Close,
        ];
        let begin = script.sent_bytes() - answer.len() - Script::A1.len();
        let splits = begin..begin + 20;
        let attack = Attack::new(script, answer.len(), actions).splits(splits);
        attack.run(&["connect", "listen", expect, "close"], &["1 a b"]);
    }
}

#[test]
fn f5_before_authentication_five_bytes_are_enough_to_refuse() {
    for (bytes, expect) in [
        ("52 7fffffff", "above 2000 in Authentication"),
        ("45 7fffffff", "above 30000 in ErrorResponse"),
        ("76 000007d1", "above 2000 in NegotiateProtocolVersion"),
        ("4e 00007531", "above 30000 in NoticeResponse"),
    ] {
        at_login(&hex(bytes), &format!("Protocol | {expect}"));
    }
    // Text without a NUL at the end, where an error in the form of protocol 2 is allowed.
    let endless = [b"E".to_vec(), vec![b'x'; 30_000]].concat();
    at_login(&endless, "Protocol | length word 2021161080 is above 30000 in ErrorResponse");
}

#[test]
fn f7_the_largest_notification_of_a_real_server_is_delivered() {
    let largest = notification(1, &[b'c'; 63], &[b'p'; 7_999]);
    assert_eq!(largest[1..5], hex("00001f88"));
    let script = Script::listening().send(&largest).expect_hex("58 00000004").wait_for_eof();
    let actions = &[Action::Listen(&["a"]), Action::Receive(1), Action::Close];
    let received = format!("1 {} {}", "c".repeat(63), "p".repeat(7_999));
    let attack = Attack::new(script, largest.len(), actions);
    attack.run(&["connect", "listen", "close"], &[&received]);
}

#[test]
fn f8_a_payload_without_its_end_is_refused() {
    when_idle(&hex("41 0000000b 00000001 6100 62"), "Protocol | payload is not ended by a NUL");
}

#[test]
fn f9_a_notification_that_is_too_short_is_refused() {
    for (bytes, length) in
        [("41 00000008 00000001", 8), ("41 00000004", 4), ("41 00000006 0000", 6)]
    {
        when_idle(&hex(bytes), &format!("Protocol | length word {length} is below 11"));
    }
}

#[test]
fn f11_a_channel_without_a_name_is_refused() {
    when_idle(&hex("41 0000000b 00000001 00 6200"), "Protocol | channel length is 0");
}

/// Other states: `session::tests::framing`.
#[test]
fn f12_an_empty_message_of_any_type_ends_a_login_and_an_idle_session() {
    for (bytes, type_byte) in [("7a 00000004", "7a"), ("00 00000004", "00"), ("ff 00000004", "ff")]
    {
        when_idle(&hex(bytes), &format!("Protocol | type byte 0x{type_byte}"));
        at_login(&hex(bytes), "Protocol | not a PostgreSQL server");
    }
    let runtime = runtime();
    for tag in 0..=255 {
        let empty = message(tag, b"");
        let idle = Script::listening().send(&empty).wait_for_eof();
        let login = Script::new().expect_startup().send(&empty).wait_for_eof();
        for (script, last) in [(idle, "over"), (login, "connect")] {
            let attack = Attack::new(script, 5, LISTEN);
            runtime.block_on(async {
                let (connection, listener) = attack.over_sockets(Delivery::Whole).await;
                for outcome in [connection, listener] {
                    let found = outcome.lines.last().unwrap();
                    assert!(found.starts_with(&format!("{last}: Protocol: ")), "{tag}: {found}");
                }
            });
        }
    }
}

#[test]
fn f14_another_protocol_is_reported_as_not_postgresql() {
    for peer in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"SSH-2.0-OpenSSH\x1b[2J\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x4a\0\0\0\x0a8.4.0\0\x1b[2J",
        b"220 mail ready\r\n",
    ] {
        at_login(peer, "Protocol | not a PostgreSQL server: it began with \"");
    }
}

/// A login, a LISTEN, and a query with notifications before, inside and after its answer.
fn recorded() -> Script {
    let row = "54 0000001a 0001 6300 00000000 0000 00000019 ffff ffffffff 0000 44 0000000b 0001 00000001 78";
    let answer = hex(&format!("{row} 43 0000000d 53454c454354203100 5a 00000005 49"));
    let script = Script::ready().send(Script::A1).expect_message(b'Q').send(Script::ACK);
    let script = script.send(Script::A1).expect_message(b'Q').send(Script::A1).send(answer);
    script.send(Script::A1)
}

#[test]
fn f15_the_end_of_the_stream_at_any_byte_is_an_error_and_never_a_clean_end() {
    let script = recorded();
    let actions = &[Action::Listen(&["a"]), Action::Query("SELECT 'x'")];
    let runtime = runtime();
    for sent in 0..=script.sent_bytes() {
        let attack = Attack::new(script.clone().cut_after(sent), 0, actions);
        runtime.block_on(async {
            let (connection, listener) = attack.over_sockets(Delivery::Whole).await;
            for outcome in [connection, listener] {
                let last = outcome.lines.last().unwrap();
                let fits = ["connect: Connect: ", "over: Connect: "];
                assert!(fits.iter().any(|fit| last.starts_with(fit)), "{sent}: {outcome:#?}");
                assert!(last.contains("closed the connection"), "{sent}: {last}");
            }
        });
    }
}

/// `session::tests::framing` tests every kind of message in memory. This test flips bits in 4 KiB that an idle session
/// receives, when no client waits for an answer that the flipped bit may have removed.
#[test]
fn f16_a_flipped_bit_does_no_more_than_end_the_session() {
    let warning = hex("4e 00000019 535741524e494e4700 43303130303000 4d687500 00");
    let encoding = &Script::PRELUDE[9..35];
    let payload = [b'p'; 520];
    let each = [&notification(1, b"a", &payload), &warning[..], encoding, Script::A1].concat();
    let stream = each.repeat(7);
    assert!(stream.len() >= 4_096, "{}", stream.len());
    let attack = |bytes: &[u8]| Attack::new(Script::listening().send(bytes).close(), 0, LISTEN);
    let lines = attack(&stream);
    let whole = client::session(login(), lines.script(), Delivery::Whole, LISTEN);
    assert_eq!((whole.lines.len(), whole.received.len()), (3, 14));
    let check = |outcome: &client::Outcome, bit: usize| {
        let [connect, listen, over] = &outcome.lines[..] else { panic!("{bit}: {outcome:#?}") };
        assert_eq!((connect.as_str(), listen.as_str()), ("connect", "listen"), "{bit}");
        assert!(over.starts_with("over: "), "{bit}: {over}");
        assert!(outcome.received.len() <= 14, "{bit}");
    };
    let flipped = |bit: usize| {
        let mut stream = stream.clone();
        stream[bit / 8] ^= 1 << (bit % 8);
        stream
    };
    for bit in 0..stream.len() * 8 {
        let outcome =
            client::session(login(), attack(&flipped(bit)).script(), Delivery::Whole, LISTEN);
        check(&outcome, bit);
    }
    let runtime = runtime();
    // Every bit of the first round of messages except the payload, and a few bits of the rest.
    let head = 0..12 * 8;
    let tail = 512 * 8..each.len() * 8;
    for bit in head.chain(tail).chain((each.len() * 8..stream.len() * 8).step_by(97)) {
        let attack = attack(&flipped(bit));
        runtime.block_on(async {
            let (connection, listener) = attack.over_sockets(Delivery::Whole).await;
            check(&connection, bit);
            check(&listener, bit);
        });
    }
}

#[test]
fn f17_a_million_notifications_in_writes_that_cut_them_anywhere_arrive_once_and_in_order() {
    const COUNT: u32 = 1_000_000;
    let stream: Vec<u8> = (0..COUNT).flat_map(|n| notification(n, b"a", b"b")).collect();
    let script = || {
        let pieces = stream.chunks(64 * 1024);
        let script = pieces.fold(Script::listening(), |script, piece| script.send(piece));
        script.expect_hex("58 00000004").wait_for_eof()
    };
    assert_ne!(64 * 1024 % 13, 0);
    runtime().block_on(async {
        let (address, task) = script().serve(Delivery::Whole).await.unwrap();
        let mut connection = pgbell::Connection::connect(&*url(address)).await.unwrap();
        connection.listen("a").await.unwrap();
        let mut next = 0;
        while next < COUNT {
            let batch = soon("batch", connection.recv_batch()).await.unwrap();
            assert!(batch.loss().is_none());
            for n in &batch {
                assert_eq!((n.process_id(), n.payload_bytes()), (next.cast_signed(), &b"b"[..]));
                next += 1;
            }
        }
        connection.close().await;
        soon("script", task).await.unwrap().unwrap();

        let (address, task) = script().serve(Delivery::Whole).await.unwrap();
        let mut listener = pgbell::Listener::connect(&*url(address)).await.unwrap();
        listener.listen("a").await.unwrap();
        for next in 0..COUNT {
            let event = soon("event", listener.recv()).await.unwrap();
            let pgbell::Event::Notification(n) = event else { panic!("{event:?} before {next}") };
            assert_eq!((n.process_id(), n.sequence()), (next.cast_signed(), u64::from(next)));
        }
        listener.close().await;
        soon("script", task).await.unwrap().unwrap();
        no_task_is_left().await;
    });
}
