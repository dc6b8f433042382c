//! Stray errors: reports of a dropped notification that a connection could take for answers to its commands.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use pgbell::testing::Script;
use pgbell::{Connection, Error, ErrorKind, Loss};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{let_in, listener, message, read_message, read_up_to, soon};

const READY: &[u8] = b"Z\0\0\0\x05I";
const UNLISTENED: &[u8] = b"C\0\0\0\x0dUNLISTEN\0Z\0\0\0\x05I";

/// Versions before and after the fix.
const OLD: [&str; 3] = ["13.23", "17.7 (Debian 17.7-1)", "18.1"];
const FIXED: [&str; 3] = ["14.21", "17.8", "18.2"];

/// SQLSTATEs with which any server may report a dropped notification.
const CODES: [&str; 3] = ["53200", "58P01", "XX000"];

fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0C{code}\0Mno\0\0").as_bytes())
}

/// An error with a ReadyForQuery of its own.
fn report(code: &str) -> Vec<u8> {
    [&error(code), READY].concat()
}

/// The answer to a query with one value.
fn row(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    let mut column = b"\0\x01v\0".to_vec();
    column.extend_from_slice(&[
        0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ]);
    [
        message(b'T', &column),
        message(b'D', &[b"\0\x01", &length[..], value.as_bytes()].concat()),
        message(b'C', b"SELECT 1\0"),
        READY.to_vec(),
    ]
    .concat()
}

/// The answer to `notify`.
fn notified() -> Vec<u8> {
    [message(b'1', b""), message(b'2', b""), row("")].concat()
}

/// A connection to a server with this version and encoding of the database.
async fn connect(version: &str, encoding: &str) -> (Connection, TcpStream) {
    let (server, url) = listener().await;
    let parameters = [("server_version", version), ("server_encoding", encoding)];
    let (connection, socket) =
        soon(async { tokio::join!(Connection::connect(&url), log_in(&server, &parameters)) }).await;
    (connection.unwrap(), socket)
}

async fn log_in(server: &TcpListener, parameters: &[(&str, &str)]) -> TcpStream {
    let mut socket = let_in(server).await;
    read_message(&mut socket, b'Q').await;
    for (name, value) in parameters {
        let status = message(b'S', format!("{name}\0{value}\0").as_bytes());
        socket.write_all(&status).await.unwrap();
    }
    socket.write_all(Script::FACTS).await.unwrap();
    socket
}

/// The server reads one query, and answers it.
async fn answer(socket: &mut TcpStream, bytes: &[u8]) {
    read_message(socket, b'Q').await;
    socket.write_all(bytes).await.unwrap();
}

/// A connection whose answers come from another process than the one whose key it received.
async fn behind_a_pooler() -> (Connection, TcpStream, TcpListener) {
    let (server, url) = listener().await;
    let log_in = async {
        let mut socket = let_in(&server).await;
        let version = message(b'S', b"server_version\x0018.1\0");
        let facts: Vec<_> =
            Script::FACTS.iter().map(|byte| if *byte == b'7' { b'8' } else { *byte }).collect();
        answer(&mut socket, &[version, facts].concat()).await;
        socket
    };
    let (connection, socket) =
        soon(async { tokio::join!(Connection::connect(&url), log_in) }).await;
    (connection.unwrap(), socket, server)
}

/// Like [`connect`]; the connection listens to `a`.
async fn listening(version: &str, encoding: &str) -> (Connection, TcpStream) {
    let (mut connection, mut socket) = connect(version, encoding).await;
    let (listened, ()) =
        soon(async { tokio::join!(connection.listen("a"), answer(&mut socket, Script::ACK)) })
            .await;
    listened.unwrap();
    (connection, socket)
}

/// Calls `notify`. The server reads it completely, and sends these bytes.
async fn notify(
    connection: &mut Connection,
    socket: &mut TcpStream,
    bytes: &[u8],
) -> Result<(), Error> {
    let server = async {
        read_up_to(socket, b'S').await;
        socket.write_all(bytes).await.unwrap();
    };
    soon(async { tokio::join!(connection.notify("b", "1"), server) }).await.0
}

