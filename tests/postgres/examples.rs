//! The examples that need a server.

use crate::cargo::cargo_example;
use crate::support::Server;

/// Runs an example with a server, and returns what it prints.
pub(crate) fn example_output(server: &Server, example: &str) -> String {
    cargo_example("run", example, &server.url())
}

/// Returns the numbers between these words, sorted. Each of them is in one line.
pub(crate) fn numbers(text: &str, before: &str, after: &str) -> Vec<u32> {
    let number = |line: &str| line.split_once(before)?.1.strip_suffix(after)?.parse().ok();
    let mut numbers: Vec<u32> = text.lines().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// P2, P3, P4, P10: a queue of 256, notifications with channel and payload, state and statistics.
#[test]
fn the_example_of_pgorms_listener_prints_what_its_guide_prints() {
    let expected = "channel=orders_changed payload=1\n\
                    channel=orders_changed payload=2\n\
                    channel=orders_changed payload=3\n\
                    state=Connected\n\
                    sessions_lost=0, dropped=0\n";
    assert_eq!(example_output(&Server::start(), "pgorm_listener"), expected);
}

/// S2, S4, S5, S7, S11: every notification once and in order, before, during and after a query of the session, and none is left.
#[test]
fn the_example_of_sqlxs_listener_loses_nothing_during_its_query_and_at_its_end() {
    let text = example_output(&Server::start(), "sqlx_listener");
    let (mut received, mut of_the_stream) = (Vec::new(), 0);
    for line in text.lines() {
        if let Some((from, rest)) = line.split_once("]: ") {
            let (channel, payload) = rest.split_once(' ').unwrap();
            let number =
                payload.strip_prefix("{\"payload\" : ").unwrap().strip_suffix('}').unwrap();
            let number: u32 = number.parse().unwrap();
            assert_eq!(channel, format!("chan{}", number % 3), "{line}");
            of_the_stream += u32::from(from == "[from stream");
            received.push(number);
        }
    }
    let count = u32::try_from(received.len()).unwrap();
    assert!(received.iter().copied().eq(0..count), "{text}");
    assert!(of_the_stream >= 3, "{text}");
    assert!(!text.contains("during the query: 0\n"), "{text}");
    assert!(text.ends_with(", not delivered: 0\n"), "{text}");
}

/// G1, G4, G6: a job that is rolled back does not exist, and one that is not completed is read again. A notification names a row.
#[test]
fn the_example_of_jobs_and_state_does_each_committed_job_and_reads_the_changed_row() {
    let expected = "job 1: done in attempt 1\n\
                    job 3: attempt 1 is not completed\n\
                    job 3: done in attempt 2\n\
                    orders: 2\n\
                    order 456: shipped\n";
    assert_eq!(example_output(&Server::start(), "jobs_and_state"), expected);
}

/// D1, D2, D3: notifications of a thread, a task and a transaction, on two channels that the scope leaves.
#[test]
fn the_example_of_a_scope_receives_what_is_committed_and_leaves_no_channel() {
    let expected = "orders (of a notifier): {\"id\": 42}\n\
                    orders (of a notifier): {\"id\": 43}\n\
                    cancellations (of the transaction): {\"end\": \"COMMIT\"}\n\
                    channels after the scope: 0\n";
    let text = example_output(&Server::start(), "scoped_listen");
    let error = text.strip_prefix(expected).unwrap_or_else(|| panic!("{text}"));
    assert!(error.starts_with("no channel: "), "{text}");
}
