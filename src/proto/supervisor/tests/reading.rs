//! The delay of reads.

use super::*;

const WRITE: usize = 8 * 1024;

impl TestDriver {
    /// Passes in two reads, one soon after the other. Returns whether the next one is delayed.
    fn read_densely(&mut self) -> bool {
        for _ in 0..2 {
            self.now += Duration::from_micros(27);
            let link = self.link;
            self.input().handle_read(link, WRITE, true);
        }
        self.is_delayed()
    }

    fn is_delayed(&self) -> bool {
        self.supervisor.read_until(self.link).is_some()
    }
}

#[test]
fn the_read_after_two_soon_after_each_other_is_delayed() {
    let mut driver = TestDriver::up(lasting());
    assert!(driver.read_densely());
    assert_eq!(driver.supervisor.read_until(driver.link), Some(driver.now + READ_DELAY_MAX));
    // The delay is no deadline of the supervisor.
    assert!(driver.supervisor.poll_timeout().is_none_or(|due| due > driver.now + READ_DELAY_MAX));
    driver.now += READ_DELAY_MAX;
    let link = driver.link;
    driver.input().handle_read_due(link);
    assert!(!driver.is_delayed());
    assert_eq!(driver.supervisor.counters().reads_delayed, 1);
    driver.input().handle_read(link, 20 * WRITE, true);
    assert!(driver.is_delayed());
}

#[test]
fn a_limit_of_zero_delays_nothing() {
    let mut driver = TestDriver::up(Policy { read_delay: Duration::ZERO, ..lasting() });
    assert!(!driver.read_densely());
}

#[test]
fn no_read_is_delayed_before_the_session_is_live() {
    let mut driver = TestDriver::opened(lasting());
    assert!(!driver.read_densely());
    driver.read(PRELUDE);
    // The answer to LISTEN is missing.
    assert!(!driver.read_densely());
    driver.read(&[LISTEN, READY].concat());
    assert!(driver.read_densely());
}

#[test]
fn a_command_ends_the_delay_until_it_is_answered() {
    let mut driver = TestDriver::up(lasting());
    for command in [Command::Listen(vec!["b".into()]), Command::SimpleQuery("SELECT 1".into())] {
        assert!(driver.read_densely());
        driver.command(command);
        assert!(!driver.is_delayed());
        assert!(!driver.read_densely());
        driver.serve();
        assert!(driver.read_densely());
    }
    assert_eq!(driver.supervisor.counters().reads_delayed, 0);
}

#[test]
fn a_heartbeat_ends_the_delay_until_it_is_answered() {
    let interval = Duration::from_secs(10);
    let heartbeat = Heartbeat { interval, timeout: Duration::from_secs(8) };
    let mut driver = TestDriver::up(Policy { heartbeat, ..lasting() });
    assert!(driver.read_densely());
    driver.pass_until_due();
    assert!(!driver.is_delayed());
    assert_eq!(driver.serve(), ["heartbeat"]);
    assert!(driver.read_densely());
}

#[test]
fn no_read_is_delayed_until_a_self_notification_comes_back() {
    let mut driver = self_notification::asked();
    driver.read(&notified());
    assert!(driver.supervisor.common.links.live().unwrap().session().unwrap().is_idle());
    assert!(!driver.read_densely());
    let fence = driver.fence();
    driver.read(&fence);
    assert!(driver.read_densely());
}

#[test]
fn no_read_is_delayed_in_a_handover() {
    let mut driver = TestDriver::up(lasting());
    driver.supervisor.sink.capacity = 100;
    assert!(driver.read_densely());
    driver.command(Command::Rotate);
    for link in [1, 2] {
        assert!(!driver.on(link).read_densely());
    }
    driver.on(2).open();
    driver.on(1).serve();
    driver.on(2).serve();
    assert_eq!(driver.serve(), ["notify"]);
    for link in [1, 2] {
        assert!(!driver.on(link).read_densely());
    }
    let fence = driver.fence();
    driver.on(1).read(&fence);
    // The new session is the current one, and its notifications up to the fence are discarded.
    for link in [1, 2] {
        assert!(!driver.on(link).read_densely());
    }
    driver.on(2).read(&fence);
    driver.serve();
    assert!(driver.on(2).read_densely());
    assert!(!driver.on(1).read_densely());
}

#[test]
fn no_read_is_delayed_while_the_listener_closes_or_drains() {
    for command in [Command::Close, Command::Drain { timeout: Duration::from_secs(1) }] {
        let mut driver = TestDriver::up(lasting());
        assert!(driver.read_densely());
        driver.command(command);
        assert!(!driver.is_delayed());
        assert!(!driver.read_densely());
    }
}

/// A stalled socket is not read. When there is room again, it is read at once.
#[test]
fn a_stall_ends_the_delay() {
    let overflow = Overflow::Block { max_stall: Duration::from_secs(1) };
    let mut driver = TestDriver::up(Policy { overflow, ..lasting() });
    assert!(driver.read_densely());
    driver.read(&A1.repeat(6));
    assert!(!driver.is_delayed());
}
