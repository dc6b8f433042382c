//! Names that have another address at the next attempt, as in a failover by DNS.

use std::cell::Cell;
use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pgbell::{ErrorKind, Event, Gap, Listener, State};
use pgbell_testkit::Mode;
use tokio::net::{TcpListener, TcpStream};

use crate::dead::report;
use crate::support::{Server, TEST_TIMEOUT, next, run, until};

/// A name in a domain for tests (RFC 2606).
const NAME: &str = "pgbell.test";

/// The address on which the servers of the testkit listen, and another address of this machine.
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const DELAY_MIN: Duration = Duration::from_millis(20);
const DELAY_MAX: Duration = Duration::from_millis(100);

/// A directory of every Linux. Daemons that cache names have their sockets here too.
const OWN: &str = "/run";

/// `/etc/hosts` of one thread and of its child threads. It cannot move to another thread.
struct Names {
    files: Cell<u32>,
}

impl Names {
    /// Runs a function in a mount namespace of a thread of its own. The namespace ends with its last thread and process.
    fn of_a_thread<T: Send>(run: impl FnOnce(&Self) -> T + Send) -> T {
        let own = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            // The mounts are invisible outside.
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            mount(None::<&str>, OWN, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            let names = Self { files: Cell::new(0) };
            // No other source of names is used.
            names.cover("/etc/nsswitch.conf", "hosts: files\n");
            run(&names)
        };
        thread::scope(|scope| {
            scope.spawn(own).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// From here on the name has this address, or none.
    fn set(&self, address: Option<Ipv4Addr>) {
        let line = address.map(|address| format!("{address} {NAME}\n"));
        self.cover("/etc/hosts", &format!("127.0.0.1 localhost\n{}", line.unwrap_or_default()));
    }

    /// Mounts another file over one, atomically: a reader finds the old file or the new one.
    fn cover(&self, path: &str, text: &str) {
        // Each file has its own name: a file that is mounted must not be removed, or nothing can be mounted over it.
        self.files.set(self.files.get() + 1);
        let file = format!("{OWN}/{}", self.files.get());
        fs::write(&file, text).unwrap();
        mount(Some(file.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }
}

fn url(server: &Server) -> String {
    let (user, port) = (server.cluster.superuser(), server.cluster.port());
    format!("postgresql://{user}@{NAME}:{port}/postgres?sslmode=disable")
}

async fn listener(url: String) -> Listener {
    let builder = Listener::builder(url).channels(["a"]).backoff(DELAY_MIN, DELAY_MAX);
    builder.connect().await.unwrap()
}

/// The second address leads to another server, at the port of the first one.
async fn forward(listener: TcpListener, port: u16) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut server = TcpStream::connect((FIRST, port)).await.unwrap();
            // A reset is an end like any other.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// Receives the one gap, and then a notification from this server.
async fn expect_reconnect(listener: &mut Listener, server: &Server, text: &str) -> Gap {
    let event = tokio::time::timeout(TEST_TIMEOUT, listener.recv())
        .await
        .expect("the listener does not reconnect");
    let Event::Gap(gap) = event.unwrap() else { panic!("no gap") };
    expect_notification(listener, server, text).await;
    gap
}

async fn expect_notification(listener: &mut Listener, server: &Server, text: &str) {
    let port = listener.simple_query("SHOW port").await.unwrap();
    let port = port[0].get(0).unwrap().get(0).unwrap().to_owned();
    assert_eq!(port, server.cluster.port().to_string());
    server.notifier().await.notify("a", text).await.unwrap();
    assert_eq!(next(listener).await.payload_bytes(), text.as_bytes());
}

#[test]
fn r12_the_next_attempt_uses_the_new_address_of_a_name() {
    let (first, second) = (Server::start(), Server::start());
    let test = |names: &Names| {
        names.set(Some(FIRST));
        run(async {
            let relay = TcpListener::bind((SECOND, first.cluster.port())).await.unwrap();
            let relay = tokio::spawn(forward(relay, second.cluster.port()));
            let mut listener = listener(url(&first)).await;
            let handle = listener.handle();
            expect_notification(&mut listener, &first, "at the beginning").await;

            // The server stops; some attempts later the name leads to another one.
            tokio::task::block_in_place(|| first.cluster.stop(Mode::Immediate).unwrap());
            until("attempts have failed", || handle.stats().attempts_failed >= 3).await;
            let error = handle.last_error().unwrap();
            let address = format!("{NAME}:{} ({FIRST})", first.cluster.port());
            assert!(format!("{error:#}").contains(&address), "{error}");
            names.set(Some(SECOND));
            let gap = expect_reconnect(&mut listener, &second, "after the failover").await;
            assert_eq!(gap.sessions(), 1, "{gap}");
            assert!(gap.attempts() >= 4, "{gap}");
            report(&format!(
                "an address that changed: {} attempts, {}",
                gap.attempts(),
                gap.cause()
            ));

            // The old server is up again and gets the name: a session is kept …
            tokio::task::block_in_place(|| first.cluster.start_again().unwrap());
            names.set(Some(FIRST));
            expect_notification(&mut listener, &second, "while the name is missing").await;
            // … and when it is lost, the next one follows the name, although the other server would accept it.
            second.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
            let gap = expect_reconnect(&mut listener, &first, "after the return").await;
            assert_eq!((gap.sessions(), gap.attempts()), (1, 1), "{gap}");

            let stats = listener.stats();
            assert_eq!((stats.sessions, stats.sessions_lost, stats.received), (3, 2, 4));
            listener.close().await;
            relay.abort();
        });
    };
    Names::of_a_thread(test);
}

#[test]
fn a_missing_name_fails_attempts_and_does_not_end_the_listener() {
    let server = Server::start();
    let test = |names: &Names| {
        names.set(Some(FIRST));
        run(async {
            let mut listener = listener(url(&server)).await;
            let handle = listener.handle();
            expect_notification(&mut listener, &server, "at the beginning").await;

            names.set(None);
            let begin = Instant::now();
            // The server is well: only the name is missing.
            server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
            until("attempts have failed", || handle.stats().attempts_failed >= 8).await;
            let (failed, took) = (handle.stats().attempts_failed, begin.elapsed());
            assert_eq!(handle.state(), State::Reconnecting);
            // A pause before each attempt except the first.
            assert!(took >= DELAY_MIN * 7, "{failed} attempts failed in {took:?}");
            let error = handle.last_error().unwrap();
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            let named = format!("{NAME}:{}: ", server.cluster.port());
            assert!(format!("{error:#}").contains(&named), "{error}");
            assert!(format!("{error:#}").contains("lookup"), "{error}");

            names.set(Some(FIRST));
            let gap = expect_reconnect(&mut listener, &server, "after the gap").await;
            assert_eq!(gap.sessions(), 1, "{gap}");
            assert!(u64::from(gap.attempts()) > failed, "{gap}");
            report(&format!("a name that was gone: {failed} attempts failed in {took:?}: {error}"));
            let stats = listener.stats();
            assert_eq!((stats.sessions, stats.sessions_lost, stats.received), (2, 1, 2));
            listener.close().await;
        });
    };
    Names::of_a_thread(test);
}
