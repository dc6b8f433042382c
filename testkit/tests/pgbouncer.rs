//! A pooler behaves as its mode says, and leaves no process and no file.

mod common;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Session, trusting, until};
use pgbell_testkit::{Auth, Certificates, Leaf, Mode, PgBouncer, PoolMode, Signal};

fn open(bouncer: &PgBouncer) -> Session {
    Session::open_at(bouncer.port()).unwrap_or_else(|error| panic!("{error}\n{}", bouncer.log()))
}

fn backend(session: &mut Session) -> io::Result<Vec<String>> {
    session.ask("SELECT pg_backend_pid()")
}

/// One server connection, all modes: a second client gets it when the session, transaction or statement of the first one ends.
#[test]
fn each_mode_keeps_the_server_connection_for_the_unit_of_its_name() {
    let cluster = trusting().start().unwrap();
    let start = |mode| {
        let builder =
            PgBouncer::builder(&cluster, mode).auth(Auth::Trust).setting("default_pool_size", "1");
        builder.setting("query_wait_timeout", "1").start().unwrap()
    };

    let session = start(PoolMode::Session);
    let mut one = open(&session);
    let first = backend(&mut one).unwrap();
    // The pooler gives its clients invented process ids.
    assert_ne!(first, [one.process_id.to_string()]);
    // There is no second server connection: another client waits, and is refused.
    let waiting = Session::open_at(session.port()).and_then(|mut two| backend(&mut two));
    assert!(waiting.unwrap_err().to_string().contains("query_wait_timeout"));
    one.ask("LISTEN ch").unwrap();
    one.ask("NOTIFY ch, 'seven'").unwrap();
    assert_eq!(one.notifications, [("ch".to_owned(), "seven".to_owned())]);
    drop(one);
    assert_eq!(backend(&mut open(&session)).unwrap(), first);

    let transaction = start(PoolMode::Transaction);
    let (mut one, mut two) = (open(&transaction), open(&transaction));
    assert_eq!(backend(&mut one).unwrap(), backend(&mut two).unwrap());
    // LISTEN succeeds, and its notifications go to the client that has the server connection next.
    one.ask("LISTEN ch").unwrap();
    two.ask("NOTIFY ch, 'seven'").unwrap();
    assert_eq!(one.notifications, []);
    assert_eq!(two.notifications, [("ch".to_owned(), "seven".to_owned())]);
    one.ask("BEGIN").unwrap();
    assert!(backend(&mut two).unwrap_err().to_string().contains("query_wait_timeout"));

    let statement = start(PoolMode::Statement);
    let error = open(&statement).ask("BEGIN").unwrap_err().to_string();
    assert!(error.contains("transaction blocks not allowed in statement pooling mode"), "{error}");
}

#[test]
fn a_pooler_checks_a_password_and_passes_it_to_the_server() {
    let cluster = trusting()
        .auth(Auth::ScramSha256)
        .superuser_password("it's \"a\" word")
        .init_sql("CREATE ROLE bob LOGIN PASSWORD 'straße'")
        .start()
        .unwrap();
    // The server uses trust, the pooler SCRAM.
    let builder =
        PgBouncer::builder(&cluster, PoolMode::Session).auth(Auth::Trust).user("bob", "straße");
    assert!(!format!("{builder:?}").contains("straße"));
    let trusting = builder.clone().start().unwrap();
    for user in ["postgres", "bob"] {
        let mut session = Session::open_as(trusting.port(), user).unwrap();
        assert_eq!(session.ask("SELECT session_user").unwrap(), [user]);
    }
    let error = Session::open_as(trusting.port(), "stranger").err().unwrap().to_string();
    assert!(error.contains("authentication failed") || error.contains("no such user"), "{error}");
    for (auth, code) in [(Auth::ScramSha256, 10), (Auth::Md5, 5), (Auth::Password, 3)] {
        let asking = builder.clone().auth(auth).start().unwrap();
        assert_eq!(open(&asking).auth, code, "{auth:?}");
    }
    let url = trusting.url("bob", "straße", "postgres");
    assert_eq!(url, format!("postgresql://bob:stra%C3%9Fe@127.0.0.1:{}/postgres", trusting.port()));
}

#[test]
fn a_pooler_offers_tls_if_its_server_does_not() {
    let cluster = trusting().start().unwrap();
    let certificates = Certificates::new().unwrap();
    let server = certificates.self_signed(&Leaf::server("localhost")).unwrap();
    let builder =
        PgBouncer::builder(&cluster, PoolMode::Transaction).auth(Auth::Trust).tls(&server);
    let bouncer = builder.start().unwrap();
    let arguments = [
        "-starttls",
        "postgres",
        "-verify_return_error",
        "-CAfile",
        server.path().to_str().unwrap(),
    ];
    let mut session = Session::open_tls(bouncer.port(), "postgres", &arguments).unwrap();
    let tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(session.ask(tls).unwrap(), ["f"]);
    open(&bouncer);
}

