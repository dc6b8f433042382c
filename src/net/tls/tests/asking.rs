//! The request for TLS, and its answers.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::super::{Answer, ask};
use super::server::{Setup, config, connect};
use crate::error::{Error, ErrorKind};

/// Sends the request to a server that sends this answer, in one piece, and ends the connection.
async fn answered(answer: &[u8]) -> Result<Answer, Error> {
    let (mut ours, mut theirs) = duplex(1024);
    let serve = async {
        let mut request = [0; 8];
        theirs.read_exact(&mut request).await.unwrap();
        assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
    };
    let (result, ()) = tokio::join!(ask(&mut ours), serve);
    drop(ours);
    // T3: nothing else was sent, whatever the answer was.
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    result
}

async fn refused(answer: &[u8], kind: ErrorKind) -> String {
    let error = answered(answer).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    format!("{error} {error:?}")
}

#[tokio::test]
async fn yes_and_no_are_one_byte() {
    assert_eq!(answered(b"S").await.unwrap(), Answer::Yes);
    assert_eq!(answered(b"N").await.unwrap(), Answer::No);
}

/// T1, V5.
#[tokio::test]
async fn an_error_before_tls_is_not_shown() {
    for answer in [&b"E"[..], b"ESECRET-LOOKING TEXT\0", b"E\0\0\0\x20SFATAL\0MSECRET-LOOKING\0\0"]
    {
        let error = refused(answer, ErrorKind::Connect).await;
        assert!(error.contains("with an error") && !error.contains("SECRET"), "{error}");
        assert!(error.contains("(hint: the server's log has the reason)"), "{error}");
    }
}

/// T2, V3: bytes after a yes and before the client's hello, in the same segment or in another one.
#[tokio::test]
async fn bytes_before_the_clients_hello_are_an_error() {
    for behind in [&b"R\0\0\0\x08\0\0\0\0"[..], b"S", b"\x16"] {
        for at in [0, behind.len()] {
            let (with, later) = behind.split_at(at);
            let (mut ours, mut theirs) = duplex(1024);
            let serve = async {
                theirs.read_exact(&mut [0; 8]).await.unwrap();
                theirs.write_all(&[b"S", with].concat()).await.unwrap();
            };
            let (answer, ()) = tokio::join!(ask(&mut ours), serve);
            assert_eq!(answer.unwrap(), Answer::Yes);
            theirs.write_all(later).await.unwrap();
            let error = connect(&config("sslmode=require"), ours).await.unwrap_err();
            assert!(error.to_string().contains("in clear after its answer"), "{error}");
            let hint = "an attacker between client and server may have sent them, so that they are taken for the \
                        server's own: they were discarded";
            assert_eq!(error.hint(), Some(hint));
            let mut sent = Vec::new();
            theirs.read_to_end(&mut sent).await.unwrap();
            assert_eq!(sent, b"", "no hello is sent");
        }
    }
}

/// T4: these bytes belong to the unencrypted session.
#[tokio::test]
async fn bytes_after_a_no_are_not_read() {
    let (mut ours, mut theirs) = duplex(1024);
    let serve = async {
        theirs.read_exact(&mut [0; 8]).await.unwrap();
        theirs.write_all(b"NR\0\0\0\x08\0\0\0\0").await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&mut ours), serve);
    assert_eq!(answer.unwrap(), Answer::No);
    let mut behind = [0; 9];
    ours.read_exact(&mut behind).await.unwrap();
    assert_eq!(&behind, b"R\0\0\0\x08\0\0\0\0");
}

/// T5.
#[tokio::test]
async fn the_error_for_another_answer_has_its_byte() {
    for (answer, shown) in [(b"\0", "0x00"), (b"G", "0x47"), (b"s", "0x73"), (b"\n", "0x0a")] {
        let error = refused(answer, ErrorKind::Tls).await;
        assert!(error.contains(shown), "{error}");
        assert!(error.contains("(hint: is there a PostgreSQL server at this port?)"), "{error}");
    }
    assert!(refused(b"HTTP/1.1 400 Bad Request\r\n", ErrorKind::Tls).await.contains("0x48"));
    let error = refused(b"", ErrorKind::Connect).await;
    assert!(error.contains("ended the connection"), "{error}");
    assert!(error.contains("at this port? It may also be overloaded"), "{error}");
}

#[tokio::test]
async fn a_yes_leads_to_a_handshake() {
    let (mut ours, mut theirs) = duplex(16 * 1024);
    let serve = async {
        theirs.read_exact(&mut [0; 8]).await.unwrap();
        theirs.write_all(b"S").await.unwrap();
        let mut server = Setup::good().over(theirs);
        assert!(server.handshake().await);
    };
    let client = async {
        assert_eq!(ask(&mut ours).await.unwrap(), Answer::Yes);
        connect(&config("sslmode=require"), ours).await.unwrap();
    };
    tokio::join!(client, serve);
}
