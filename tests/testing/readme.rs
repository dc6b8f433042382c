//! The program of the guide with its hook, against the testing server.

use std::sync::mpsc;
use std::time::Duration;

use pgbell::testing::{Answer, BackendConfig, Server};

/// Long enough for everything that must happen.
const LONG: Duration = Duration::from_secs(60);

/// The program of the chapter `losing_nothing`, word for word but for the address.
#[rustfmt::skip]
#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn program(url: String) -> Result<(), pgbell::Error> {
    use pgbell::{Event, Listener, Live};

    let mut listener = Listener::builder(url)
        .channels(["orders"])
        // At the start and after every gap, before anything is delivered: read the state that notifications change.
        .on_live(|mut connection, live| async move {
            if let Live::AfterGap(gap) = live {
                eprintln!("{gap}");
            }
            let orders = connection.simple_query("SELECT id FROM orders WHERE NOT done").await?;
            println!("{} orders are open", orders[0].len());
            connection.close().await;
            Ok(())
        })
        .connect()
        .await?;
    loop {
        match listener.recv().await? {
            Event::Notification(order) => println!("{}", order.payload()),
            // The hook has read the state again.
            Event::Gap(_) => {}
            // The queue was full: read it here, or give it more room.
            Event::Lagged(lagged) => eprintln!("{lagged}"),
            _ => {}
        }
    }
}

#[test]
fn the_program_of_this_test_is_the_one_of_the_guide() {
    let unindented = |text: &str| -> String {
        text.lines().map(|line| format!("{}\n", line.trim_start())).collect()
    };
    let source = include_str!("readme.rs");
    let start = source.find("    use pgbell::{Event").unwrap();
    let end = start + source[start..].find("\n}\n").unwrap();
    let expected = source[start..end].replace("(url)", "(\"postgres://localhost/shop\")");
    assert!(
        unindented(include_str!("../../src/guide/losing_nothing.md"))
            .contains(&unindented(&expected))
    );
}

#[tokio::test]
async fn the_hook_of_the_guide_runs_against_the_server() {
    let mut server = Server::start(BackendConfig::new()).await.unwrap();
    let (sender, asked) = mpsc::channel();
    server.answer_with(move |query| {
        if query.sql() != "SELECT id FROM orders WHERE NOT done" {
            return None;
        }
        if query.is_executed() {
            sender.send(()).unwrap();
        }
        Some(Answer::rows(["id"]).row(["1"]).row(["2"]))
    });
    let program = tokio::spawn(program(server.url()));
    for round in 1..=2 {
        // The connection of the hook was opened and closed.
        let mut hooks = 0;
        let after_hook = server.wait_until(LONG, |backend| {
            hooks += asked.try_iter().count();
            hooks > 0 && backend.sessions().count() == 1
        });
        after_hook.await.unwrap();
        server.wait_for_listener("orders", LONG).await.unwrap();
        assert_eq!(server.notify("orders", "3").unwrap(), 1);
        assert_eq!(server.count("orders").delivered, round);
        server.restart().await.unwrap();
    }
    // Without an answer the first run of the hook fails, and the program ends.
    server.forget_answers();
    program.abort();
    let error = self::program(server.url()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("0A000"));
}
