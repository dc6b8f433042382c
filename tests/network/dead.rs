//! Connections over a dead network: the failure is noticed in time, reported, and the session replaced when the network is
//! back.

use std::time::{Duration, Instant};

use pgbell::{ChannelState, ErrorKind, Event, Gap, Listener, ListenerBuilder, Listening, State};

use crate::namespaces::{Fault, Network};
use crate::sequence::{Account, CHANNEL, Writer};
use crate::support::{Server, TEST_TIMEOUT, run, until};

const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(500);

/// Twice the timeout is too long, even on a machine that is busy.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(3);

/// TCP must notice a silence of three seconds by itself.
const TCP: &str =
    "keepalives_idle=1 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=3000";

/// TCP checks once a second, and counts the time from the first retransmission. If only the client's packets are lost, the
/// server sends its last bytes again at doubling intervals, and each packet is a sign of life: the first interval that is
/// longer than those three seconds may end after three times as long.
fn noticed_by_tcp(fault: Fault) -> Duration {
    Duration::from_secs(if fault == Fault::RequestsLost { 12 } else { 6 })
}

/// Round trips until TCP has forgotten how long the first one took: after an earlier failure the estimate is seconds.
const SETTLED: u32 = 30;

/// An attempt to connect that began in the dead network may have to end before one succeeds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest time of `close`, with a margin for a busy machine.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(1_000 + 1_500);

/// Prints a measurement: nextest shows it with `--success-output immediate`.
#[expect(clippy::print_stdout, reason = "these tests report measurements")]
pub(crate) fn report(text: &str) {
    println!("{text}");
}

/// A server on the far side, a writer on its machine, and a listener on this side that checks every number.
struct Scene {
    // The server is dropped before its network.
    server: Server,
    network: Network,
}

struct Play<'a> {
    scene: &'a Scene,
    writer: Writer,
    listener: Listener,
    account: Account,
}

impl Scene {
    fn new() -> Self {
        let network = Network::new();
        let server = network.on_server(|| {
            Server::with(|builder| {
                builder
                    .setting("listen_addresses", Network::addresses())
                    .hba("host all all samenet trust")
                    .setting("log_statement", "all")
                    .setting("log_line_prefix", "%p ")
            })
        });
        Self { server, network }
    }

    /// The builder of a listener through the cable.
    fn builder(&self, more: &str) -> ListenerBuilder {
        let (cluster, host) = (&self.server.cluster, Network::host());
        let (port, user) = (cluster.port(), cluster.superuser());
        let timeout = CONNECT_TIMEOUT.as_secs();
        let conninfo = format!(
            "host={host} port={port} user={user} dbname=postgres sslmode=disable connect_timeout={timeout} {more}"
        );
        let builder = Listener::builder(conninfo).channels([CHANNEL]).queue_capacity(500_000);
        builder.backoff(Duration::from_millis(10), Duration::from_millis(200))
    }

    /// Begins with a working network.
    async fn play(&self, builder: ListenerBuilder) -> Play<'_> {
        let cluster = &self.server.cluster;
        let password = cluster.superuser_password();
        // Not through the cable: the writer commits all the time.
        let writer = Writer::start(cluster.socket_url(cluster.superuser(), password, "postgres"));
        let listener = builder.connect().await.unwrap();
        let mut play = Play { scene: self, writer, listener, account: Account::default() };
        play.receive_all().await;
        play
    }
}

