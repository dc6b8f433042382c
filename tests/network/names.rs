//! Names that mean something else at the next attempt: what a failover by DNS does.

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

/// Of a domain for tests (RFC 2606).
const NAME: &str = "pgbell.test";

/// Where the servers of the testkit listen, and an address of this machine beside it.
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const DELAY_MIN: Duration = Duration::from_millis(20);
const DELAY_MAX: Duration = Duration::from_millis(100);

/// A directory that any Linux has. Daemons that cache names are found here too.
const OWN: &str = "/run";

/// `/etc/hosts` of one thread and of those that it starts. It stays with that thread.
struct Names {
    files: Cell<u32>,
}

impl Names {
    /// In a mount namespace of a thread of its own. All of it is gone with the last thread and process there.
    fn of_a_thread<T: Send>(run: impl FnOnce(&Self) -> T + Send) -> T {
        let own = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            // Nothing that is mounted here is seen outside.
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            mount(None::<&str>, OWN, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            let names = Self { files: Cell::new(0) };
            // Nobody else is asked.
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

    /// Puts another file in the place of one, at a stroke: who looks finds the one or the other.
    fn cover(&self, path: &str, text: &str) {
        // Each has a name of its own: what is mounted must not be removed, or nothing can be mounted over it.
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
async fn lead_on(listener: TcpListener, port: u16) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut server = TcpStream::connect((FIRST, port)).await.unwrap();
            // A reset is an end like any other.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// The one gap, then what its server sends.
async fn comes_back_to(listener: &mut Listener, server: &Server, text: &str) -> Gap {
    let event =
        tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await.expect("it does not come back");
    let Event::Gap(gap) = event.unwrap() else { panic!("no gap") };
    is_at(listener, server, text).await;
    gap
}

async fn is_at(listener: &mut Listener, server: &Server, text: &str) {
    let port = listener.simple_query("SHOW port").await.unwrap();
    let port = port[0].get(0).unwrap().get(0).unwrap().to_owned();
    assert_eq!(port, server.cluster.port().to_string());
    server.notifier().await.notify("a", text).await.unwrap();
    assert_eq!(next(listener).await.payload_bytes(), text.as_bytes());
}

#[test]
fn r12_a_name_that_has_another_address_leads_the_next_attempt_there() {
    let (first, second) = (Server::start(), Server::start());
    let test = |names: &Names| {
        names.set(Some(FIRST));
        run(async {
            let relay = TcpListener::bind((SECOND, first.cluster.port())).await.unwrap();
            let relay = tokio::spawn(lead_on(relay, second.cluster.port()));
            let mut listener = listener(url(&first)).await;
            let handle = listener.handle();
            is_at(&mut listener, &first, "at the beginning").await;

            // The server dies; some attempts later the name leads to another one.
            tokio::task::block_in_place(|| first.cluster.stop(Mode::Immediate).unwrap());
            until("attempts have failed", || handle.stats().attempts_failed >= 3).await;
            let error = handle.last_error().unwrap();
            let address = format!("{NAME}:{} ({FIRST})", first.cluster.port());
            assert!(format!("{error:#}").contains(&address), "{error}");
            names.set(Some(SECOND));
            let gap = comes_back_to(&mut listener, &second, "after the failover").await;
            assert_eq!(gap.sessions(), 1, "{gap}");
            assert!(gap.attempts() >= 4, "{gap}");
            report(&format!(
                "an address that changed: {} attempts, {}",
                gap.attempts(),
                gap.cause()
            ));

            // The old server is back and gets the name again: whoever has a session keeps it …
            tokio::task::block_in_place(|| first.cluster.start_again().unwrap());
            names.set(Some(FIRST));
            is_at(&mut listener, &second, "the name is away").await;
            // … and who loses it goes where the name leads, though the other server would take him.
            second.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
            let gap = comes_back_to(&mut listener, &first, "after the way back").await;
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
fn a_name_that_is_gone_for_a_while_is_an_attempt_that_fails_and_no_end() {
    let server = Server::start();
    let test = |names: &Names| {
        names.set(Some(FIRST));
        run(async {
            let mut listener = listener(url(&server)).await;
            let handle = listener.handle();
            is_at(&mut listener, &server, "at the beginning").await;

            names.set(None);
            let begin = Instant::now();
            // The server is as well as ever: it is the name that is missing.
            server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
            until("attempts have failed", || handle.stats().attempts_failed >= 8).await;
            let (failed, took) = (handle.stats().attempts_failed, begin.elapsed());
            assert_eq!(handle.state(), State::Reconnecting);
            // A pause before each but the first.
            assert!(took >= DELAY_MIN * 7, "{failed} attempts failed in {took:?}");
            let error = handle.last_error().unwrap();
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            let named = format!("{NAME}:{}: ", server.cluster.port());
            assert!(format!("{error:#}").contains(&named), "{error}");
            assert!(format!("{error:#}").contains("lookup"), "{error}");

            names.set(Some(FIRST));
            let gap = comes_back_to(&mut listener, &server, "after the gap").await;
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
