//! H6. A process that is stopped for longer than its heartbeat allows, as on a laptop that sleeps.
//!
//! Each test runs itself once more as that process: a listener that prints its events on standard error.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pgbell::{Event, Listener, Notifier, State};
use pgbell_testkit::{Direction, Flow, Proxy, Signal};

use crate::support::{Server, TEST_TIMEOUT, run, until};

const EVERY: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(1);

/// The time in which the process is stopped: longer than the heartbeat allows.
const SUSPENDED: Duration = Duration::from_secs(5);

/// The limit after the process continues. With a whole interval more the heartbeat would have waited for its next turn.
const NOTICED: Duration = Duration::from_secs(2);

/// The environment variable with the server's URL for the process that is to be stopped.
const URL: &str = "PGBELL_SUSPENDED";

/// Runs the other process, if this is it.
fn run_as_process() -> bool {
    let Ok(url) = std::env::var(URL) else { return false };
    run(async {
        let builder = Listener::builder(url).channels(["a"]).heartbeat(EVERY, DEADLINE);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(100));
        let mut listener = builder.connect().await.unwrap();
        report_line(&format!("listens as {}", listener.process_id().unwrap()));
        let handle = listener.handle();
        tokio::spawn(async move {
            if handle.wait_state(State::Reconnecting).await.is_ok() {
                report_line("lost");
            }
        });
        loop {
            match listener.recv().await.unwrap() {
                Event::Notification(notification) if notification.payload() == "end" => break,
                Event::Notification(notification) => report_line(notification.payload()),
                Event::Gap(gap) => {
                    report_line(&format!("gap {:?} of {}", gap.cause().kind(), gap.sessions()));
                }
                other => report_line(&format!("{other:?}")),
            }
        }
        // A false alarm would come with the next heartbeat, or the one after it.
        let before = listener.stats().heartbeats;
        until("two more heartbeats", || listener.stats().heartbeats > before + 1).await;
        let stats = listener.stats();
        report_line(&format!("sessions {} gaps {}", stats.sessions, stats.gaps));
    });
    true
}

/// Standard output contains the output of the test harness.
#[expect(clippy::print_stderr, reason = "what the other process reads")]
fn report_line(line: &str) {
    eprintln!("{line}");
}

/// The other process. It is killed when this value is dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
    /// The process id of its server process.
    process_id: i32,
}

