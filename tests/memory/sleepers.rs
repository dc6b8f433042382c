//! A thousand listeners whose consumers sleep: a few unread bytes do not keep large receive buffers.

use pgbell::Listener;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::alone;
use crate::meter::Meter;
use crate::peer::{bind, diagnostic, let_in, notifications};

const SLEEPERS: usize = 1_000;

/// The queue with its slots, the session, the task and its socket.
const LISTENER_BYTES: usize = 256 * 1024;

/// Connects listeners with small queues. Each socket is the server's end of one.
async fn connect() -> Vec<(Listener, TcpStream)> {
    let (server, url) = bind().await;
    let mut sleepers = Vec::new();
    for _ in 0..SLEEPERS {
        let builder = Listener::builder(&url).queue_capacity(16).pin_limit_bytes(0);
        let (listener, socket) = tokio::join!(builder.connect(), let_in(&server));
        sleepers.push((listener.unwrap(), socket));
    }
    sleepers
}

async fn write(sleepers: &mut [(Listener, TcpStream)], bytes: &[u8]) {
    for (listener, socket) in sleepers {
        let read = listener.stats().bytes_read + bytes.len() as u64;
        socket.write_all(bytes).await.unwrap();
        while listener.stats().bytes_read < read {
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn a_thousand_sleepers_with_one_unread_notification_take_16_kib_each_for_buffers() {
    let (idle, held) = alone(async {
        let mut meter = Meter::start();
        let mut sleepers = connect().await;
        let idle = meter.held();
        write(&mut sleepers, &notifications(1, 50)).await;
        (idle, meter.held())
    });
    assert!(idle <= SLEEPERS * (16 * 1024 + LISTENER_BYTES), "{idle} bytes");
    // Nothing but the list of tasks that wait may grow.
    assert!(held <= idle + SLEEPERS * 1024, "{idle} bytes, and then {held}");
}

/// Between two notifications, 80 KiB of notices fill the buffers, as over hours.
#[test]
fn a_thousand_sleepers_with_a_notification_of_each_buffer_take_112_kib_each_for_buffers() {
    let (held, lost) = alone(async {
        let mut meter = Meter::start();
        let mut sleepers = connect().await;
        let single = notifications(1, 50);
        let notice = diagnostic(b'N', 3_500);
        for _ in 0..5 {
            write(&mut sleepers, &single).await;
            for _ in 0..24 {
                write(&mut sleepers, &notice).await;
            }
        }
        let held = meter.held();
        let lost: u64 = sleepers.iter().map(|(listener, _)| listener.stats().lagged).sum();
        (held, lost)
    });
    assert!(held <= SLEEPERS * (64 * 1024 + LISTENER_BYTES), "{held} bytes");
    assert_eq!(lost, 0);
}
