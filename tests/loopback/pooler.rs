//! Servers behind a proxy, or that look like it: the client requires a delivery proof.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pgbell::testing::{BackendConfig, Proxy, Script, Server};
use pgbell::{Config, Connection, DeliveryProof, ErrorKind, Event, Listener, Loss};
use tokio::io::AsyncWriteExt;

use crate::support::{expect_surplus, let_in, listener, message, read_up_to, soon, surplus};

async fn server(proxy: Proxy) -> Server {
    Server::start(BackendConfig::new().proxy(proxy)).await.unwrap()
}

/// The channels and payloads of this many notifications, without a loss, numbered from 0.
async fn receive(connection: &mut Connection, count: u64) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while (found.len() as u64) < count {
        let batch = soon(connection.recv_batch()).await.unwrap();
        assert!(batch.loss().is_none(), "{:?}", batch.loss());
        for n in batch {
            assert_eq!(n.sequence(), found.len() as u64);
            found.push((n.channel().to_owned(), n.payload().to_owned()));
        }
    }
    found
}

/// Polls a future this many times, each time when it was woken, and drops it. Returns whether it was ready.
async fn poll_times<T>(future: impl Future<Output = T>, mut times: u32) -> bool {
    let mut future = pin!(future);
    soon(poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(false);
        }
        times -= 1;
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if times == 0 { Poll::Ready(false) } else { Poll::Pending }
    }))
    .await
}

#[tokio::test]
async fn a_listen_that_is_dropped_during_its_delivery_proof_delivers_nothing_of_the_proof() {
    let server = server(Proxy::InventedKey).await;
    let mut other = Connection::connect(server.url()).await.unwrap();
    let mut was_ready = false;
    let mut times = 1;
    while !was_ready {
        let mut connection = Connection::connect(server.url()).await.unwrap();
        connection.simple_query("LISTEN a").await.unwrap();
        other.notify("a", "1").await.unwrap();
        was_ready = poll_times(connection.listen("b"), times).await;
        other.notify("a", "2").await.unwrap();
        soon(connection.listen("b")).await.unwrap();
        other.notify("b", "3").await.unwrap();
        let found = receive(&mut connection, 3).await;
        let expected = [("a", "1"), ("a", "2"), ("b", "3")];
        assert_eq!(found, expected.map(|(c, p)| (c.to_owned(), p.to_owned())), "{times}");
        times += 1;
    }
    assert!(times > 5, "{times}");
}

/// More than the backlog of a connection holds, 8 MiB, arrives during the delivery proof: the rest is counted and reported at
/// its position.
#[tokio::test]
async fn notifications_that_do_not_fit_during_a_delivery_proof_are_reported_as_lagged() {
    let server = server(Proxy::InventedKey).await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    connection.simple_query("LISTEN a").await.unwrap();
    let mut other = Connection::connect(server.url()).await.unwrap();
    let sent = surplus();
    for payload in &sent {
        other.notify("a", payload).await.unwrap();
    }
    soon(connection.listen("b")).await.unwrap();
    expect_surplus(&mut connection, &sent).await;
}

/// The facts that a server sends to a client to which a proxy gave the process id 7.
fn facts_of_another_process() -> Vec<u8> {
    let mut facts = Script::FACTS.to_vec();
    let at = facts.windows(5).position(|bytes| bytes == b"\0\0\0\x017").unwrap();
    facts[at + 4] = b'8';
    facts
}

/// A server before 18.2 may report at any moment that it dropped a notification.
#[tokio::test]
async fn a_loss_that_the_server_reports_during_a_delivery_proof_is_reported() {
    let (server, url) = listener().await;
    let serve = async {
        let mut socket = let_in(&server).await;
        read_up_to(&mut socket, b'Q').await;
        socket.write_all(&facts_of_another_process()).await.unwrap();
        let listen = read_up_to(&mut socket, b'Q').await;
        let channel = listen[8..listen.len() - 2].to_vec();
        socket.write_all(Script::ACK).await.unwrap();
        let mut second = let_in(&server).await;
        // The last messages of a NOTIFY with bound parameters.
        read_up_to(&mut second, b'S').await;
        let dropped = b"SERROR\0VERROR\0C53200\0Mout of memory\0\0";
        socket.write_all(&message(b'E', dropped)).await.unwrap();
        socket.write_all(&message(b'Z', b"I")).await.unwrap();
        let complete = message(b'C', b"SELECT 1\0");
        let answer = [message(b'1', b""), message(b'2', b""), message(b'n', b""), complete];
        second.write_all(&[answer.concat(), message(b'Z', b"I")].concat()).await.unwrap();
        let note = [b"\0\0\0\x08", &channel[..], b"\0\0"].concat();
        socket.write_all(&message(b'A', &note)).await.unwrap();
        read_up_to(&mut socket, b'Q').await;
        let unlistened = [message(b'C', b"UNLISTEN\0"), message(b'Z', b"I")].concat();
        socket.write_all(&unlistened).await.unwrap();
        read_up_to(&mut socket, b'Q').await;
        socket.write_all(&[Script::ACK, Script::A1].concat()).await.unwrap();
        (socket, second)
    };
    let client = async {
        let mut connection = Connection::connect(&url).await.unwrap();
        connection.listen("a").await.unwrap();
        let batch = connection.recv_batch().await.unwrap();
        let Some(Loss::Gap(gap)) = batch.loss() else { panic!("{batch:?}") };
        assert_eq!((gap.cause().sqlstate(), gap.sessions()), (Some("53200"), 0));
        assert_eq!(receive(&mut connection, 1).await, [("a".to_owned(), "b".to_owned())]);
    };
    soon(async { tokio::join!(client, serve) }).await;
}