#[test]
fn a_pooler_stops_freezes_and_starts_again_and_leaves_no_files() {
    let cluster = trusting().start().unwrap();
    let bouncer =
        PgBouncer::builder(&cluster, PoolMode::Session).auth(Auth::Trust).start().unwrap();
    let process = PathBuf::from(format!("/proc/{}", bouncer.pid().unwrap()));
    assert_ne!(fs::metadata(&process).unwrap().uid(), 0, "PgBouncer must not run as root");
    let command = fs::read_to_string(process.join("cmdline")).unwrap();
    let ini = PathBuf::from(command.trim_end_matches('\0').rsplit('\0').next().unwrap());
    let dir = ini.parent().unwrap().to_owned();
    assert!(dir.join("users.txt").exists());

    let mut session = open(&bouncer);
    bouncer.stop();
    assert!(backend(&mut session).is_err());
    assert_eq!(bouncer.pid(), None);
    assert!(bouncer.signal(Signal::Stop).is_err());
    bouncer.start_again().unwrap();
    assert!(bouncer.start_again().unwrap_err().to_string().contains("runs already"));
    // The pooler survives the end of its server. A client waits, and is served soon after the server has started again.
    cluster.stop(Mode::Fast).unwrap();
    let port = bouncer.port();
    let waiting = thread::spawn(move || backend(&mut Session::open_at(port).unwrap()).unwrap());
    until("the pooler finds no server", || bouncer.log().contains("connect failed"));
    cluster.start_again().unwrap();
    let begin = Instant::now();
    waiting.join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(bouncer.log().matches("process up").count(), 2);

    let pid = bouncer.pid().unwrap();
    bouncer.signal(Signal::Stop).unwrap();
    drop(bouncer);
    assert!(!dir.exists());
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}

#[test]
fn a_wrong_setting_is_an_error_with_the_log() {
    let cluster = trusting().start().unwrap();
    let builder = PgBouncer::builder(&cluster, PoolMode::Session).auth(Auth::Trust);
    let error = builder.clone().setting("no_such_setting", "1").start().unwrap_err().to_string();
    assert!(error.contains("ended while it started"), "{error}");
    assert!(error.contains("no_such_setting"), "{error}");
    assert!(builder.setting("pool_mode", "session\nauth_type = any").start().is_err());
}

/// The environment variable of a process that runs one of these tests again.
const INSIDE: &str = "PGBELL_TEST_INSIDE";

/// Returns a command that runs the test of that name in a process of its own.
fn inside(name: &str) -> Command {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    again
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

#[test]
fn a_killed_process_leaves_no_pooler() {
    if is_inside() {
        let cluster = trusting().start().unwrap();
        let bouncer =
            PgBouncer::builder(&cluster, PoolMode::Session).auth(Auth::Trust).start().unwrap();
        let mut out = io::stdout().lock();
        writeln!(out, "\nPOOLER {}", bouncer.pid().unwrap()).unwrap();
        io::stdin().lock().read_line(&mut String::new()).unwrap();
        return;
    }
    let mut command = inside("a_killed_process_leaves_no_pooler");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = lines.into_iter().find_map(|line| line.strip_prefix("POOLER ").map(str::to_owned));
    let process = PathBuf::from(format!("/proc/{}", pid.expect("no pooler")));
    let command = fs::read_to_string(process.join("cmdline")).unwrap();
    let ini = PathBuf::from(command.trim_end_matches('\0').rsplit('\0').next().unwrap());
    assert!(ini.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the pooler is gone", || !process.exists());
    until("its directory is gone", || !ini.parent().unwrap().exists());
}

/// The environment belongs to the whole process: the test runs in a process of its own.
#[test]
fn errors_for_missing_programs_name_the_packages_to_install() {
    if !is_inside() {
        let mut again = inside("errors_for_missing_programs_name_the_packages_to_install");
        again.env("PGBELL_PGBOUNCER", "/nonexistent/a").env("PGBELL_OPENSSL", "/nonexistent/b");
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let cluster = trusting().start().unwrap();
    let error =
        PgBouncer::builder(&cluster, PoolMode::Session).auth(Auth::Trust).start().unwrap_err();
    assert!(error.is_not_found());
    let expect = "no PgBouncer can be started: there is no program /nonexistent/a: run `apt-get \
                  install pgbouncer`, or set PGBELL_PGBOUNCER to the program";
    assert_eq!(error.to_string(), expect);
    let error = Certificates::new().unwrap().authority("root").unwrap_err();
    assert!(error.is_not_found());
    let expect = "no certificate can be made: the command /nonexistent/b was not found: run `apt-get \
                  install openssl`, or set PGBELL_OPENSSL to the program";
    assert_eq!(error.to_string(), expect);
}