impl Process {
    fn start(test: &str, url: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("chaos::suspended::{test}"), "--exact", "--nocapture"]);
        command.env(URL, url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut process = Self { child, lines, process_id: 0 };
        let line = process.line();
        process.process_id = line.strip_prefix("listens as ").expect(&line).parse().unwrap();
        process
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(TEST_TIMEOUT).expect("the process prints nothing")
    }

    /// Stops the process until `wake`.
    fn stop(&self) {
        Signal::Stop.send(self.child.id()).unwrap();
    }

    fn wake(&self) -> Instant {
        let begin = Instant::now();
        Signal::Cont.send(self.child.id()).unwrap();
        begin
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Commits numbers as long as the process is to be stopped.
async fn write_meanwhile(writer: &mut Notifier) -> u32 {
    let (begin, mut number) = (Instant::now(), 0);
    while begin.elapsed() < SUSPENDED {
        number += 1;
        writer.notify("a", &number.to_string()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    number
}

/// Checks that it receives what was committed while it was stopped, without a loss.
async fn receives_without_a_loss(process: &Process, writer: &mut Notifier, last: u32) {
    for number in 1..=last {
        assert_eq!(process.line(), number.to_string());
    }
    writer.notify("a", "end").await.unwrap();
    assert_eq!(process.line(), "sessions 1 gaps 0");
}

#[test]
fn a_process_that_was_suspended_while_its_session_lived_misses_nothing() {
    if run_as_process() {
        return;
    }
    let server = Server::start();
    run(async {
        let test = "a_process_that_was_suspended_while_its_session_lived_misses_nothing";
        let process = Process::start(test, &server.url());
        let mut writer = server.notifier().await;
        process.stop();
        let last = write_meanwhile(&mut writer).await;
        process.wake();
        receives_without_a_loss(&process, &mut writer, last).await;
    });
}

/// The answer arrived while the process could not read it: its deadline has passed long ago.
#[test]
fn a_process_that_was_suspended_before_a_heartbeat_answer_accepts_it_later() {
    if run_as_process() {
        return;
    }
    let server = Server::start();
    let proxy = proxy(&server);
    run(async {
        let test = "a_process_that_was_suspended_before_a_heartbeat_answer_accepts_it_later";
        let process = Process::start(test, &url(&server, &proxy));
        let mut writer = server.notifier().await;
        let network = proxy.handle();
        network.set(Direction::ToClient, Flow::Hold);
        let before = network.forwarded(Direction::ToServer);
        until("it sends a heartbeat", || network.forwarded(Direction::ToServer) > before).await;
        process.stop();
        network.set(Direction::ToClient, Flow::Forward);
        let last = write_meanwhile(&mut writer).await;
        process.wake();
        receives_without_a_loss(&process, &mut writer, last).await;
    });
}

#[test]
fn a_process_that_was_suspended_while_its_backend_ended_reports_it_at_once() {
    if run_as_process() {
        return;
    }
    let server = Server::start();
    run(async {
        let test = "a_process_that_was_suspended_while_its_backend_ended_reports_it_at_once";
        let process = Process::start(test, &server.url());
        let mut writer = server.notifier().await;
        process.stop();
        server.cluster.terminate_backend(process.process_id).unwrap();
        write_meanwhile(&mut writer).await;
        let begin = process.wake();
        reconnects(&process, &mut writer, "gap Server of 1").await;
        report!("terminated: back {:?} after it continued", begin.elapsed());
        assert!(begin.elapsed() < NOTICED, "{:?}", begin.elapsed());
    });
}

#[test]
fn a_process_that_was_suspended_while_its_network_failed_sends_a_heartbeat_at_once() {
    if run_as_process() {
        return;
    }
    let server = Server::start();
    run(async {
        let test =
            "a_process_that_was_suspended_while_its_network_failed_sends_a_heartbeat_at_once";
        // Stopped while idle, or during a heartbeat.
        for during_heartbeat in [false, true] {
            let proxy = proxy(&server);
            let process = Process::start(test, &url(&server, &proxy));
            let mut writer = server.notifier().await;
            let network = proxy.handle();
            if during_heartbeat {
                network.set_both(Flow::Swallow);
                until("it sends a heartbeat", || network.swallowed(Direction::ToServer) > 0).await;
                process.stop();
            } else {
                process.stop();
                network.set_both(Flow::Swallow);
            }
            write_meanwhile(&mut writer).await;
            let begin = process.wake();
            assert_eq!(process.line(), "lost");
            let took = begin.elapsed();
            report!(
                "half-open, during a heartbeat: {during_heartbeat}: noticed {took:?} after it continued"
            );
            assert!(
                (DEADLINE..NOTICED).contains(&took),
                "during a heartbeat: {during_heartbeat}: {took:?}"
            );
            network.set_both(Flow::Forward);
            reconnects(&process, &mut writer, "gap Timeout of 1").await;
        }
    });
}

/// Checks that it reconnects with one gap, and delivers nothing of what it missed.
async fn reconnects(process: &Process, writer: &mut Notifier, gap: &str) {
    let mut line = process.line();
    if line == "lost" {
        line = process.line();
    }
    assert_eq!(line, gap);
    writer.notify("a", "received").await.unwrap();
    let mut line = process.line();
    if line == "lost" {
        line = process.line();
    }
    assert_eq!(line, "received");
}

fn proxy(server: &Server) -> Proxy {
    Proxy::start(server.cluster.port()).unwrap()
}

fn url(server: &Server, proxy: &Proxy) -> String {
    let cluster = &server.cluster;
    proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres")
}
