use std::time::Duration;

use pgbell::testing::Server;
use pgbell::{
    Connection, ErrorKind, Event, Listener, ListenerBuilder, Listening, Loss, Overflow, State,
};

use crate::support::{server, soon};

async fn next(listener: &mut Listener) -> String {
    match soon(listener.recv()).await.unwrap() {
        Event::Notification(n) => n.payload().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// A listener to channel `a`, with a small queue.
async fn listening(server: &Server, capacity: usize, overflow: Overflow) -> Listener {
    let builder = Listener::builder(server.url()).channels(["a"]).queue_capacity(capacity);
    builder.overflow(overflow).connect().await.unwrap()
}

#[tokio::test]
async fn connect_returns_when_the_channels_are_active() {
    let server = server().await;
    let mut listener =
        Listener::builder(server.url()).channels(["a", "b"]).connect().await.unwrap();
    assert_eq!(listener.state(), State::Connected);
    let mut channels = listener.handle().channels().await.unwrap();
    channels.sort_by(|a, b| a.0.cmp(&b.0));
    let active = |name: &str| format!("{name} Active");
    let channels: Vec<String> =
        channels.iter().map(|(name, state)| format!("{name} {state:?}")).collect();
    assert_eq!(channels, [active("a"), active("b")]);
    let mut sending = Connection::connect(server.url()).await.unwrap();
    sending.notify("b", "1").await.unwrap();
    assert_eq!(next(&mut listener).await, "1");
    assert_eq!(listener.listen("c").await.unwrap(), Listening::Active);
    listener.unlisten("b").await.unwrap();
    sending.notify("b", "not received").await.unwrap();
    sending.notify("c", "2").await.unwrap();
    assert_eq!(next(&mut listener).await, "2");
    listener.unlisten_all().await.unwrap();
    assert!(listener.handle().channels().await.unwrap().is_empty());
}

#[tokio::test]
async fn every_way_to_receive_gives_the_same_stream() {
    let server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let mut sending = Connection::connect(server.url()).await.unwrap();
    for n in 0..40 {
        sending.notify("a", n.to_string()).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        match seen.len() % 3 {
            0 => seen.push(next(&mut listener).await),
            1 => {
                if let Some(Event::Notification(n)) = listener.try_recv().unwrap() {
                    seen.push(n.payload().to_owned());
                } else {
                    seen.push(next(&mut listener).await);
                }
            }
            _ => {
                let batch = soon(listener.recv_batch_max(3)).await.unwrap();
                assert!((1..=3).contains(&batch.len()));
                seen.extend(batch.iter().map(|n| n.payload().to_owned()));
            }
        }
    }
    assert_eq!(seen, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(listener.try_recv().unwrap().is_none());
    let stats = listener.stats();
    assert_eq!((stats.received, stats.delivered, stats.lagged), (40, 40, 0));
}

#[tokio::test]
async fn a_full_queue_reports_the_dropped_notifications_even_if_none_follow() {
    let server = server().await;
    let mut listener = listening(&server, 8, Overflow::DropNewest).await;
    let mut sending = Connection::connect(server.url()).await.unwrap();
    for n in 0..20 {
        sending.notify("a", n.to_string()).await.unwrap();
    }
    // All notifications have arrived before the answer to this.
    soon(async {
        while listener.stats().received < 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for n in 0..8 {
        assert_eq!(next(&mut listener).await, n.to_string());
    }
    match soon(listener.recv()).await.unwrap() {
        Event::Lagged(lagged) => assert_eq!((lagged.count(), lagged.first_sequence()), (12, 8)),
        other => panic!("{other:?}"),
    }
    assert_eq!(listener.listen("b").await.unwrap(), Listening::Active);
    sending.notify("b", "after").await.unwrap();
    assert_eq!(next(&mut listener).await, "after");
    assert_eq!(listener.stats().lagged, 12);
}

#[tokio::test]
async fn a_blocked_listener_still_answers_and_closes() {
    let server = server().await;
    let mut listener =
        listening(&server, 4, Overflow::Block { max_stall: Duration::from_secs(600) }).await;
    let mut sending = Connection::connect(server.url()).await.unwrap();
    for n in 0..100 {
        sending.notify("a", n.to_string()).await.unwrap();
    }
    soon(async {
        while listener.stats().stalls == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The answer is behind the notifications: they are read beyond the capacity.
    assert_eq!(soon(listener.listen("b")).await.unwrap(), Listening::Active);
    for n in 0..100 {
        assert_eq!(next(&mut listener).await, n.to_string());
    }
    for n in 0..100 {
        sending.notify("a", n.to_string()).await.unwrap();
    }
    soon(listener.close()).await;
}

/// A task that stalls a second time on bytes it has already read must still be woken when the consumer takes an item.
#[tokio::test]
async fn a_stalled_task_continues_whenever_the_consumer_makes_room() {
    let server = server().await;
    let mut listener =
        listening(&server, 2, Overflow::Block { max_stall: Duration::from_secs(600) }).await;
    let mut sending = Connection::connect(server.url()).await.unwrap();
    sending.simple_query("BEGIN").await.unwrap();
    for n in 0..500 {
        sending.notify("a", n.to_string()).await.unwrap();
    }
    sending.simple_query("COMMIT").await.unwrap();
    for n in 0..500 {
        assert_eq!(next(&mut listener).await, n.to_string());
    }
    assert_eq!(listener.stats().lagged, 0);
}

#[tokio::test]
async fn max_stall_ends_in_a_counted_loss() {
    let server = server().await;
    let mut listener =
        listening(&server, 4, Overflow::Block { max_stall: Duration::from_millis(50) }).await;
    let mut sending = Connection::connect(server.url()).await.unwrap();
    for n in 0..100 {
        sending.notify("a", n.to_string()).await.unwrap();
    }
    soon(async {
        while listener.stats().received < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (mut delivered, mut lagged) = (0, 0);
    while delivered + lagged < 100 {
        let batch = soon(listener.recv_batch()).await.unwrap();
        delivered += batch.len() as u64;
        if let Some(Loss::Lagged(loss)) = batch.loss() {
            lagged += loss.count();
        }
    }
    assert!(lagged > 0, "{delivered} + {lagged}");
}

#[tokio::test]
async fn the_loss_of_the_session_is_reported_once_behind_all_notifications() {
    let server = server().await;
    let listener = Listener::builder(server.url()).channels(["a"]).reconnect(false);
    let mut listener = listener.connect().await.unwrap();
    let handle = listener.handle();
    let mut sending = Connection::connect(server.url()).await.unwrap();
    sending.notify("a", "1").await.unwrap();
    server.terminate_all();
    soon(handle.wait_state(State::Closed)).await.unwrap();
    assert_eq!(next(&mut listener).await, "1");
    assert_eq!(soon(listener.recv()).await.unwrap_err().sqlstate(), Some("57P01"));
    for _ in 0..2 {
        assert_eq!(soon(listener.recv()).await.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(handle.listen("b").await.unwrap_err().kind(), ErrorKind::Closed);
    soon(handle.close()).await;
}

#[tokio::test]
async fn closing_through_a_handle_ends_a_pending_receive() {
    let server = server().await;
    let mut listener = Listener::connect(server.url()).await.unwrap();
    let handle = listener.handle();
    let receiving = tokio::spawn(async move { listener.recv().await });
    soon(handle.close()).await;
    assert_eq!(soon(receiving).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test]
async fn a_dropped_listener_ends_its_session_even_if_a_handle_remains() {
    let server = server().await;
    let listener = Listener::connect(server.url()).await.unwrap();
    let handle = listener.handle();
    drop(listener);
    soon(handle.wait_state(State::Closed)).await.unwrap();
    soon(async {
        while server.clients() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[test]
fn a_listener_that_outlives_its_runtime_is_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut listener, handle) = runtime.block_on(async {
        let server = server().await;
        let listener = Listener::connect(server.url()).await.unwrap();
        let handle = listener.handle();
        (listener, handle)
    });
    drop(runtime);
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(listener.try_recv().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn invalid_settings_are_refused_by_name() {
    type Change = fn(ListenerBuilder) -> ListenerBuilder;
    let changes: [(Change, &str); 4] = [
        (|b| b.queue_capacity(0), "queue_capacity is 0"),
        (|b| b.queue_capacity(600_000), "queue_capacity is 600000"),
        (|b| b.queue_bytes(10), "queue_bytes is 10"),
        (|b| b.overflow(Overflow::Block { max_stall: Duration::ZERO }), "max_stall is zero"),
    ];
    for (change, named) in changes {
        let error = change(Listener::builder("host=127.0.0.1 port=1 user=x")).connect().await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(format!("{error:#}").contains(named), "{error}");
    }
}

#[tokio::test]
async fn the_error_of_the_first_connect_is_returned_and_not_tried_again() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let error = soon(Listener::connect(format!("host=127.0.0.1 port={port} user=x"))).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_silent_server_costs_the_connect_timeout_and_no_more() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("host=127.0.0.1 port={port} user=x connect_timeout=0.2");
    let error = soon(Listener::connect(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let error = soon(Connection::connect(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}
