//! The memory of wake-ups that are attached to a notifier.

use std::time::Duration;

use pgbell::{Notifier, WakeTask, Wakeups};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::alone;
use crate::meter::Meter;
use crate::peer::{bind, let_in, read_query};

/// The documented limit of the nudges whose notifications are expected.
const ECHOES_BYTES: usize = 1024 * 1024;

/// The keys of the task: 1,024 of them with at most 256 KiB, and as many of the nudges that wait, twice.
const KEYS_BYTES: usize = 3 * 1_024 * 256;

/// The session of the nudges, with the buffers of both directions.
const OVERHEAD_BYTES: usize = 512 * 1024;

/// ParseComplete to ReadyForQuery.
const ANSWER: &[u8] = b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x1e\0\x01count\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0\
    D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

/// Confirms every transaction of the next session, and sends no notification.
async fn confirm(server: TcpListener) {
    let mut socket = let_in(&server).await;
    let mut buffer = vec![0; 64 * 1024];
    // The last bytes, which may be those of two reads.
    let mut tail = Vec::new();
    loop {
        let count = socket.read(&mut buffer).await.unwrap();
        if count == 0 {
            return;
        }
        tail.extend_from_slice(&buffer[count.saturating_sub(5)..count]);
        tail.drain(..tail.len().saturating_sub(5));
        if tail == b"S\0\0\0\x04" {
            socket.write_all(ANSWER).await.unwrap();
        }
    }
}

async fn listening(server: &TcpListener) -> TcpStream {
    let mut socket = let_in(server).await;
    read_query(&mut socket).await;
    socket.write_all(b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I").await.unwrap();
    socket
}

/// The notifications of these nudges never arrive.
#[test]
fn echoes_that_never_come_take_a_bounded_amount_of_memory_which_a_loss_frees() {
    const ROUNDS: usize = 12;
    let (peak, kept, left) = alone(async {
        let (server, url) = bind().await;
        let task = WakeTask::new("jobs").channel("jobs").interval(Duration::MAX);
        let builder = Wakeups::builder(&*url).task(task);
        let (wakeups, listening) = tokio::join!(builder.connect(), listening(&server));
        let wakeups = wakeups.unwrap();
        let builder = Notifier::builder(&*url).nudge_window(Duration::from_millis(1));
        let (notifier, _calls) = tokio::join!(builder.connect(), let_in(&server));
        let notifier = notifier.unwrap();
        wakeups.attach(&notifier);
        let mut meter = Meter::start();
        tokio::spawn(confirm(server));
        for round in 0..ROUNDS {
            for key in 0..1_000 {
                // 60 bytes, so that 4,096 of them are nearly 256 KiB.
                notifier.nudge("jobs", &format!("{round:030}{key:030}"));
            }
            while notifier.stats().nudges_unconfirmed > 0 {
                tokio::task::yield_now().await;
                meter.look();
            }
        }
        let kept = meter.held();
        drop(listening);
        while wakeups.status().is_listening() {
            tokio::task::yield_now().await;
        }
        (meter.peak(), kept, meter.held())
    });
    let most = ECHOES_BYTES + KEYS_BYTES + OVERHEAD_BYTES;
    assert!(peak <= most, "{peak} bytes, more than {most}");
    // At least the keys of the newer half were there.
    assert!(kept > left + 2_048 * 60, "{kept} bytes, and {left} after the loss");
}
