//! Runs the examples that need no server, and compares what they print.

use std::process::Command;

/// Returns the lines that an example prints.
fn output(example: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--offline", "--all-features", "--example", example])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The channels run at once, so only the lines of one channel have an order.
#[test]
fn the_example_of_handlers_prints_what_each_channel_does() {
    let lines = output("handlers");
    let of = |channel: &str| -> Vec<&str> {
        let parts = lines.iter().filter_map(|line| line.split_once(": "));
        parts.filter(|(name, _)| *name == channel).map(|(_, rest)| rest).collect()
    };
    let orders = [
        "1 is stored",
        "1 is in the log",
        "two is in the log",
        "3 is stored",
        "3 is in the log",
        "4 is stored",
        "4 is in the log",
    ];
    assert_eq!(of("orders"), orders);
    assert_eq!(of("mail"), [1, 2, 3].map(|attempt| format!("attempt {attempt} for welcome")));
    assert_eq!(of("thumbnails"), ["cat.png is done", "dog.png is done"]);
    assert_eq!(of("messages"), ["for ann: hello"]);
    let batches = of("stock").into_iter().map(|line| line.strip_suffix(" in one batch").unwrap());
    let batches: Vec<Vec<&str>> = batches.map(|items| items.split(' ').collect()).collect();
    assert!(batches.iter().all(|items| items.len() <= 4), "{batches:?}");
    assert_eq!(batches.concat(), ["ink", "pen", "pad", "cup", "mug", "bag"]);
    let mut failures = of("failure");
    failures.sort_unstable();
    let expected = [
        "orders: 1 notification was not handled in 3 attempts: invalid digit found in string",
        "thumbnails: 1 notification was not handled in 1 attempt: the handler panicked: letter.txt is no image",
    ];
    assert_eq!(failures, expected);
    assert_eq!(of("loss").len(), 1);
    assert!(of("loss")[0].starts_with("notifications may be missing here"));
    let at = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap();
    assert!(
        at("loss: ") > at("orders: 3 is in the log") && at("loss: ") < at("orders: 4 is stored")
    );
    let end = "15 handled, 0 unhandled, 4 retries, 2 failures, 1 panics, 1 without a handler";
    assert_eq!(of("end"), [end]);
}
