//! Runtimes without timers or sockets: the call that connects panics with tokio's message, and no task panics later.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgbell::{Connection, Listener, Notifier};
use tokio::runtime::Builder;

use crate::support::server;

/// Connects in each of the three ways. Returns the message of each panic.
fn panics(builder: &mut Builder, url: &str) -> Vec<String> {
    let connect = |way: usize| {
        let runtime = builder.build().unwrap();
        let connected = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                match way {
                    0 => drop(Connection::connect(url).await),
                    1 => drop(Listener::connect(url).await),
                    _ => drop(Notifier::connect(url).await),
                }
            });
        }));
        let panic = connected.expect_err("it did not panic");
        // The runtime has no task of the client.
        assert_eq!(runtime.metrics().num_alive_tasks(), 0);
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap()
    };
    (0..3).map(connect).collect()
}

#[test]
fn a_runtime_without_timers_is_a_panic_of_the_call_that_connects() {
    let full = Builder::new_current_thread().enable_all().build().unwrap();
    let server = full.block_on(server());
    for message in panics(Builder::new_current_thread().enable_io(), &server.url()) {
        assert!(message.contains("timers are disabled. Call `enable_time`"), "{message}");
    }
}

#[test]
fn a_runtime_without_io_is_a_panic_of_the_call_that_connects() {
    let full = Builder::new_current_thread().enable_all().build().unwrap();
    let server = full.block_on(server());
    for message in panics(Builder::new_current_thread().enable_time(), &server.url()) {
        assert!(message.contains("IO is disabled. Call `enable_io`"), "{message}");
    }
}
