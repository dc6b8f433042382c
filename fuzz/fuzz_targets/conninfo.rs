//! What is read of a connection string is shown so that it reads the same.
#![no_main]

use pgbell::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = format!("{:?}", text.parse::<Config>());
    if let Ok(config) = text.parse::<Config>() {
        let shown = config.to_string();
        let again: Config = shown.parse().unwrap();
        assert_eq!(again.to_string(), shown);
    }
});
