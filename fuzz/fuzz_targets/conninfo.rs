//! A parsed connection string prints a text that parses to the same configuration, and its getters agree. The same bytes are
//! parsed as service file and as password file.
#![no_main]

use pgbell::Config;
use pgbell::config::{PassFile, ServiceFile};
use pgbell::proto::Effective;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = format!("{:?}", text.parse::<Config>());
    if let Ok(config) = text.parse::<Config>() {
        check(&config);
    }

    // The first line may be the name of the service.
    let name = text.lines().next().and_then(|line| line.strip_prefix('[')?.split(']').next());
    let file = ServiceFile::new(text.as_bytes());
    if let Ok(Some(service)) = file.service(name.unwrap_or("a")) {
        // Contradictions are found when all parameters are known.
        if service.servers().is_ok() {
            check(&service);
        }
        let filled = Config::new().user("me").with_service(&service);
        assert_eq!(filled.get_user(), Some("me"));
        for key in ["host", "port", "dbname", "sslmode"] {
            assert_eq!(filled.get(key), service.get(key));
        }
    }

    // The last line may be the user of the password.
    let user = text.lines().next_back().and_then(|line| line.split(':').nth(3)).unwrap_or("a");
    let file = PassFile::new(text);
    let servers = "host=a,/tmp,::1 hostaddr=,,0:0::1".parse::<Config>().unwrap().servers().unwrap();
    let found = servers.iter().filter_map(|server| file.password(server, "a", user)).count();
    // A line for all users matches each of them.
    let all_users = PassFile::new(format!("{text}\n*:*:*:*:x"));
    let all = servers.iter().filter_map(|server| all_users.password(server, "a", user)).count();
    assert!(found <= all && all == servers.len());
});

fn check(config: &Config) {
    let shown = config.to_string();
    let again: Config = shown.parse().unwrap();
    assert_eq!(again.to_string(), shown);
    // A configuration that does not contradict the defaults does not contradict itself without them.
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
