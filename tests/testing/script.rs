//! Scripts: their mismatches, and hostile servers on a real socket.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pgbell::testing::{Delivery, Output, Script};
use pgbell::{Connection, ErrorKind, Event, Listener};

use super::play::{Action, Client, serve};
use super::session;

/// The mismatch that these bytes of a client cause.
fn found(mut script: Script, input: &[u8]) -> String {
    let mut input = BytesMut::from(input);
    match script.step(&mut input) {
        Ok(Output::NeedMore | Output::WaitForEof) => {
            script.handle_eof(&input).unwrap_err().to_string()
        }
        other => other.unwrap_err().to_string(),
    }
}

#[test]
fn a_mismatch_shows_the_expected_and_the_found_message_in_digits_and_by_name() {
    let query = b"Q\0\0\0\x0dLISTEN a\0";
    let new = Script::new;
    for (script, input, expected) in [
        (
            new().expect_hex("58 00000004"),
            &query[..],
            "step 1: expected 58 00000004 (Terminate), found 51 0000000d 4c495354454e206100 (Query)",
        ),
        (
            new().expect(query).expect_message(b'Q'),
            b"Q\0\0\0\x0dLISTEN a\0X\0\0\0\x04",
            "step 2: expected any Query, found 58 00000004 (Terminate)",
        ),
        (
            new().expect_startup(),
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            "step 1: expected any StartupMessage, found 0000000804d2162f (SSLRequest)",
        ),
        (
            new().wait_for_eof(),
            b"X\0\0\0\x04",
            "step 1: expected end of stream, found 58 00000004 (Terminate)",
        ),
        (
            new().expect_message(b'X'),
            b"X\0",
            "step 1: expected any Terminate, found end of stream after 5800",
        ),
        (
            new().expect_message(b'?'),
            b"",
            "step 1: expected any message of type 3f, found end of stream",
        ),
        // A password is not shown.
        (
            new().expect_message(b'Q'),
            b"p\0\0\0\x0bsecret\0",
            "step 1: expected any Query, found 70 0000000b … (PasswordMessage)",
        ),
        (
            new().expect_message(b'Q'),
            b"p\0\0\0\x0bsecr",
            "step 1: expected any Query, found end of stream after 70 … (9 bytes)",
        ),
        (
            new().send_hex("0g"),
            b"",
            "step 1: expected a script without mistakes, found 'g' is no hexadecimal digit",
        ),
        (
            new().expect_startup().reversed(),
            b"",
            "step 1: expected a script without mistakes, found what the client sends is not written out",
        ),
        (
            new().flood(b"x").reversed(),
            b"",
            "step 1: expected a script without mistakes, found what the server sends is not written out",
        ),
    ] {
        assert_eq!(found(script, input), expected);
    }
}

#[test]
fn the_expected_bytes_may_arrive_in_any_pieces() {
    let input = b"\0\0\0\x0f\0\x03\0\0user\0a\0\0Q\0\0\0\x05\0X\0\0\0\x04";
    assert_eq!(input[3] as usize, 4 + 4 + 5 + 2);
    let input = [b"\0\0\0\x10", &input[4..]].concat();
    let script = Script::new().expect_startup().expect_message(b'Q').expect(b"X\0\0\0\x04").close();
    for delivery in Delivery::all(input.len()) {
        let (mut script, mut buffer) = (script.clone(), BytesMut::new());
        let mut last = Output::NeedMore;
        for piece in delivery.pieces(0, &input) {
            assert_eq!(last, Output::NeedMore);
            buffer.extend_from_slice(piece);
            last = script.step(&mut buffer).unwrap();
        }
        assert_eq!((last, buffer.len()), (Output::Close, 0), "{delivery:?}");
        assert_eq!(script.step(&mut buffer), Ok(Output::Done));
    }
}

/// F1, F2, F8, F9, F11, F12, Q9: messages that a server must never send, after a LISTEN was acknowledged.
const HOSTILE: &[&str] = &[
    "41 00000003",
    "41 80000000",
    "41 ffffffff",
    "41 0000000b 00000001 6100 62",
    "41 00000008 00000001",
    "41 0000000b 00000001 00 6200",
    "7a 00000004",
    "43 0000000b 4c495354454e00",
    "5a 00000005 49",
];

#[test]
fn hostile_answers_end_the_session_for_every_split_and_lose_nothing_before_them() {
    for hex in HOSTILE {
        let script = Script::let_in().expect_message(b'Q').send(Script::ACK);
        let script = script.send(Script::A1).send_hex(hex).wait_for_eof();
        for delivery in Delivery::all(script.sent_bytes()) {
            let now = Instant::now();
            let mut client =
                Client::new(session("alice", None, now), now, &[Action::Listen(&["a"])]);
            assert_eq!(serve(script.clone(), &mut client, delivery), Ok(()), "{hex} {delivery:?}");
            assert_eq!(client.received, ["1:a=b"], "{hex} {delivery:?}");
            assert_eq!(client.error.unwrap().kind(), ErrorKind::Protocol, "{hex} {delivery:?}");
        }
    }
}