/// Calls `simple_query`. The server reads it, and sends these bytes.
async fn query(
    connection: &mut Connection,
    socket: &mut TcpStream,
    bytes: &[u8],
) -> Result<String, Error> {
    let query = connection.simple_query("SELECT v");
    let (rows, ()) = soon(async { tokio::join!(query, answer(socket, bytes)) }).await;
    Ok(rows?[0].get(0).unwrap().get(0).unwrap().to_owned())
}

/// Polls a call once: its command is sent, and its answer is not awaited.
async fn send<T>(mut call: Pin<&mut impl Future<Output = T>>) {
    let is_done = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
    assert!(!is_done);
}

/// Checks that the command is in doubt, the loss is reported once, and the connection has ended.
async fn expect_the_end(connection: &mut Connection, found: &Error, code: &str) {
    assert_eq!(found.kind(), ErrorKind::InDoubt, "{code}: {found}");
    assert!(format!("{found:#}").contains(code), "{found:#}");
    {
        let batch = soon(connection.recv_batch()).await.unwrap();
        let Some(Loss::Gap(gap)) = batch.loss() else { panic!("{code}: {:?}", batch.loss()) };
        assert_eq!((gap.cause().sqlstate(), batch.len()), (Some(code), 0));
    }
    for _ in 0..2 {
        let error = soon(connection.recv_batch()).await.unwrap_err();
        assert!(error.is_transient() && format!("{error:#}").contains(code), "{error}");
    }
    // Nothing is sent, so no later answer can be taken for the answer to this call.
    let error = soon(connection.simple_query("SELECT 2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

/// An earlier version reported the command as refused, and the server executed it. The next command got its answer.
#[tokio::test]
async fn a_dropped_notification_reported_across_a_notify_is_not_its_answer() {
    for (version, code) in OLD.into_iter().flat_map(|version| CODES.map(|code| (version, code))) {
        let (mut connection, mut socket) = listening(version, "UTF8").await;
        let found = notify(&mut connection, &mut socket, &report(code)).await.unwrap_err();
        // The messages of the server.
        socket.write_all(&notified()).await.unwrap();
        expect_the_end(&mut connection, &found, code).await;
    }
}

/// The report is behind the answer, before its ReadyForQuery.
#[tokio::test]
async fn a_dropped_notification_reported_right_behind_an_answer_leaves_it_in_doubt() {
    let (mut connection, mut socket) = listening("18.1", "UTF8").await;
    let bytes = [message(b'C', b"SELECT 1\0"), report("53200")].concat();
    let found = query(&mut connection, &mut socket, &bytes).await.unwrap_err();
    expect_the_end(&mut connection, &found, "53200").await;
}

#[tokio::test]
async fn a_dropped_notification_reported_across_listen_and_unlisten_is_not_their_answer() {
    for (code, completed) in CODES.into_iter().zip([Script::ACK, UNLISTENED, UNLISTENED]) {
        let (mut connection, mut socket) = listening("17.7", "UTF8").await;
        let client = async {
            match code {
                "53200" => connection.listen("b").await,
                "58P01" => connection.unlisten("a").await,
                _ => connection.unlisten_all().await,
            }
        };
        let bytes = [&report(code), completed].concat();
        let (found, ()) = soon(async { tokio::join!(client, answer(&mut socket, &bytes)) }).await;
        expect_the_end(&mut connection, &found.unwrap_err(), code).await;
    }
}

/// In an earlier version the second query got the rows of the first one.
#[tokio::test]
async fn an_answer_behind_a_reported_drop_is_not_that_of_the_next_query() {
    let (mut connection, mut socket) = listening("18.1", "UTF8").await;
    send(pin!(connection.simple_query("SELECT 1"))).await;
    let server = async {
        read_message(&mut socket, b'Q').await;
        read_message(&mut socket, b'Q').await;
        // One read returns all of it.
        let bytes = [report("53200"), row("1"), row("2")].concat();
        socket.write_all(&bytes).await.unwrap();
    };
    let (found, ()) =
        soon(async { tokio::join!(connection.simple_query("SELECT 2"), server) }).await;
    expect_the_end(&mut connection, &found.unwrap_err(), "53200").await;
}

/// `recv_batch` reads the report, as the answer to a command whose future was dropped.
#[tokio::test]
async fn a_drop_reported_across_a_command_whose_future_was_dropped_is_a_gap() {
    let (mut connection, mut socket) = listening("18.1", "UTF8").await;
    send(pin!(connection.notify("b", "1"))).await;
    read_up_to(&mut socket, b'S').await;
    let bytes = [Script::A1, &report("58P01"), &notified()].concat();
    socket.write_all(&bytes).await.unwrap();
    assert_eq!(soon(connection.recv_batch()).await.unwrap().len(), 1);
    {
        let batch = soon(connection.recv_batch()).await.unwrap();
        assert!(matches!(batch.loss(), Some(Loss::Gap(_))), "{:?}", batch.loss());
    }
    let error = soon(connection.recv_batch()).await.unwrap_err();
    assert!(format!("{error:#}").contains("58P01"), "{error}");
}

/// In a database with another encoding the server may fail to convert a notification.
#[tokio::test]
async fn an_error_of_a_conversion_is_in_doubt_unless_the_database_is_utf8() {
    for code in ["22021", "22P05"] {
        for encoding in ["EUC_JP", "SQL_ASCII"] {
            let (mut connection, mut socket) = listening("18.1", encoding).await;
            let found = notify(&mut connection, &mut socket, &report(code)).await.unwrap_err();
            expect_the_end(&mut connection, &found, code).await;
        }
        let (mut connection, mut socket) = listening("18.1", "UTF8").await;
        let found = notify(&mut connection, &mut socket, &report(code)).await.unwrap_err();
        assert_eq!((found.kind(), found.sqlstate()), (ErrorKind::Server, Some(code)));
        assert_eq!(query(&mut connection, &mut socket, &row("1")).await.unwrap(), "1");
    }
}

/// Behind a pooler the first LISTEN is that of the delivery proof.
#[tokio::test]
async fn a_drop_reported_across_the_delivery_proof_ends_the_connection() {
    let (mut connection, mut socket, _server) = behind_a_pooler().await;
    let prove = async {
        let sql = read_message(&mut socket, b'Q').await;
        assert!(sql.starts_with(b"LISTEN \"pgbell_"), "{sql:?}");
        socket.write_all(&[&report("58P01"), Script::ACK].concat()).await.unwrap();
    };
    let (found, ()) = soon(async { tokio::join!(connection.listen("a"), prove) }).await;
    expect_the_end(&mut connection, &found.unwrap_err(), "58P01").await;
}

/// Behind a pooler the client leaves the private channel when the delivery proof has failed. An earlier version
/// discarded the report that crossed that UNLISTEN, and the next command got the answer to it.
#[tokio::test]
async fn a_drop_reported_behind_a_failed_delivery_proof_ends_the_connection() {
    let (mut connection, mut socket, server) = behind_a_pooler().await;
    let prove = async {
        answer(&mut socket, Script::ACK).await;
        // The second session is refused.
        drop(server.accept().await.unwrap());
        answer(&mut socket, &[&report("58P01"), UNLISTENED].concat()).await;
    };
    let (found, ()) = soon(async { tokio::join!(connection.listen("a"), prove) }).await;
    expect_the_end(&mut connection, &found.unwrap_err(), "58P01").await;
}

/// If the server refuses that UNLISTEN with an error that cannot report a dropped notification, `listen` returns the error of
/// the delivery proof.
#[tokio::test]
async fn a_failed_delivery_proof_is_reported_even_if_unlisten_of_the_private_channel_fails() {
    let (mut connection, mut socket, server) = behind_a_pooler().await;
    let prove = async {
        answer(&mut socket, Script::ACK).await;
        drop(server.accept().await.unwrap());
        answer(&mut socket, &report("42501")).await;
    };
    let (found, ()) = soon(async { tokio::join!(connection.listen("a"), prove) }).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Pooler);
    assert_eq!(query(&mut connection, &mut socket, &row("1")).await.unwrap(), "1");
}

/// The user sends LISTEN in a query.
#[tokio::test]
async fn a_connection_listens_after_a_listen_in_a_query() {
    let (mut connection, mut socket) = connect("18.1", "UTF8").await;
    let client = connection.simple_query("LISTEN a");
    let (listened, ()) =
        soon(async { tokio::join!(client, answer(&mut socket, Script::ACK)) }).await;
    assert_eq!(listened.unwrap()[0].command_tag(), "LISTEN");
    let found = notify(&mut connection, &mut socket, &report("53200")).await.unwrap_err();
    expect_the_end(&mut connection, &found, "53200").await;
}

/// Checks that a connection listens after a query whose answer contains the completion of a LISTEN, and which ends with an
/// error of this kind.
async fn expect_listening(answer: &[&[u8]], kind: ErrorKind) {
    let (mut connection, mut socket) = connect("18.1", "UTF8").await;
    let found = query(&mut connection, &mut socket, &answer.concat()).await.unwrap_err();
    assert_eq!(found.kind(), kind, "{found}");
    let found = notify(&mut connection, &mut socket, &report("53200")).await.unwrap_err();
    expect_the_end(&mut connection, &found, "53200").await;
}

/// The query has BEGIN, LISTEN, COMMIT, and a statement that fails.
#[tokio::test]
async fn a_connection_listens_after_a_listen_in_a_query_that_ends_in_an_error() {
    let completed =
        ["BEGIN", "LISTEN", "COMMIT"].map(|tag| message(b'C', &[tag.as_bytes(), b"\0"].concat()));
    expect_listening(&[&completed.concat(), &report("22012")], ErrorKind::Server).await;
}

/// The other statement is a COPY.
#[tokio::test]
async fn a_connection_listens_after_a_listen_in_a_query_whose_result_is_refused() {
    let listened = message(b'C', b"LISTEN\0");
    let copied =
        [message(b'H', b"\0\0\0"), message(b'c', b""), message(b'C', b"COPY 0\0")].concat();
    for answer in [[&copied[..], &listened], [&listened, &copied]] {
        expect_listening(&[&answer.concat(), READY], ErrorKind::Unsupported).await;
    }
}

/// Checks that the error is the answer, and that the connection continues.
async fn expect_a_refusal(mut connection: Connection, mut socket: TcpStream, bytes: &[u8]) {
    let found = notify(&mut connection, &mut socket, bytes).await.unwrap_err();
    assert_eq!(found.kind(), ErrorKind::Server, "{found}");
    assert_eq!(query(&mut connection, &mut socket, &row("1")).await.unwrap(), "1");
    notify(&mut connection, &mut socket, &notified()).await.unwrap();
    socket.write_all(Script::A1).await.unwrap();
    let batch = soon(connection.recv_batch()).await.unwrap();
    assert!(batch.loss().is_none(), "{:?}", batch.loss());
    assert_eq!(batch.len(), 1);
}

#[tokio::test]
async fn an_error_of_a_server_with_the_fix_is_the_answer() {
    for (version, code) in FIXED.into_iter().flat_map(|version| CODES.map(|code| (version, code))) {
        let (connection, socket) = listening(version, "EUC_JP").await;
        expect_a_refusal(connection, socket, &report(code)).await;
    }
}

#[tokio::test]
async fn an_error_that_reports_no_drop_is_the_answer() {
    for code in ["42501", "22012", "54000", "57014"] {
        let (connection, socket) = listening("18.1", "EUC_JP").await;
        expect_a_refusal(connection, socket, &report(code)).await;
    }
}

#[tokio::test]
async fn an_error_on_a_connection_that_never_listened_is_the_answer() {
    for code in CODES {
        let (connection, socket) = connect("18.1", "UTF8").await;
        expect_a_refusal(connection, socket, &report(code)).await;
    }
}

/// A server drops nothing inside a transaction.
#[tokio::test]
async fn an_error_inside_a_transaction_is_the_answer() {
    for code in CODES {
        let (connection, socket) = listening("18.1", "UTF8").await;
        let bytes = [&error(code)[..], b"Z\0\0\0\x05E"].concat();
        expect_a_refusal(connection, socket, &bytes).await;
    }
}

/// A session that the server has ended is not in doubt.
#[tokio::test]
async fn a_fatal_error_of_an_old_server_ends_the_session_without_a_gap() {
    let (mut connection, mut socket) = listening("18.1", "UTF8").await;
    let fatal = message(b'E', b"SFATAL\0CXX000\0Mbye\0\0");
    let (found, ()) =
        soon(async { tokio::join!(connection.unlisten("a"), answer(&mut socket, &fatal)) }).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Server);
    assert_eq!(soon(connection.recv_batch()).await.unwrap_err().sqlstate(), Some("XX000"));
}
