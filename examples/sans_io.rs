//! Ends by itself. A session without any I/O: bytes in, bytes and events out, here against the backend
//! of the feature `testing`, with no socket between them.
//!
//! `cargo run --example sans_io --features testing`

use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgbell::proto::auth::{Credentials, ScramNonce};
use pgbell::proto::session::{Login, Progress, Session, SessionEvent};
use pgbell::proto::wire;
use pgbell::testing::{Backend, BackendConfig, SessionId};

#[allow(clippy::print_stdout)]
fn main() -> Result<(), pgbell::Error> {
    let now = Instant::now();
    let deadline = now + Duration::from_secs(10);
    let login = Login::new(Credentials::new("alice")?, ScramNonce::new([7; 18]), deadline);
    let mut session = Session::new(login.parameter("database", "shop"))?;
    let mut backend = Backend::new(BackendConfig::new());
    let end = backend.connect();
    let mut input = BytesMut::new();

    exchange(now, &mut session, &mut backend, end, &mut input)?;
    session.listen(now, &["orders"])?;
    session.notify(now, "orders", "hello")?;
    exchange(now, &mut session, &mut backend, end, &mut input)?;
    session.terminate();
    exchange(now, &mut session, &mut backend, end, &mut input)
}

/// Carries bytes in both directions until there are no more.
#[allow(clippy::print_stdout)]
fn exchange(
    now: Instant,
    session: &mut Session,
    backend: &mut Backend,
    end: SessionId,
    input: &mut BytesMut,
) -> Result<(), pgbell::Error> {
    loop {
        let mut sent = session.transmit().split();
        let received = backend.transmit(end).split();
        if sent.is_empty() && received.is_empty() {
            return Ok(());
        }
        backend.handle_input(end, &mut sent);
        input.extend_from_slice(&received);
        while let Progress::Notifications(run) = session.handle_input(now, input)? {
            for notification in wire::frames(&input.split_to(run.bytes)) {
                println!("notification: {:?}", notification.payload.escape_ascii().to_string());
            }
        }
        while let Some(event) = session.poll_event() {
            match event {
                SessionEvent::Done { id, result, .. } => println!("{id:?} done: {result:?}"),
                other => println!("{other:?}"),
            }
        }
    }
}