fn url(address: std::net::SocketAddr) -> String {
    format!("postgresql://alice@{address}/postgres?sslmode=disable")
}

#[tokio::test]
async fn a_session_with_a_hostile_server_on_a_socket_ends_at_once() {
    for hex in HOSTILE {
        for delivery in [Delivery::Whole, Delivery::ByteByByte, Delivery::SplitAt(120)] {
            let script = Script::listening().send(Script::A1).send_hex(hex).wait_for_eof();
            let (address, task) = script.serve(delivery).await.unwrap();
            let mut connection = Connection::connect(&*url(address)).await.unwrap();
            connection.listen("a").await.unwrap();
            let mut received = 0;
            let error = loop {
                match connection.recv_batch().await {
                    Ok(batch) => received += batch.len(),
                    Err(error) => break error,
                }
            };
            assert_eq!((received, error.kind()), (1, ErrorKind::Protocol), "{hex} {delivery:?}");
            drop(connection);
            assert_eq!(task.await.unwrap(), Ok(()), "{hex} {delivery:?}");
        }
    }
}

#[test]
fn the_bytes_of_a_script_may_depend_on_all_received_bytes() {
    let echo = |received: &[Bytes]| received.concat();
    let new = Script::new().expect(b"ab").send_with(echo).expect_message(b'X').send_with(echo);
    assert_eq!(new.sent_bytes(), 0);
    // A copy of the script has not received the bytes of the other one.
    for _ in 0..2 {
        let (mut script, mut input) = (new.clone(), BytesMut::from(&b"abX\0\0\0\x04"[..]));
        assert_eq!(script.step(&mut input), Ok(Output::Send(b"ab"[..].into())));
        assert_eq!(script.step(&mut input), Ok(Output::Send(b"abX\0\0\0\x04"[..].into())));
        assert_eq!(script.step(&mut input), Ok(Output::Done));
    }
}

#[test]
fn a_flood_continues_until_the_other_side_has_closed() {
    let (mut script, mut input) = (Script::new().flood(b"x"), BytesMut::new());
    for _ in 0..3 {
        assert_eq!(script.step(&mut input), Ok(Output::Flood(b"x"[..].into())));
    }
    assert_eq!(script.handle_eof(&input), Ok(Output::Close));
}

/// Checks the deliveries: the reader really gets single pieces.
#[tokio::test]
async fn bytes_that_are_delivered_one_by_one_are_read_one_by_one() {
    let script = Script::listening().send(Script::A1.repeat(10)).expect_hex("58 00000004");
    let mut reads = Vec::new();
    for delivery in [Delivery::Whole, Delivery::SplitAt(140), Delivery::ByteByByte] {
        let (address, task) = script.clone().wait_for_eof().serve(delivery).await.unwrap();
        let mut listener = Listener::connect(&*url(address)).await.unwrap();
        listener.listen("a").await.unwrap();
        for _ in 0..10 {
            assert!(matches!(listener.recv().await, Ok(Event::Notification(_))));
        }
        reads.push(listener.stats().reads);
        listener.close().await;
        task.await.unwrap().unwrap();
    }
    // The answer to LISTEN and the notifications: the login was read before there was a listener.
    assert_eq!(reads[..2], [2, 2]);
    let login = Script::PRELUDE.len() + Script::FACTS.len();
    let bytes = (script.sent_bytes() - login) as u64;
    assert!((bytes * 9 / 10..=bytes).contains(&reads[2]), "{} reads of {bytes} bytes", reads[2]);
}

/// R1.
#[tokio::test]
async fn clients_are_served_in_turn_and_may_be_reset() {
    let scripts =
        [Script::listening().reset(), Script::listening().send(Script::A1).wait_for_eof()];
    let (address, task) = Script::serve_in_turn(scripts, Delivery::Whole).await.unwrap();
    let mut first = Connection::connect(&*url(address)).await.unwrap();
    // The reset may arrive before the answer.
    let _ = first.listen("a").await;
    assert_eq!(first.recv_batch().await.unwrap_err().kind(), ErrorKind::Connect);
    let mut second = Connection::connect(&*url(address)).await.unwrap();
    second.listen("a").await.unwrap();
    assert_eq!(second.recv_batch().await.unwrap().len(), 1);
    drop(second);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_deviates_from_the_script_is_reported() {
    let script = Script::ready().expect_message(b'X').wait_for_eof();
    let (address, task) = script.serve(Delivery::Whole).await.unwrap();
    let mut connection = Connection::connect(&*url(address)).await.unwrap();
    let error = connection.listen("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let mismatch = task.await.unwrap().unwrap_err();
    assert_eq!(mismatch.step(), 5);
    assert_eq!(mismatch.expected(), "any Terminate");
    assert_eq!(mismatch.found(), "51 0000000f 4c495354454e2022612200 (Query)");
}
