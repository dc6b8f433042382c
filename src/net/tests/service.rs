//! Service files.

use super::*;

const CASES: usize = 600;

/// The first version of libpq that uses `HOME`.
const HOME: u32 = 150_000;

/// Returns a service file with random sections, often `one`, and random lines.
fn file(random: &mut Random, libpq: &Libpq) -> String {
    let mut text = String::new();
    for _ in 0..random.below(4) {
        text += random
            .pick(&["[one]", "[one]", "[two]", "[one]x", " [one] ", "[ one]", "[one", "host=x"]);
        text += random.pick(&["\n", "\r\n", "\n\n# [one]\n"]);
        let parameters = parameters(random, libpq, &WITHOUT, 3);
        for (key, value) in &parameters {
            // No value ends with a blank or is one, so that blanks around it do not change it.
            text += random.pick(&["", "", " ", "\t"]);
            text += &format!("{key}={value}");
            text += random.pick(&["", "", " ", "\t "]);
            text += random.pick(&["\n", "\n", "\r\n", "\n\n"]);
            if random.once_in(12) {
                text += &format!("{key}=again\n");
            }
        }
        if random.once_in(12) {
            text += random.pick(&[
                "service=two\n",
                "nothing\n",
                "uzer=x\n",
                "host = x\n",
                "=x\n",
                "#x\n",
                " # y\n",
                "requiressl=1\n",
                "ldap://x\n",
            ]);
        }
    }
    text
}

/// Parameters that are left out. The host is, because the address is fixed: no name is looked up, and no server answers.
const WITHOUT: [&str; 14] = [
    "host",
    "hostaddr",
    "port",
    "service",
    "servicefile",
    "passfile",
    "sslpassword",
    "gsslib",
    "krbsrvname",
    "gssencmode",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
];

fn cases(seed: u64, libpq: &Libpq, scratch: &Scratch) -> Vec<ResolveCase> {
    let random = &mut Random(seed);
    let case = |number| {
        let mut text = pairs(&parameters(random, libpq, &WITHOUT, 2));
        text += &format!("hostaddr=127.0.0.1 port={CLOSED_PORT} gssencmode=disable ");
        let mut variables = environment(&parameters(random, libpq, &WITHOUT, 3), libpq);
        variables.entry("PGUSER".to_owned()).or_insert("ann".to_owned());
        let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
        let inside = |name: &str| format!("{number}/{name}");
        set("HOME", scratch.path(&inside("home")));
        set("PGSYSCONFDIR", scratch.path(&inside("etc")));
        let there = |name: &str, random: &mut Random| {
            let text = file(random, libpq);
            (!random.once_in(4)).then(|| scratch.file(&inside(name), text, 0o644))
        };
        // Older versions take the home directory from the accounts of the system.
        if libpq.version >= HOME {
            there("home/.pg_service.conf", random);
        }
        there("etc/pg_service.conf", random);
        if random.once_in(2) {
            let named = there("named", random);
            set("PGSERVICEFILE", named.unwrap_or_else(|| scratch.path("missing")));
        }
        match random.below(8) {
            0 => {}
            1 | 2 => text += "service=one",
            3 => text += "service=three",
            _ => {
                set("PGSERVICE", random.pick(&["one", "one", "two"]).to_owned());
            }
        }
        ResolveCase { text, variables }
    };
    (0..CASES).map(case).collect()
}

async fn check(seed: u64, libraries: Vec<Libpq>) {
    for libpq in libraries {
        let scratch = Scratch::new(&format!("service-{}", libpq.version));
        compare_all(&libpq, &cases(seed, &libpq, &scratch), true, CASES / 4).await;
    }
}

#[tokio::test]
async fn services_are_resolved_as_by_the_installed_libpq() {
    check(5, installed()).await;
}

#[tokio::test]
async fn matrix_services_are_resolved_as_by_every_libpq() {
    check(6, matrix()).await;
}

fn at_home(scratch: &Scratch) -> Variables {
    [("HOME".to_owned(), scratch.path("home")), ("USER".to_owned(), "ann".to_owned())].into()
}