impl Play<'_> {
    /// Receives everything that is committed from here on. Returns the gaps before it.
    async fn receive_all(&mut self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        self.writer.wait_for_commits(5).await;
        let last = self.writer.last();
        while self.account.last < last {
            let event = tokio::time::timeout(TEST_TIMEOUT, self.listener.recv()).await;
            let event = event.expect("nothing arrives").unwrap();
            self.account.take(&event);
            if let Event::Gap(gap) = event {
                gaps.push(gap);
            }
        }
        gaps
    }

    /// Waits until TCP has measured the round trip of the network, on which the delay of a retransmission depends.
    async fn settle(&mut self) {
        for _ in 0..SETTLED {
            self.listener.simple_query("SELECT 1").await.unwrap();
        }
    }

    /// The network fails, the failure is noticed in time, and the network is repaired. Then the listener reconnects, with one
    /// gap that covers every number which did not arrive.
    async fn outage(&mut self, fault: Fault, noticed: Duration, cause: ErrorKind) {
        let network = &self.scene.network;
        let (lost, missing) = (self.listener.stats().sessions_lost, self.account.missing);
        let begin = Instant::now();
        network.fail(fault);
        until("it is noticed", || self.listener.stats().sessions_lost > lost).await;
        let took = begin.elapsed();
        assert!(took < noticed, "{fault:?}: {took:?}");
        // These are not received.
        self.writer.wait_for_commits(20).await;
        let begin = Instant::now();
        network.repair(fault);
        let connected = self.listener.handle();
        let connected =
            tokio::time::timeout(TEST_TIMEOUT, connected.wait_state(State::Connected)).await;
        connected.expect("the listener does not reconnect").unwrap();
        let back = begin.elapsed();
        assert!(
            back < CONNECT_TIMEOUT + NOTICE_TIME_MAX,
            "{fault:?}: back {back:?} after the repair"
        );
        let gaps = self.receive_all().await;
        let [gap] = &gaps[..] else { panic!("{fault:?}: {gaps:?}") };
        assert_eq!((gap.cause().kind(), gap.sessions()), (cause, 1), "{fault:?}: {gap}");
        let missing = self.account.missing - missing;
        assert!(missing >= 20, "{fault:?}: {:?}", self.account);
        report(&format!(
            "{fault:?}: noticed after {took:?}, back {back:?} after the repair, {} attempts, {missing} numbers in the \
             gap: {}",
            gap.attempts(),
            gap.cause()
        ));
    }

    async fn end(mut self) {
        let last = self.writer.stop().await;
        self.account.receive_up_to(&mut self.listener, last).await;
        let stats = self.listener.stats();
        assert_eq!((self.account.lagged, self.account.sessions), (0, stats.sessions_lost));
        report(&format!("{:?}, {stats:?}", self.account));
        self.listener.close().await;
    }
}

#[test]
fn h1_the_heartbeat_notices_a_network_that_is_dead_in_one_or_both_directions() {
    let scene = &Scene::new();
    let test = async {
        let mut play = scene.play(scene.builder("").heartbeat(INTERVAL, TIMEOUT)).await;
        for fault in Fault::ALL {
            let process_id = play.listener.process_id();
            let asked = || {
                let statements = scene.server.statements_of(process_id);
                statements.iter().filter(|sql| sql.contains("pg_listening_channels")).count()
            };
            let before = asked();
            play.outage(fault, NOTICE_TIME_MAX, ErrorKind::Timeout).await;
            if fault.reaches_the_server() {
                assert!(asked() > before, "{fault:?}: the server did not receive the query");
            }
        }
        play.end().await;
    };
    scene.network.on_client(|| run(test));
}

/// The default settings of a program.
#[test]
fn h1_a_dead_network_is_noticed_within_twenty_seconds_by_default() {
    let scene = &Scene::new();
    let test = async {
        let mut play = scene.play(scene.builder("")).await;
        play.outage(Fault::AllLost, Duration::from_secs(20), ErrorKind::Timeout).await;
        play.end().await;
    };
    scene.network.on_client(|| run(test));
}

#[test]
fn h1_tcp_alone_notices_a_dead_network_when_the_heartbeat_is_long() {
    let scene = &Scene::new();
    let test = async {
        let long = Duration::from_secs(60);
        let mut play = scene.play(scene.builder(TCP).heartbeat(long, long)).await;
        for fault in Fault::ALL {
            play.settle().await;
            play.outage(fault, noticed_by_tcp(fault), ErrorKind::Connect).await;
        }
        play.end().await;
    };
    scene.network.on_client(|| run(test));
}

