//! A proxy does to a connection what its handle says, and nothing else.

mod common;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{Session, trusting, until};
use pgbell_testkit::{Cut, Direction, Flow, Proxy};

const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

/// A listening socket behind a proxy.
struct Network {
    server: TcpListener,
    proxy: Proxy,
}

impl Network {
    fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(server.local_addr().unwrap().port()).unwrap();
        Self { server, proxy }
    }

    fn client(&self) -> TcpStream {
        with_timeout(TcpStream::connect(("127.0.0.1", self.proxy.port())).unwrap())
    }

    fn accept(&self) -> TcpStream {
        with_timeout(self.server.accept().unwrap().0)
    }

    /// Returns both ends of a connection.
    fn ends(&self) -> (TcpStream, TcpStream) {
        let client = self.client();
        (client, self.accept())
    }
}

fn with_timeout(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn receive(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Returns the rest of a stream, and how it ends.
fn rest(mut stream: &TcpStream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut bytes = Vec::new();
    let outcome = stream.read_to_end(&mut bytes);
    (bytes, outcome.map(|_| ()).map_err(|cause| cause.kind()))
}

/// Returns whether nothing arrives for a moment. On a slow machine it may be true too often, never too seldom.
fn is_silent(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    read.is_err_and(|cause| matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn bytes_pass_in_both_directions_and_each_direction_ends_by_itself() {
    let network = Network::new();
    let (mut client, mut server) = network.ends();
    let long: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sent = long.clone();
    let writer = thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    assert_eq!(rest(&server), (long, Ok(())));
    let client = writer.join().unwrap();
    server.write_all(b"answer").unwrap();
    assert_eq!(receive(&client, 6), b"answer");
    let handle = network.proxy.handle();
    assert_eq!(BOTH.map(|way| handle.forwarded(way)), [1_000_000, 6]);
    assert_eq!(BOTH.map(|way| handle.swallowed(way)), [0, 0]);
    assert_eq!((handle.connections(), handle.accepted()), (1, 1));
    drop(server);
    assert_eq!(rest(&client), (Vec::new(), Ok(())));
    until("the connection is over", || handle.connections() == 0);
}

#[test]
fn a_cut_is_the_end_of_the_stream_or_a_reset_on_both_sides() {
    let network = Network::new();
    let handle = network.proxy.handle();
    for (cut, end) in [(Cut::Fin, Ok(())), (Cut::Reset, Err(ErrorKind::ConnectionReset))] {
        let pairs = [network.ends(), network.ends()];
        for (client, server) in &pairs {
            // All bytes have passed: the cut finds none in transit.
            (&mut &*client).write_all(b"x").unwrap();
            assert_eq!(receive(server, 1), b"x");
        }
        assert_eq!(handle.cut(cut).unwrap(), 2);
        assert_eq!(handle.connections(), 0);
        for (client, server) in &pairs {
            assert_eq!(rest(client), (Vec::new(), end), "{cut:?}");
            assert_eq!(rest(server), (Vec::new(), end), "{cut:?}");
        }
    }
    assert_eq!(handle.cut(Cut::Fin).unwrap(), 0);
}

#[test]
fn a_reset_of_one_side_is_a_reset_of_the_other() {
    let network = Network::new();
    let (client, server) = network.ends();
    (&client).write_all(b"unread").unwrap();
    until("it is there", || server.peek(&mut [0; 6]).unwrap() == 6);
    // A close with unread bytes is a reset.
    drop(server);
    assert_eq!(rest(&client).1, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_cut_can_come_after_an_exact_number_of_bytes() {
    let network = Network::new();
    let handle = network.proxy.handle();
    for count in [0, 1, 5, 10] {
        let (client, mut server) = network.ends();
        handle.cut_after(Direction::ToClient, count, Cut::Fin);
        (&client).write_all(b"the other way").unwrap();
        assert_eq!(receive(&server, 13), b"the other way");
        server.write_all(b"0123456789").unwrap();
        let expect = b"0123456789"[..usize::try_from(count).unwrap()].to_vec();
        assert_eq!(rest(&client), (expect, Ok(())), "{count}");
    }
    // The cut happens only once.
    let (client, mut server) = network.ends();
    server.write_all(b"0123456789").unwrap();
    assert_eq!(receive(&client, 10), b"0123456789");
    assert_eq!(handle.forwarded(Direction::ToClient), 1 + 5 + 10 + 10);
}

#[test]
fn a_delay_applies_to_one_direction_and_ends_at_once() {
    let network = Network::new();
    let handle = network.proxy.handle();
    let (mut client, mut server) = network.ends();
    let delay = Duration::from_millis(80);
    handle.set(Direction::ToServer, Flow::Delay(delay));
    let begin = Instant::now();
    client.write_all(b"there").unwrap();
    assert_eq!(receive(&server, 5), b"there");
    assert!(begin.elapsed() >= delay, "{:?}", begin.elapsed());

    handle.set_both(Flow::Delay(Duration::from_secs(3600)));
    server.write_all(b"back").unwrap();
    client.write_all(b"again").unwrap();
    assert!(is_silent(&client) && is_silent(&server));
    handle.set_both(Flow::Forward);
    assert_eq!((receive(&client, 4), receive(&server, 5)), (b"back".to_vec(), b"again".to_vec()));
    // A delayed connection can be cut too.
    handle.set_both(Flow::Delay(Duration::from_secs(3600)));
    client.write_all(b"never").unwrap();
    assert!(is_silent(&server));
    assert_eq!(handle.cut(Cut::Fin).unwrap(), 1);
    assert_eq!(rest(&server), (Vec::new(), Ok(())));
}

/// A timeout of a socket ends up to two ticks of the kernel late. That would be several times this delay.
#[test]
fn a_short_delay_is_not_lengthened_to_the_next_tick() {
    let network = Network::new();
    let (mut client, server) = network.ends();
    let delay = Duration::from_millis(2);
    network.proxy.handle().set(Direction::ToServer, Flow::Delay(delay));
    let mut shortest = Duration::MAX;
    for byte in 0..50 {
        let begin = Instant::now();
        client.write_all(&[byte]).unwrap();
        assert_eq!(receive(&server, 1), [byte]);
        let took = begin.elapsed();
        assert!(took >= delay, "{took:?}");
        shortest = shortest.min(took);
    }
    assert!(shortest < 2 * delay, "{shortest:?}");
}

#[test]
fn a_delay_does_not_limit_the_throughput() {
    let network = Network::new();
    let (mut client, server) = network.ends();
    let delay = Duration::from_millis(400);
    network.proxy.handle().set(Direction::ToServer, Flow::Delay(delay));
    let begin = Instant::now();
    // Many small writes in sequence, and one that is larger than a single read.
    for byte in 0..20 {
        client.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    client.write_all(&[7; 1_000_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let sent = begin.elapsed();
    assert_eq!(receive(&server, 1), [0]);
    assert!(begin.elapsed() >= delay, "{:?}", begin.elapsed());
    let (bytes, end) = rest(&server);
    let took = begin.elapsed();
    assert!(bytes[..19].iter().copied().eq(1..20) && bytes[19..].iter().all(|byte| *byte == 7));
    assert_eq!((bytes.len(), end), (19 + 1_000_000, Ok(())));
    assert!(took >= sent + delay / 2 && took < sent + 2 * delay, "sent {sent:?}, there {took:?}");
}

/// Otherwise the proxy would need as much memory as the sender.
#[test]
fn a_delayed_direction_keeps_no_more_bytes_than_its_limit() {
    let network = Network::new();
    let handle = network.proxy.handle();
    let (mut client, server) = network.ends();
    handle.set(Direction::ToServer, Flow::Delay(Duration::from_secs(3600)));
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0_usize;
    let blocked = loop {
        assert!(sent < 64 * 1024 * 1024, "it takes everything");
        match client.write(&[7; 65_536]) {
            Ok(count) => sent += count,
            Err(cause) => break cause.kind(),
        }
    };
    assert!(matches!(blocked, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{blocked:?}");
    assert!(sent > 4 * 1024 * 1024, "{sent}");
    assert!(is_silent(&server));
    handle.set(Direction::ToServer, Flow::Forward);
    client.shutdown(Shutdown::Write).unwrap();
    let (bytes, end) = rest(&server);
    assert_eq!((bytes.len(), end), (sent, Ok(())));
}

#[test]
fn held_bytes_block_the_sender_and_arrive_later() {
    let network = Network::new();
    let handle = network.proxy.handle();
    let (mut client, server) = network.ends();
    handle.set(Direction::ToServer, Flow::Hold);
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut sent = 0_u64;
    let blocked = loop {
        match client.write(&[7; 65_536]) {
            Ok(count) => sent += u64::try_from(count).unwrap(),
            Err(cause) => break cause.kind(),
        }
    };
    assert!(matches!(blocked, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{blocked:?}");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(is_silent(&server));
    // The other direction is not affected.
    (&server).write_all(b"free").unwrap();
    assert_eq!(receive(&client, 4), b"free");
    handle.set(Direction::ToServer, Flow::Forward);
    let (bytes, end) = rest(&server);
    assert_eq!((u64::try_from(bytes.len()).unwrap(), end), (sent, Ok(())));
    assert_eq!(handle.forwarded(Direction::ToServer), sent);

    // A connection that begins while bytes are held reaches the server later.
    handle.set(Direction::ToServer, Flow::Hold);
    let mut client = network.client();
    client.write_all(b"early").unwrap();
    network.server.set_nonblocking(true).unwrap();
    assert_eq!(network.server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    network.server.set_nonblocking(false).unwrap();
    handle.set(Direction::ToServer, Flow::Forward);
    assert_eq!(receive(&network.accept(), 5), b"early");
}

#[test]
fn a_connection_with_swallowed_bytes_is_silent_and_never_recovers() {
    let network = Network::new();
    let handle = network.proxy.handle();
    let (mut client, server) = network.ends();
    handle.set_both(Flow::Swallow);
    for _ in 0..10 {
        client.write_all(&[1; 65_536]).unwrap();
    }
    until("the bytes are lost", || handle.swallowed(Direction::ToServer) == 655_360);
    // Not even the end of the server is visible.
    drop(server);
    assert!(is_silent(&client));
    assert_eq!(handle.forwarded(Direction::ToServer), 0);
    handle.set_both(Flow::Forward);
    assert_eq!(rest(&client).1, Err(ErrorKind::ConnectionReset));

    // First one direction. Then a reset at the next byte, as from a router that has lost the connection.
    let (mut client, mut server) = network.ends();
    handle.set(Direction::ToClient, Flow::Swallow);
    client.write_all(b"asked").unwrap();
    assert_eq!(receive(&server, 5), b"asked");
    server.write_all(b"answer").unwrap();
    until("the bytes are lost", || handle.swallowed(Direction::ToClient) == 6);
    handle.set(Direction::ToClient, Flow::Forward);
    assert!(is_silent(&client));
    client.write_all(b"still there?").unwrap();
    assert_eq!(rest(&client).1, Err(ErrorKind::ConnectionReset));

    // A client that connects now finds a host that accepts and does not answer.
    handle.set_both(Flow::Swallow);
    let mut client = network.client();
    client.write_all(b"hello").unwrap();
    until("the bytes are lost", || handle.swallowed(Direction::ToServer) == 655_365);
    assert!(is_silent(&client));
    network.server.set_nonblocking(true).unwrap();
    assert_eq!(network.server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    network.server.set_nonblocking(false).unwrap();
    assert_eq!(handle.cut(Cut::Fin).unwrap(), 1);
    assert_eq!(rest(&client), (Vec::new(), Ok(())));
    handle.set_both(Flow::Forward);
    let (mut client, server) = network.ends();
    client.write_all(b"well").unwrap();
    assert_eq!(receive(&server, 4), b"well");
}

#[test]
fn a_proxy_can_refuse_clients_and_change_its_server() {
    let network = Network::new();
    let handle = network.proxy.handle();
    let connect = || TcpStream::connect(("127.0.0.1", network.proxy.port()));
    let (mut client, server) = network.ends();
    for _ in 0..3 {
        handle.refuse().unwrap();
        handle.refuse().unwrap();
        assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
        client.write_all(b"here").unwrap();
        assert_eq!(receive(&server, 4), b"here");
        handle.accept().unwrap();
        handle.accept().unwrap();
        let (mut client, server) = network.ends();
        client.write_all(b"new").unwrap();
        assert_eq!(receive(&server, 3), b"new");
    }
    assert_eq!(handle.accepted(), 4);

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    handle.retarget(other.local_addr().unwrap().port());
    let moved = with_timeout(connect().unwrap());
    let (mut served, _) = other.accept().unwrap();
    served.write_all(b"other").unwrap();
    assert_eq!(receive(&moved, 5), b"other");
    client.write_all(b"here").unwrap();
    assert_eq!(receive(&server, 4), b"here");

    // A server that does not exist.
    drop(other);
    assert_eq!(rest(&with_timeout(connect().unwrap())).1, Err(ErrorKind::ConnectionReset));
}

#[test]
fn connections_beyond_the_limit_are_reset() {
    let network = Network::new();
    let pairs: Vec<_> = (0..256).map(|_| network.ends()).collect();
    let refused = network.client();
    assert_eq!(rest(&refused).1, Err(ErrorKind::ConnectionReset));
    assert_eq!(network.proxy.handle().connections(), 256);
    (&pairs[255].0).write_all(b"last").unwrap();
    assert_eq!(receive(&pairs[255].1, 4), b"last");
}

/// Returns the number of threads of a proxy in this process.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let name = |path: std::path::PathBuf| fs::read_to_string(path.join("comm")).unwrap_or_default();
    tasks.filter(|task| name(task.path()).starts_with("tcp-proxy")).count()
}

/// The test counts the threads of its process, so it runs in a process of its own.
#[test]
fn a_dropped_proxy_leaves_no_thread_and_no_connection() {
    const ALONE: &str = "PGBELL_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "a_dropped_proxy_leaves_no_thread_and_no_connection"]);
        assert!(again.env(ALONE, "1").status().unwrap().success());
        return;
    }
    let ways: [fn(&Proxy); 4] = [
        |_| {},
        |proxy| proxy.handle().set_both(Flow::Hold),
        |proxy| proxy.handle().set_both(Flow::Swallow),
        |proxy| proxy.handle().refuse().unwrap(),
    ];
    for way in ways {
        let network = Network::new();
        let (client, server) = network.ends();
        let held = network.client();
        until("all threads are there", || threads() == 5);
        way(&network.proxy);
        let (handle, port) = (network.proxy.handle().clone(), network.proxy.port());
        drop(network.proxy);
        until("the threads are gone", || threads() == 0);
        for end in [&client, &server, &held] {
            assert_eq!(rest(end).1, Err(ErrorKind::ConnectionReset));
        }
        let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // The handle of a dropped proxy has no effect.
        handle.set_both(Flow::Forward);
        handle.accept().unwrap();
        handle.refuse().unwrap();
        assert_eq!(handle.cut(Cut::Reset).unwrap(), 0);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

#[test]
fn a_connection_with_a_blocked_write_can_be_cut() {
    let network = Network::new();
    let handle = network.proxy.handle();
    for cut in [Cut::Fin, Cut::Reset] {
        let (mut client, server) = network.ends();
        // The server reads nothing: the proxy's own write blocks.
        client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        while client.write(&[7; 65_536]).is_ok() {}
        let before = handle.forwarded(Direction::ToServer);
        assert_eq!(handle.cut(cut).unwrap(), 1);
        assert_eq!(handle.connections(), 0);
        if cut == Cut::Fin {
            // Bytes that could not be written are not counted.
            let received = u64::try_from(rest(&server).0.len()).unwrap();
            assert_eq!(handle.forwarded(Direction::ToServer), received);
            assert!(received <= before);
        }
    }
}

/// The same with a real server: a session that is cut, one that waits, a server that moves.
#[test]
fn a_session_goes_through_a_proxy_and_follows_it_to_the_new_primary() {
    let primary = trusting().start().unwrap();
    let standby = primary.standby().unwrap();
    let proxy = Proxy::start(primary.port()).unwrap();
    let handle = proxy.handle();
    let at = "SELECT current_setting('port')";
    let open = || Session::open_at(proxy.port());
    let mut session = open().unwrap();
    assert_eq!(session.ask(at).unwrap(), [primary.port().to_string()]);
    assert!(proxy.url("a b", None, "c").starts_with("postgresql://a%20b@127.0.0.1:"));
    let before = handle.forwarded(Direction::ToClient);
    assert!(before > 100);

    handle.cut(Cut::Reset).unwrap();
    let refused: io::Result<_> = session.ask(at);
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ));
    let mut session = open().unwrap();
    handle.cut_after(Direction::ToClient, 3, Cut::Fin);
    assert_eq!(session.ask(at).unwrap_err().kind(), ErrorKind::UnexpectedEof);

    primary.kill_postmaster().unwrap();
    assert!(open().is_err());
    standby.promote().unwrap();
    handle.retarget(standby.port());
    assert_eq!(open().unwrap().ask(at).unwrap(), [standby.port().to_string()]);
}
