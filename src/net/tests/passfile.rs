//! Password files, compared with libpq.

use super::*;
use crate::net::password::password;

const CASES: usize = 2_000;

fn file(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(9) {
        if random.once_in(8) {
            text +=
                random.pick(&["#srv:*:*:*:no\n", " # no\n", "\n", "srv\n", ":::\n", "\u{feff}"]);
        }
        for field in [
            &[
                "srv",
                "*",
                "*",
                "localhost",
                "::1",
                r"\:\:1",
                "127.0.0.1",
                "/run/x",
                r"s\rv",
                "",
                "**",
                "0:0::1",
            ][..],
            &["1", "2", "*", "*", "*", "01", ""],
            &["shop", r"d\:b", "*", "*", "ann", r"d\\:b", ""],
            &["ann", r"b\\b", "*", "*", "*", r"\*"],
        ] {
            text += if random.once_in(2) { "*" } else { random.pick(field) };
            text += ":";
        }
        text +=
            random.pick(&["pw", r"p\:w", r"p\\w", r"p\w", "p:w", "", r"end\", " p w ", "pé", "#"]);
        // Longer than the buffers of older libraries, whose lines ended at 320 bytes.
        text += &"x".repeat([0, 0, 0, 400, 5_000][random.below(5)]);
        text += random.pick(&["\n", "\n", "\n", "\r\n", "\n\n", "\r\r\n", ""]);
    }
    text
}

fn cases(seed: u64, scratch: &Scratch) -> Vec<ResolveCase> {
    let random = &mut Random(seed);
    let case = |number| {
        let mode = [0o600, 0o600, 0o600, 0o400, 0o640, 0o604][random.below(6)];
        let name = format!("{number}");
        let path = match random.below(12) {
            0 => scratch.path("missing"),
            1 => scratch.path(""),
            _ => scratch.file(&name, file(random), mode),
        };
        // Otherwise libpq looks for Kerberos tickets, which takes long.
        let mut given: Variables = [("gssencmode".to_owned(), "disable".to_owned())].into();
        let mut set = |key: &str, value: &str| given.insert(key.to_owned(), value.to_owned());
        // No name is looked up: each has its address, and a directory needs none.
        match random.below(6) {
            0 => {}
            1 => drop(set("hostaddr", random.pick(&["127.0.0.1", "::1", "0:0::1"]))),
            2 => drop(set("host", "/run/x")),
            _ => {
                set("host", random.pick(&["srv", "localhost", "::1"]));
                set("hostaddr", "127.0.0.1");
            }
        }
        set("port", random.pick(&[CLOSED_PORT, "2"]));
        set("user", random.pick(&["ann", r"b\b", "*"]));
        if random.once_in(2) {
            set("dbname", random.pick(&["shop", "d:b", r"d\", "*"]));
        }
        if random.once_in(20) {
            set("password", random.pick(&["mine", ""]));
        }
        let mut variables = Variables::new();
        match random.below(3) {
            0 => {
                variables.insert("PGPASSFILE".to_owned(), path);
            }
            _ => drop(given.insert("passfile".to_owned(), path)),
        }
        ResolveCase { text: pairs(&given), variables }
    };
    (0..CASES).map(case).collect()
}

async fn check(seed: u64, libraries: Vec<Libpq>) {
    for libpq in libraries {
        let scratch = Scratch::new(&format!("passfile-{}", libpq.version));
        let cases = cases(seed, &scratch);
        let requests: Vec<_> = cases.iter().map(ResolveCase::request).collect();
        let mut found = 0;
        for (case, theirs) in cases.iter().zip(libpq.start(&requests, true)) {
            let config = resolve(&case.text, &case.variables).await.unwrap();
            let server = &config.servers().unwrap()[0];
            let ours = password(&config, server).await.unwrap();
            let ours = ours.as_ref().map(|password| password.expose()).unwrap_or_default();
            let theirs = theirs.values.get("PQpass").unwrap();
            found += usize::from(!ours.is_empty());
            assert_eq!(
                String::from_utf8_lossy(ours),
                String::from_utf8_lossy(theirs),
                "libpq {}: {} {:?}",
                libpq.version,
                case.text,
                fs::read_to_string(config.get_passfile().unwrap()),
            );
        }
        assert!(found > CASES / 6, "only {found} passwords were found");
    }
}

#[tokio::test]
async fn passwords_are_found_as_by_the_installed_libpq() {
    check(7, installed()).await;
}

#[tokio::test]
async fn matrix_passwords_are_found_as_by_every_libpq() {
    check(8, matrix()).await;
}