/// PostgreSQL 19's parameter takes precedence over the variable.
#[tokio::test]
async fn a_named_service_file_takes_precedence_and_must_exist() {
    let scratch = Scratch::new("servicefile");
    let mut variables = at_home(&scratch);
    scratch.file("home/.pg_service.conf", "[one]\nhost=home\n", 0o600);
    let named = scratch.file("named.conf", "[one]\nhost=named\n", 0o600);
    variables.insert("PGSERVICEFILE".to_owned(), scratch.file("var", "[one]\nhost=var", 0o600));
    let host = async |text: &str, variables: &Variables| {
        resolve(text, variables).await.unwrap().get("host").map(ToOwned::to_owned)
    };
    let text = format!("service=one servicefile={named}");
    assert_eq!(host(&text, &variables).await.as_deref(), Some("named"));
    assert_eq!(host("service=one", &variables).await.as_deref(), Some("var"));
    variables.remove("PGSERVICEFILE");
    assert_eq!(host("service=one", &variables).await.as_deref(), Some("home"));
    // Set to an empty value: no service, whatever the environment contains.
    variables.insert("PGSERVICE".to_owned(), "one".to_owned());
    assert_eq!(host("service=''", &variables).await, None);

    let missing = scratch.path("missing");
    let error =
        resolve(&format!("service=one servicefile={missing}"), &variables).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("configuration: the service file {missing:?} does not exist")
    );
    let directory = scratch.path("home");
    let error = resolve(&format!("service=one servicefile={directory}"), &variables).await;
    assert!(error.unwrap_err().to_string().ends_with("is not a regular file"));
}

/// This is also true if `from_env` read the environment before.
#[tokio::test]
async fn a_service_takes_precedence_over_the_environment() {
    let scratch = Scratch::new("before");
    let mut variables = at_home(&scratch);
    scratch.file("home/.pg_service.conf", "[one]\nhost=service\npassword=theirs\n", 0o600);
    variables.insert("PGHOST".to_owned(), "variable".to_owned());
    variables.insert("PGPASSWORD".to_owned(), "mine".to_owned());
    variables.insert("PGSERVICE".to_owned(), "one".to_owned());
    let lookup = |name: &str| variables.get(name).cloned();
    let before = Config::new().with_environment(lookup).unwrap();
    assert_eq!(before.get("host"), Some("variable"));
    let resolve = async |config: Config| resolve_config(config, &variables).await.unwrap();
    let config = resolve(before.clone()).await;
    assert_eq!(config.get("host"), Some("service"));
    assert_eq!(config.get_password(), Some(&b"theirs"[..]));
    let config = resolve(before.host("mine").password("mine too")).await;
    assert_eq!(config.get("host"), Some("mine"));
    assert_eq!(config.get_password(), Some(&b"mine too"[..]));
}

#[tokio::test]
async fn an_error_in_a_service_file_has_the_line_and_no_value() {
    let scratch = Scratch::new("wrong");
    let variables = at_home(&scratch);
    for (line, expected) in [
        ("service=two", "service in line 2: a service cannot name another service"),
        ("servicefile=/x", "servicefile in line 2: a service cannot name another service"),
        ("secret", "line 2: expected = after a key"),
        ("hostt=secret", "line 2: this key is not known, the nearest one is host"),
        ("password =secret", "password in line 2: a service file has no white space before ="),
        ("port=secret", "port in line 2: expected a number from 1 to 65535"),
        (
            "sslpassword=secret",
            "sslpassword in line 2: encrypted private keys are not supported, decrypt the file of sslkey",
        ),
        ("ldap://secret", "line 2: services in LDAP are not supported"),
    ] {
        let path = scratch.file("home/.pg_service.conf", format!("[one]\n{line}\n"), 0o600);
        let error = resolve("service=one", &variables).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("configuration: the service file {path:?} is wrong: {expected}")
        );
    }
    let error = resolve("service=two", &variables).await.unwrap_err().to_string();
    assert!(error.starts_with("configuration: service \"two\" is not in \"/"), "{error}");
    let nowhere: Variables =
        [("USER".to_owned(), "ann".to_owned()), ("HOME".to_owned(), scratch.path("no"))].into();
    let error = resolve("service=two", &nowhere).await.unwrap_err().to_string();
    assert!(
        error.contains("service \"two\" is given, but there is no service file (hint: "),
        "{error}"
    );
}

/// Opening a pipe would wait for a writer, and a large file would fill the memory.
#[tokio::test]
async fn a_service_file_that_is_not_regular_or_too_long_is_not_read() {
    let scratch = Scratch::new("pipe");
    let variables = at_home(&scratch);
    let pipe = scratch.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let error = resolve(&format!("service=one servicefile={pipe}"), &variables).await.unwrap_err();
    assert!(error.to_string().ends_with("is not a regular file"), "{error}");
    let error = resolve("service=one servicefile=/dev/zero", &variables).await.unwrap_err();
    assert!(error.to_string().ends_with("is not a regular file"), "{error}");
    let long = scratch.file("long", vec![b'#'; 1024 * 1024 + 1], 0o600);
    let error = resolve(&format!("service=one servicefile={long}"), &variables).await.unwrap_err();
    assert!(error.to_string().ends_with("has more than 1048576 bytes"), "{error}");
}
