//! A notifier whose server goes silent, is slow, stops reading or closes the connection: every call returns in time, with the
//! correct result. The notifiers do not reconnect, and their calls are transactions of their own, unless a test says otherwise.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use pgbell::{Error, ErrorKind, Notifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{let_listen, listener, soon};

/// The documented answer timeout.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The server's answer to one notification.
const ANSWER: &[u8] =
    b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x1a\0\x01c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
    D\0\0\0\x0a\0\x01\0\0\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

/// A notifier, and its server's end. From here on the clock is paused, and jumps to the next deadline when no task can run.
async fn pair() -> (Notifier, TcpStream) {
    let (server, url) = listener().await;
    let (notifier, socket) =
        tokio::join!(Notifier::builder(&url).reconnect(false).connect(), let_listen(&server));
    tokio::time::pause();
    (notifier.unwrap(), socket)
}

type Call = JoinHandle<Result<(), Error>>;

fn notify(notifier: &Notifier, payload_bytes: usize) -> Call {
    let notifier = notifier.clone();
    tokio::spawn(
        async move { notifier.notify_many([("a", "x".repeat(payload_bytes))]).await.map(drop) },
    )
}

/// Begins this many calls.
async fn calls(notifier: &Notifier, count: usize, payload_bytes: usize) -> Vec<Call> {
    let calls = (0..count).map(|_| notify(notifier, payload_bytes)).collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    calls
}

/// The number of calls that ended with each kind.
async fn kinds(calls: Vec<Call>) -> Vec<(ErrorKind, usize)> {
    let mut found: Vec<(ErrorKind, usize)> = Vec::new();
    for call in calls {
        let kind = soon_paused(call).await.unwrap().unwrap_err().kind();
        match found.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, count)) => *count += 1,
            None => found.push((kind, 1)),
        }
    }
    found
}

/// An hour of the paused clock takes no real time.
async fn soon_paused<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3_600), future).await.expect("timed out")
}

/// Reads to the end of the connection, and sends no answer meanwhile.
async fn until_the_end(mut socket: TcpStream) -> usize {
    let (mut bytes, mut buffer) = (0, vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
        bytes += count;
    }
    bytes
}

