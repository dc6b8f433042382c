//! `pgbell demo` as a process: its result, and that it leaves no files and no processes.

mod common;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Running, cluster, in_use, pgbell, run};
use serde_json::Value;

/// A directory for the temporary files of one demo, open to the server's user.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("demo-{}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o1777)).unwrap();
        Self(dir)
    }

    fn demo(&self) -> Command {
        let mut command = pgbell();
        command.env("TMPDIR", &self.0).arg("demo");
        command
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }

    fn is_left(&self) -> bool {
        !self.is_empty() || in_use(&self.0)
    }

    /// Waits until the condition is true.
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} in {}", self.0.display());
            std::thread::yield_now();
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the object that a demo printed, which must be all of stdout and must report no defect.
fn good(out: &str, sent: u64) -> Value {
    assert_eq!(out.lines().count(), 1, "{out}");
    let report: Value = serde_json::from_str(out).unwrap();
    for key in ["lost", "duplicated", "out_of_order", "unexpected", "lagged", "gaps"] {
        assert_eq!(report[key], 0, "{key}: {out}");
    }
    for key in ["sent", "received", "committed"] {
        assert_eq!(report[key], sent, "{key}: {out}");
    }
    for key in ["seconds", "notifications_per_second"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {out}");
    }
    let latency = |key: &str| report["latency_us"][key].as_f64().unwrap();
    assert!(latency("p50") > 0.0, "{out}");
    assert!(latency("p50") <= latency("p99") && latency("p99") <= latency("max"), "{out}");
    report
}

