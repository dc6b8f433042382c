//! What is read of a connection string is shown so that it reads the same, and what it says of its
//! values agrees. Service and password files are read from the same bytes.
#![no_main]

use pgbell::Config;
use pgbell::config::{PassFile, ServiceFile};
use pgbell::proto::Effective;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = format!("{:?}", text.parse::<Config>());
    if let Ok(config) = text.parse::<Config>() {
        check(&config);
    }

    // The first line may name the service that is looked for.
    let name = text.lines().next().and_then(|line| line.strip_prefix('[')?.split(']').next());
    let file = ServiceFile::new(text.as_bytes());
    if let Ok(Some(service)) = file.service(name.unwrap_or("a")) {
        // One that contradicts itself is found out when everything is together.
        if service.servers().is_ok() {
            check(&service);
        }
        let filled = Config::new().user("me").with_service(&service);
        assert_eq!(filled.get_user(), Some("me"));
        for key in ["host", "port", "dbname", "sslmode"] {
            assert_eq!(filled.get(key), service.get(key));
        }
    }

    // The last line may have the user who is looked for.
    let user = text.lines().next_back().and_then(|line| line.split(':').nth(3)).unwrap_or("a");
    let file = PassFile::new(text);
    let servers = "host=a,/tmp,::1 hostaddr=,,0:0::1".parse::<Config>().unwrap().servers().unwrap();
    let found = servers.iter().filter_map(|server| file.password(server, "a", user)).count();
    // A line for everybody is one for each of them.
    let everybody = PassFile::new(format!("{text}\n*:*:*:*:x"));
    let all = servers.iter().filter_map(|server| everybody.password(server, "a", user)).count();
    assert!(found <= all && all == servers.len());
});

fn check(config: &Config) {
    let shown = config.to_string();
    let again: Config = shown.parse().unwrap();
    assert_eq!(again.to_string(), shown);
    // What is not contradictory with the defaults is not without them either.
    if config.check_complete().is_ok() {
        config.check().unwrap();
        assert!(!config.servers().unwrap().is_empty());
    }
    assert!(!Effective::of(config).connect_timeout().is_zero());
    assert!(
        Effective::of(config).min_protocol_version()
            <= Effective::of(config).max_protocol_version()
    );
    if config.get("require_auth").is_some() {
        config.get_require_auth().unwrap();
    }
}