/// Checks that a user receives every notification of `other`, and how many heartbeats were sent meanwhile.
async fn listen_for_a_while(listener: &mut Listener, other: &mut Connection) {
    let mut next = 0_u64;
    let proofs = listener.stats().heartbeats;
    while listener.stats().heartbeats < proofs + 10 {
        other.notify("a", next.to_string()).await.unwrap();
        match soon(listener.recv()).await.unwrap() {
            Event::Notification(n) => assert_eq!(n.payload(), next.to_string()),
            loss => panic!("{loss:?}"),
        }
        next += 1;
    }
    let stats = listener.stats();
    assert_eq!((stats.received, stats.gaps, stats.sessions), (next, 0, 1));
}

/// Proxies that invent the process id, or leave it out, or listen in place of their clients. Each one is proven once, and no
/// heartbeat fails.
#[tokio::test]
async fn a_proxy_that_delivers_is_accepted_after_one_delivery_proof() {
    let proofs = [DeliveryProof::Auto, DeliveryProof::Heartbeat, DeliveryProof::Skip];
    for proxy in [Proxy::None, Proxy::InventedKey, Proxy::NoKey, Proxy::SharedListen] {
        for proof in proofs {
            let server = server(proxy).await;
            let config: Config = server.url().parse().unwrap();
            let config = config.delivery_proof(proof);
            let builder = Listener::builder(&config).channels(["a"]);
            let heartbeat = Duration::from_millis(2);
            let builder = builder.heartbeat(heartbeat, Duration::from_secs(10));
            let mut listener = soon(builder.connect()).await.unwrap();
            let mut other = Connection::connect(server.url()).await.unwrap();
            listen_for_a_while(&mut listener, &mut other).await;
            let mut inline = Connection::connect(&config).await.unwrap();
            soon(inline.listen("a")).await.unwrap();
            other.notify("a", "x").await.unwrap();
            assert_eq!(receive(&mut inline, 1).await, [("a".to_owned(), "x".to_owned())]);
            soon(listener.close()).await;
        }
    }
}

/// A handover behind a proxy that listens in place of its clients.
#[tokio::test]
async fn a_handover_through_a_proxy_that_listens_for_its_clients_loses_nothing() {
    let server = server(Proxy::SharedListen).await;
    let builder = Listener::builder(server.url()).channels(["a"]);
    let builder = builder.heartbeat(Duration::from_millis(2), Duration::from_secs(10));
    let mut listener = soon(builder.connect()).await.unwrap();
    let mut other = Connection::connect(server.url()).await.unwrap();
    let mut next = 0_u64;
    for handovers in 1..=5 {
        listener.handle().rotate().await.unwrap();
        while listener.stats().handovers < handovers {
            other.notify("a", next.to_string()).await.unwrap();
            match soon(listener.recv()).await.unwrap() {
                Event::Notification(n) => assert_eq!(n.payload(), next.to_string()),
                loss => panic!("{loss:?}"),
            }
            next += 1;
        }
    }
    assert_eq!(listener.stats().gaps, 0);
}

/// A server that accepts one client: a second session is refused.
#[tokio::test]
async fn a_server_with_one_session_is_refused_by_default_and_accepted_if_the_user_allows_it() {
    let config = BackendConfig::new().proxy(Proxy::NoKey).sessions_max(1);
    let server = Server::start(config).await.unwrap();
    let config: Config = server.url().parse().unwrap();
    let error = soon(Listener::builder(&config).channels(["a"]).connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
    assert!(error.is_transient(), "{error}");
    let text = format!("{error:#}");
    assert!(text.contains("no second session could be opened"), "{text}");
    assert!(text.contains("sorry, too many clients already"), "{text}");
    assert!(text.contains("delivery_proof"), "{text}");
    while server.clients() > 0 {
        tokio::task::yield_now().await;
    }
    for proof in [DeliveryProof::Heartbeat, DeliveryProof::Skip] {
        let config = config.clone().delivery_proof(proof);
        let builder = Listener::builder(&config).channels(["a"]);
        let builder = builder.heartbeat(Duration::from_millis(2), Duration::from_secs(10));
        let listener = soon(builder.connect()).await.unwrap();
        while listener.stats().heartbeats < 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let stats = listener.stats();
        assert_eq!((stats.received, stats.gaps, stats.sessions), (0, 0, 1), "{proof:?}");
        soon(listener.close()).await;
        while server.clients() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// The process ids agree, and the server reports that the session listens.
#[tokio::test]
async fn a_server_that_shares_one_session_among_its_clients_is_refused() {
    let server = server(Proxy::OneSession).await;
    let config: Config = server.url().parse().unwrap();
    for proof in [DeliveryProof::Auto, DeliveryProof::Heartbeat] {
        let config = config.clone().delivery_proof(proof);
        let error = soon(Listener::builder(&config).channels(["a"]).connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
        assert!(format!("{error:#}").contains("PGlite"), "{error}");
    }
    let mut connection = Connection::connect(&config).await.unwrap();
    let error = soon(connection.listen("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
}