#[test]
fn with_a_real_server_nothing_is_lost_by_its_own_count_and_nothing_stays() {
    let temporary = Temporary::new("real");
    let (code, out, err) = run(temporary.demo().args(["--json", "--server", "postgres"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let report = good(&out, 5_000);
    let server = report["server"].as_str().unwrap();
    assert!(server.starts_with("PostgreSQL 1"), "{server}");
    assert!(!server.contains('('), "{server}");
    assert_eq!(report["auth"], "scram-sha-256");
    assert!(!temporary.is_left());
}

#[test]
fn with_the_loopback_backend_nothing_is_lost() {
    let temporary = Temporary::new("loopback");
    let (code, out, err) = run(temporary.demo().args(["--json", "--server", "loopback"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(good(&out, 5_000)["server"], "loopback");
    assert!(temporary.is_empty());
}

#[test]
fn without_a_server_the_loopback_backend_takes_its_place_and_it_is_said() {
    let temporary = Temporary::new("none");
    let demo = |server: &str| {
        let mut command = temporary.demo();
        command.env("PGBELL_POSTGRES", "/nonexistent").args(["--json", "--server", server]);
        run(&mut command)
    };
    let (code, out, err) = demo("auto");
    assert_eq!(code, 0, "{err}");
    assert_eq!(good(&out, 5_000)["server"], "loopback");
    assert!(err.contains("apt-get install postgresql"), "{err}");
    assert!(err.contains("the loopback backend takes its place"), "{err}");

    let (code, out, err) = demo("postgres");
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("apt-get install postgresql"), "{err}");
}

#[test]
fn a_few_and_many_are_counted_alike() {
    let temporary = Temporary::new("counts");
    for count in [1, 2, 7, 100_000] {
        for server in ["postgres", "loopback"] {
            let arguments = ["--json", "--server", server, "--count", &count.to_string()];
            let (code, out, err) = run(temporary.demo().args(arguments));
            assert_eq!((code, err.as_str()), (0, ""), "{server} {count}");
            good(&out, count);
        }
    }
}

#[test]
fn the_text_output_names_the_server_and_what_arrived() {
    let temporary = Temporary::new("person");
    let (code, out, err) = run(temporary.demo().args(["--server", "loopback", "--count", "100"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("starting   the loopback backend\nserver     loopback, "), "{out}");
    assert!(out.contains("\narrived          100 of 100, "), "{out}");
    assert!(
        out.contains("\nreceived   100: 0 lost, 0 duplicated, 0 out of order, 0 lagged, 0 gaps\n")
    );
    assert!(
        out.contains("\nresult     every notification arrived once and in order\ntry next   "),
        "{out}"
    );
    assert!(!out.contains('\x1b'), "colours are for terminals: {out}");
}

#[test]
fn a_server_of_yours_is_taken_only_when_it_is_named() {
    let url = cluster().url("postgres", None, "postgres");
    let mut command = pgbell();
    command.env("PGPASSWORD", cluster().superuser_password());
    let (code, out, err) = run(command.args(["demo", "--json", "--url", &url]));
    assert_eq!((code, err.as_str()), (0, ""));
    good(&out, 5_000);

    let temporary = Temporary::new("environment");
    let mut command = temporary.demo();
    // No server is at these addresses: the demo would fail if it used them.
    command.env("DATABASE_URL", "postgres://bob@127.0.0.1:1/").env("PGPORT", "1");
    command.env("PGSSLMODE", "require").env("PGHOST", "127.0.0.2");
    command.env("PGHOSTADDR", "127.0.0.2").env("PGOPTIONS", "-c nonsense=1");
    command.env("PGTARGETSESSIONATTRS", "standby");
    let (code, out, err) = run(command.arg("--json"));
    assert_eq!((code, err.as_str()), (0, ""));
    good(&out, 5_000);
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let long = ["--server", "postgres", "--count", "10000000"];
    // While it sends.
    let temporary = Temporary::new("sending");
    let mut demo = Running::start(temporary.demo().args(long));
    assert!(demo.line().starts_with("starting   a temporary PostgreSQL server"));
    assert!(demo.line().starts_with("server     PostgreSQL "));
    demo.signal("INT");
    assert_eq!(demo.end().0, 130);
    assert!(!temporary.is_left());

    // During `initdb` or the start of the server: its guard removes everything after the end of the program.
    let temporary = Temporary::new("starting");
    let demo = Running::start(temporary.demo().args(long));
    temporary.until("nothing was made", |temporary| !temporary.is_empty());
    demo.signal("TERM");
    assert_eq!(demo.end().0, 143);
    temporary.until("something is left", |temporary| !temporary.is_left());
}

/// Returns the answer of a server to a startup packet: the type of its first message, and the rest.
fn knock(port: u16, parameters: &str) -> (u8, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = [b"\0\x03\0\0", parameters.as_bytes(), b"\0"].concat();
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &body].concat()).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

/// Another user of the machine could copy the cluster, keep its log from being recycled, and send on its channel.
#[test]
fn the_server_of_the_demo_refuses_every_login_without_its_password() {
    let temporary = Temporary::new("doors");
    let long = ["--server", "postgres", "--count", "10000000"];
    let mut demo = Running::start(temporary.demo().args(long));
    assert!(demo.line().starts_with("starting   "));
    let line = demo.line();
    let port = line.rsplit_once(':').unwrap().1.parse().unwrap();
    for replication in ["", "replication\0true\0"] {
        for user in ["postgres", "demo", "pgbell_testkit", "nobody"] {
            let parameters = format!("user\0{user}\0database\0postgres\0{replication}");
            let (kind, body) = knock(port, &parameters);
            let asks_for_scram = kind == b'R' && body.starts_with(&[0, 0, 0, 10]);
            assert!(kind == b'E' || asks_for_scram, "{user} {replication:?}: {kind}");
            assert_eq!(kind == b'E', user == "pgbell_testkit", "{user} {replication:?}");
        }
    }
    // Only the server's user can enter the directories of the socket and of the data.
    let home = fs::read_dir(&temporary.0).unwrap().next().unwrap().unwrap().path();
    for name in ["data", "run"] {
        let mode = fs::metadata(home.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    demo.signal("INT");
    assert_eq!(demo.end().0, 130);
}

#[test]
fn a_reader_that_goes_away_does_not_change_what_is_found() {
    let temporary = Temporary::new("reader");
    let mut demo = Running::start(temporary.demo().args(["--server", "loopback"]));
    demo.line();
    demo.close_stdout();
    assert_eq!(demo.end().0, 0);
}

/// The directory is part of the server's command line, in which `in_use` searches for it.
#[test]
fn a_running_server_is_seen_in_its_directory() {
    let data = cluster().data_dir();
    let dir: &Path = data.parent().unwrap();
    assert!(in_use(dir));
}