/// No heartbeat is sent meanwhile: it would have to wait for the query.
#[test]
fn h1_tcp_alone_notices_a_dead_network_while_a_query_of_the_user_runs() {
    let scene = &Scene::new();
    let test = async {
        let mut play = scene.play(scene.builder(TCP).heartbeat(INTERVAL, TIMEOUT)).await;
        for fault in Fault::ALL {
            play.settle().await;
            let (handle, process_id) = (play.listener.handle(), play.listener.process_id());
            let query =
                tokio::spawn(async move { handle.simple_query("SELECT pg_sleep(600)").await });
            until("the query runs", || {
                let statements = scene.server.statements_of(process_id);
                statements.iter().any(|sql| sql.contains("pg_sleep"))
            })
            .await;
            play.outage(fault, noticed_by_tcp(fault), ErrorKind::Connect).await;
            let error =
                tokio::time::timeout(TEST_TIMEOUT, query).await.unwrap().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        }
        play.end().await;
    };
    scene.network.on_client(|| run(test));
}

/// TCP sends the lost packets again: no loss is visible.
#[test]
fn a_network_that_is_repaired_before_the_deadline_causes_no_loss() {
    let scene = &Scene::new();
    let test = async {
        let mut play = scene.play(scene.builder("").heartbeat(INTERVAL, TEST_TIMEOUT)).await;
        for fault in Fault::ALL {
            scene.network.fail(fault);
            let begin = Instant::now();
            while begin.elapsed() < 2 * INTERVAL {
                play.writer.wait_for_commits(1).await;
            }
            scene.network.repair(fault);
            let gaps = play.receive_all().await;
            assert!(gaps.is_empty(), "{fault:?}: {gaps:?}");
        }
        assert_eq!((play.account.missing, play.listener.stats().sessions), (0, 1));
        play.end().await;
    };
    scene.network.on_client(|| run(test));
}

/// It is not known whether the server has executed it: it is repeated with the next session. A heartbeat would have to wait for
/// it, so TCP notices the failure, or the timeout of 30 s for commands ends the session.
#[test]
fn a_listen_in_a_dead_network_ends_in_time_and_its_channel_stays_wanted() {
    let scene = &Scene::new();
    let test = async {
        let mut play = scene.play(scene.builder(TCP).heartbeat(INTERVAL, TIMEOUT)).await;
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            play.settle().await;
            scene.network.fail(fault);
            let (begin, handle) = (Instant::now(), play.listener.handle());
            let channel = format!("more {index}");
            let listening = tokio::time::timeout(TEST_TIMEOUT, handle.listen(&channel)).await;
            let (listening, took) = (listening.expect("the call hangs").unwrap(), begin.elapsed());
            assert_eq!(listening, Listening::Pending, "{fault:?}");
            assert!(took < noticed_by_tcp(fault), "{fault:?}: {took:?}");
            report(&format!("{fault:?}: a LISTEN ended as pending after {took:?}"));
            scene.network.repair(fault);
            assert_eq!(play.receive_all().await.len(), 1, "{fault:?}");
            let channels = handle.channels().await.unwrap();
            assert_eq!(channels.len(), index + 2);
            for (name, state) in channels {
                assert!(matches!(state, ChannelState::Active), "{fault:?}: {name}: {state:?}");
            }
        }
        play.end().await;
    };
    scene.network.on_client(|| run(test));
}

#[test]
fn close_in_a_dead_network_is_bounded() {
    let scene = &Scene::new();
    let test = async {
        for fault in Fault::ALL {
            let play = scene.play(scene.builder("")).await;
            scene.network.fail(fault);
            let begin = Instant::now();
            play.listener.close().await;
            let took = begin.elapsed();
            assert!(took < CLOSE_TIME_MAX, "{fault:?}: {took:?}");
            report(&format!("{fault:?}: closed after {took:?}"));
            scene.network.repair(fault);
            play.writer.stop().await;
        }
    };
    scene.network.on_client(|| run(test));
}
