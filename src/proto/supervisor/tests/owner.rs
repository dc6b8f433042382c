//! The texts that a user reads name what the supervisor belongs to.

use super::*;

/// The policies of a listener's supervisor and of a hub's, and the word in their texts.
fn owners() -> [(Policy, &'static str, &'static str); 2] {
    let hub = Policy { owner: Owner::Hub, ..lasting() };
    [(lasting(), "listener", "on_live"), (hub, "hub", "on_resync")]
}

#[test]
fn the_answers_at_the_end_name_the_owner() {
    for (policy, owner, _) in owners() {
        let mut driver = TestDriver::up(policy.clone());
        driver.command(query("SELECT 1"));
        driver.command(listen(&["b"]));
        driver.command(Command::Close);
        driver.command(listen(&["c"]));
        driver.event(LinkEvent::Closed);
        let closed = format!("closed: the {owner} is closed");
        let log = driver.take_log();
        assert!(log.contains(&format!("1: {closed}")), "{log:?}");
        assert!(log.contains(&format!("3: {closed}")), "{log:?}");

        let mut driver = TestDriver::up(Policy { reconnect: None, ..policy });
        driver.command(query("SELECT 1"));
        driver.command(listen(&["b"]));
        driver.event(broken());
        let log = driver.take_log();
        let unsent = format!("1: closed: the {owner} has ended before this was sent");
        assert!(log.iter().any(|line| line.starts_with(&unsent)), "{log:?}");
    }
}

#[test]
fn a_hint_to_try_again_names_the_owner() {
    for (policy, owner, _) in owners() {
        let mut driver = TestDriver::new(policy);
        driver.command(Command::QueueUsage);
        let log = driver.take_log().join("");
        assert!(log.contains(&format!("hint: the {owner} reconnects by itself")), "{log}");
    }
}

#[test]
fn the_report_of_a_foreign_transaction_names_the_owner() {
    for (policy, owner, _) in owners() {
        let mut driver = TestDriver::up(policy);
        driver.command(listen(&["b"]));
        driver.read(&[LISTEN, IN_TRANSACTION].concat());
        driver.read(&[SELECT, READY].concat());
        driver.serve();
        let expected = format!("inside a transaction that the {owner} has not begun");
        let is_logged = |event: &LogEvent| match event {
            LogEvent::Lost { error } => error.to_string().contains(&expected),
            _ => false,
        };
        assert!(driver.logged.iter().any(is_logged), "{:?}", driver.logged);
    }
}

#[test]
fn the_timeout_of_the_hook_names_the_function_of_the_owner() {
    for (policy, _, hook) in owners() {
        let mut driver = TestDriver::new(Policy { hook: Some(HOOK), ..policy });
        driver.open();
        driver.serve();
        driver.now += HOOK.timeout;
        driver.input().handle_timeout();
        driver.act();
        driver.event(LinkEvent::Closed);
        let log = driver.take_log().join("\n");
        assert!(log.contains(&format!("the {hook} hook was not done within 30s")), "{log}");
    }
}