#[tokio::test]
async fn a_notify_that_is_never_answered_is_in_doubt_after_the_answer_timeout() {
    let (notifier, _socket) = pair().await;
    let begin = Instant::now();
    let error = soon_paused(notifier.notify("a", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    assert!(format!("{error:#}").contains("did not answer within 30s"), "{error}");
    assert!((TIMEOUT..TIMEOUT + Duration::from_secs(1)).contains(&begin.elapsed()));
    let error = soon_paused(notifier.notify("a", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(format!("{error:#}").contains("did not answer within 30s"), "{error}");
}

/// 256 calls are in flight, others wait in the queue, and the rest waits for room in it.
#[tokio::test]
async fn a_full_queue_and_calls_that_wait_for_room_end_with_a_silent_connection() {
    let (notifier, _socket) = pair().await;
    let begin = Instant::now();
    let waiting = calls(&notifier, 3_000, 7_000).await;
    let found = kinds(waiting).await;
    assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(found.contains(&(ErrorKind::InDoubt, 256)), "{found:?}");
    assert!(found.iter().all(|(kind, _)| *kind != ErrorKind::Server), "{found:?}");
}

#[tokio::test]
async fn a_close_behind_a_full_queue_of_a_silent_server_is_bounded() {
    let (notifier, _socket) = pair().await;
    let waiting = calls(&notifier, 3_000, 7_000).await;
    let begin = Instant::now();
    soon_paused(notifier.clone().close()).await;
    assert!(begin.elapsed() <= TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
    let found = kinds(waiting).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&(ErrorKind::InDoubt, 256)), "{found:?}");
    assert!(found.contains(&(ErrorKind::Closed, 2_744)), "{found:?}");
    assert!(begin.elapsed() <= TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn calls_that_wait_for_room_are_refused_as_soon_as_the_notifier_is_closed() {
    let (notifier, _socket) = pair().await;
    let accepted = calls(&notifier, 1_000, 7_999).await;
    let begin = Instant::now();
    let waiting = calls(&notifier, 500, 7_999).await;
    let closing = tokio::spawn(notifier.clone().close());
    assert_eq!(kinds(waiting).await, [(ErrorKind::Closed, 500)]);
    assert!(begin.elapsed() < TIMEOUT, "{:?}", begin.elapsed());
    let error = notifier.notify("a", "late").await.unwrap_err();
    assert!(format!("{error:#}").contains("the notifier is closed"), "{error}");
    soon_paused(closing).await.unwrap();
    drop(accepted);
}

#[tokio::test]
async fn a_dropped_notifier_with_unanswered_commands_closes_its_connection_to_a_silent_server() {
    let (notifier, socket) = pair().await;
    let waiting = calls(&notifier, 2_000, 10).await;
    let begin = Instant::now();
    // Dropping a call does not undo its notification.
    waiting.iter().for_each(JoinHandle::abort);
    drop((waiting, notifier));
    soon_paused(until_the_end(socket)).await;
    assert!(begin.elapsed() <= TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// The receive window never opens: a command that was not written completely cannot have been committed.
#[tokio::test]
async fn calls_to_a_server_that_stops_reading_end_and_a_half_written_command_is_not_in_doubt() {
    let (notifier, _socket) = pair().await;
    let begin = Instant::now();
    let payload = "x".repeat(7_999);
    let pairs = (0..4_000).map(|_| ("a", payload.as_str()));
    let (many, behind) =
        soon_paused(async { tokio::join!(notifier.notify_many(pairs), notifier.notify("a", "y")) })
            .await;
    assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
    let error = many.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(format!("{error:#}").contains("did not answer within 30s"), "{error}");
    // It waited for room until both timeouts were over.
    let kind = behind.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::Closed | ErrorKind::Timeout), "{kind:?}");
}

#[tokio::test]
async fn a_command_whose_write_is_reset_is_not_in_doubt() {
    let (notifier, mut socket) = pair().await;
    let payload = "x".repeat(7_999);
    let pairs = (0..4_000).map(|_| ("a", payload.as_str()));
    let many = notifier.notify_many(pairs);
    let server = async {
        socket.read_exact(&mut vec![0; 100_000]).await.unwrap();
        // Unread bytes cause a reset.
        drop(socket);
    };
    let (many, ()) = soon_paused(async { tokio::join!(many, server) }).await;
    let error = many.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(format!("{error:#}").contains("before the notification was sent"), "{error}");
}

/// Half an answer does not count.
#[tokio::test]
async fn an_answer_of_one_byte_a_second_is_a_timeout() {
    let (notifier, mut socket) = pair().await;
    tokio::spawn(async move {
        for byte in ANSWER.iter().cycle() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if socket.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    });
    let begin = Instant::now();
    let error = soon_paused(notifier.notify("a", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// Endless messages that are not an answer: the timeout runs, however much there is to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_without_an_answer_is_a_timeout() {
    let notice = b"N\0\0\0\x1bSNOTICE\0C00000\0Mhello\0\0";
    let notification = b"A\0\0\0\x0c\0\0\0\x01a\0b\0";
    for flood in [notice.repeat(1_000), notification.repeat(1_000)] {
        let (server, url) = listener().await;
        // A busy machine must not delay the task this long, or the call would be over first.
        let timeout = Duration::from_secs(1);
        let builder = Notifier::builder(&*url).answer_timeout(timeout);
        let (notifier, mut socket) = tokio::join!(builder.connect(), let_listen(&server));
        let notifier = notifier.unwrap();
        let flooding = tokio::spawn(async move { while socket.write_all(&flood).await.is_ok() {} });
        let error = soon(notifier.notify("a", "x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        assert!(format!("{error:#}").contains("did not answer within 1s"), "{error}");
        soon(flooding).await.unwrap();
    }
}

/// One answer in 20 s: the connection is alive, and no call waits longer than a minute.
#[tokio::test]
async fn a_server_that_answers_too_slowly_does_not_delay_calls_for_hours() {
    let (notifier, mut socket) = pair().await;
    let begin = Instant::now();
    let waiting = calls(&notifier, 2_000, 10).await;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(20)).await;
            if socket.write_all(ANSWER).await.is_err() {
                break;
            }
        }
    });
    let mut answers = Vec::new();
    for call in waiting {
        answers.push(soon_paused(call).await.unwrap().map_err(|error| error.kind()));
    }
    assert!(begin.elapsed() <= 2 * TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
    let count = |kind| answers.iter().filter(|answer| **answer == kind).count();
    let committed = count(Ok(()));
    assert!((2..=3).contains(&committed), "{committed}");
    // One slot is free at 20 s, and one more at 30 s if the answer is sooner than the timeout.
    assert_eq!(count(Err(ErrorKind::InDoubt)), 257 - committed);
    assert_eq!(count(Err(ErrorKind::Timeout)), 2_000 - 257);
    let begin = Instant::now();
    soon_paused(notifier.close()).await;
    assert!(begin.elapsed() <= TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// Each answer is a refusal, and then the session ends.
#[tokio::test]
async fn refusals_and_the_end_of_the_session_reach_the_calls_that_they_belong_to() {
    let (notifier, mut socket) = pair().await;
    let waiting = calls(&notifier, 10, 1).await;
    let refusal = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0Z\0\0\0\x05I".repeat(4);
    let fatal = b"E\0\0\0\x18SFATAL\0C57P01\0Mbye\0\0";
    socket.write_all(&[&refusal[..], ANSWER, fatal].concat()).await.unwrap();
    let mut answers = Vec::new();
    for call in waiting {
        answers.push(soon_paused(call).await.unwrap().map_err(|error| error.kind()));
    }
    assert_eq!(answers[..4], [Err(ErrorKind::Server); 4]);
    assert_eq!(answers[4], Ok(()));
    assert_eq!(answers[5..], [Err(ErrorKind::InDoubt); 5]);
}

/// An answer to no command, and one that stops in the middle.
#[tokio::test]
async fn answers_in_the_wrong_order_are_never_reported_as_committed() {
    for wrong in [
        &b"Z\0\0\0\x05I"[..],
        b"C\0\0\0\x0dSELECT 1\0C\0\0\0\x0dSELECT 1\0D\0\0\0\x0a\0\x01\0\0\0\0",
        b"1\0\0\0\x042\0\0\0\x04Z\0\0\0\x05I",
        b"K\0\0\0\x0c\0\0\0\x07\0\0\0\x01",
    ] {
        let (notifier, mut socket) = pair().await;
        let waiting = calls(&notifier, 2, 1).await;
        socket.write_all(wrong).await.unwrap();
        assert_eq!(kinds(waiting).await, [(ErrorKind::InDoubt, 2)]);
        tokio::time::resume();
    }
}

/// Another client of the same server session has begun a transaction, which may be rolled back.
#[tokio::test]
async fn an_answer_inside_a_transaction_is_not_reported_as_committed() {
    let (notifier, mut socket) = pair().await;
    let waiting = calls(&notifier, 2, 1).await;
    let mut answer = ANSWER.to_vec();
    *answer.last_mut().unwrap() = b'T';
    socket.write_all(&answer).await.unwrap();
    assert_eq!(kinds(waiting).await, [(ErrorKind::InDoubt, 2)]);
    let error = notifier.notify("a", "x").await.unwrap_err();
    assert!(format!("{error:#}").contains("inside a transaction"), "{error}");
}

/// One call at a time is accepted here: the order of the calls is the order of their notifications.
#[tokio::test]
async fn calls_that_wait_for_room_keep_their_order() {
    let (server, url) = listener().await;
    let builder = Notifier::builder(&*url).queue_bytes(1);
    let (notifier, mut socket) = tokio::join!(builder.connect(), let_listen(&server));
    let notifier = notifier.unwrap();
    let mut waiting = Vec::new();
    for number in 0..50 {
        let notifier = notifier.clone();
        let payload = format!("number {number};");
        waiting.push(tokio::spawn(async move { notifier.notify("a", payload).await }));
        tokio::task::yield_now().await;
    }
    let (mut received, mut buffer) = (Vec::new(), vec![0; 4_096]);
    for number in 0..50 {
        let payload = format!("number {number};");
        while !received.windows(payload.len()).any(|bytes| bytes == payload.as_bytes()) {
            let count = soon(socket.read(&mut buffer)).await.unwrap();
            assert!(count > 0);
            received.extend_from_slice(&buffer[..count]);
        }
        let numbers = received.windows(7).filter(|bytes| *bytes == b"number ").count();
        assert_eq!(numbers, number + 1, "more than one is in flight");
        socket.write_all(ANSWER).await.unwrap();
    }
    for call in waiting {
        soon(call).await.unwrap().unwrap();
    }
}

/// As in a `select!` that runs another branch: the call was polled once, and waits for room.
#[tokio::test]
async fn a_call_that_is_kept_and_not_polled_does_not_stop_the_others() {
    let (server, url) = listener().await;
    // Room for the first call alone, or for two short ones.
    let builder = Notifier::builder(&*url).queue_bytes(1_200);
    let (notifier, mut socket) = tokio::join!(builder.connect(), let_listen(&server));
    let notifier = notifier.unwrap();
    let first = calls(&notifier, 1, 500).await.remove(0);
    let mut kept = pin!(notifier.notify("a", "kept"));
    assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let second = calls(&notifier, 1, 1).await.remove(0);
    for call in [first, second] {
        let count = soon(socket.read(&mut [0; 4_096])).await.unwrap();
        assert!(count > 0);
        socket.write_all(ANSWER).await.unwrap();
        soon(call).await.unwrap().unwrap();
    }
    socket.write_all(ANSWER).await.unwrap();
    soon(kept).await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let (_server, url) = listener().await;
    for (builder, name) in [
        (Notifier::builder(&*url).answer_timeout(Duration::ZERO), "answer_timeout"),
        (Notifier::builder(&*url).queue_bytes(0), "queue_bytes"),
        (Notifier::builder(&*url).queue_bytes(usize::MAX), "queue_bytes"),
    ] {
        let error = builder.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(format!("{error:#}").contains(name), "{error}");
    }
}

/// A timeout without a limit is allowed.
#[tokio::test]
async fn an_unlimited_answer_timeout_is_accepted() {
    let (server, url) = listener().await;
    let builder = Notifier::builder(&*url).answer_timeout(Duration::MAX);
    let (notifier, mut socket) = tokio::join!(builder.connect(), let_listen(&server));
    let notifier = notifier.unwrap();
    let waiting = calls(&notifier, 1, 1).await;
    socket.write_all(ANSWER).await.unwrap();
    for call in waiting {
        soon(call).await.unwrap().unwrap();
    }
}
