//! Clusters of the installed server behave as their methods document.

mod common;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Session, ask, own_role, trusting, until};
use pgbell_testkit::{Auth, Cluster, Installation, Mode, Signal};

fn gone(cluster: &Cluster) -> impl Fn() -> bool + use<> {
    let port = cluster.port();
    move || TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[test]
fn a_cluster_answers_and_leaves_no_process_and_no_file() {
    let cluster = trusting().start().unwrap();
    assert_eq!(ask(&cluster, "SHOW server_encoding"), ["UTF8"]);
    assert_eq!(ask(&cluster, "SHOW fsync"), ["off"]);
    let version = ask(&cluster, "SHOW server_version");
    assert_eq!(version, [cluster.version()]);
    assert!(cluster.version().starts_with(&cluster.major().to_string()));
    assert!(cluster.log().contains("database system is ready to accept connections"));

    let data = cluster.data_dir();
    let found = fs::metadata(&data).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o700);
    assert_ne!(found.uid(), 0, "the server must not run as root");
    let dir = data.parent().unwrap().to_owned();
    // The outer directory belongs to root: the server's user can only pass through it.
    let outer = fs::metadata(&dir).unwrap();
    let mode = if outer.uid() == 0 { 0o711 } else { 0o700 };
    assert_eq!(outer.permissions().mode() & 0o777, mode);

    let (gone, pid) = (gone(&cluster), cluster.postmaster_pid().unwrap());
    drop(cluster);
    assert!(gone());
    assert!(!dir.exists());
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}

#[test]
fn the_unix_socket_exists_if_it_is_requested() {
    let with = trusting().start().unwrap();
    let socket = with.socket_dir().unwrap().join(format!(".s.PGSQL.{}", with.port()));
    assert!(socket.as_os_str().len() < 107);
    UnixStream::connect(&socket).unwrap();
    assert!(with.socket_url("a", None, "b").contains("?host=%2F"));

    let without = trusting().unix_socket(false).start().unwrap();
    assert_eq!(without.socket_dir(), None);
    // The sessions of the testkit itself need a socket.
    let dir = ask(&without, "SHOW unix_socket_directories").remove(0);
    let refused = Session::open_socket(Path::new(&dir), without.port(), "postgres");
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("28000") && error.contains("rejects"), "{error}");
    without.set("work_mem", "77kB").unwrap();
    assert_eq!(without.socket_url("a", None, "b"), without.url("a", None, "b"));
}

#[test]
fn a_long_directory_has_its_socket_elsewhere() {
    let short = std::env::temp_dir().join(format!("pgbell-long-{}", std::process::id()));
    let dir = short.join("d".repeat(100));
    fs::create_dir_all(&dir).unwrap();
    let far = trusting().data_parent(&dir).start().unwrap();
    assert!(far.data_dir().starts_with(&dir));
    let socket_dir = far.socket_dir().unwrap().to_owned();
    UnixStream::connect(socket_dir.join(format!(".s.PGSQL.{}", far.port()))).unwrap();
    drop(far);
    assert!(!socket_dir.exists() && !socket_dir.parent().unwrap().exists());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    fs::remove_dir_all(&short).unwrap();
}

#[test]
fn settings_files_and_sql_have_an_effect() {
    let cluster = trusting()
        .setting("max_connections", "17")
        .setting("application_name", r"it's a \ name")
        .file("extra.txt", "in the data directory")
        .encoding("LATIN1")
        .init_sql("CREATE TABLE first (n int); INSERT INTO first VALUES (1), (2);")
        .init_sql("CREATE VIEW second AS SELECT sum(n) AS total FROM first")
        .start()
        .unwrap();
    assert_eq!(ask(&cluster, "SHOW max_connections"), ["17"]);
    assert_eq!(ask(&cluster, "SHOW application_name"), [r"it's a \ name"]);
    assert_eq!(ask(&cluster, "SHOW server_encoding"), ["LATIN1"]);
    assert_eq!(ask(&cluster, "SELECT total FROM second"), ["3"]);
    assert_eq!(ask(&cluster, "SELECT pg_read_file('extra.txt')"), ["in the data directory"]);
}

#[test]
fn each_auth_uses_the_method_of_its_name() {
    // AuthenticationOk, CleartextPassword, MD5Password, SASL.
    let expect = [(Auth::Trust, 0), (Auth::Password, 3), (Auth::Md5, 5), (Auth::ScramSha256, 10)];
    for (auth, code) in expect {
        let cluster = trusting().auth(auth).start().unwrap();
        assert_eq!(Session::open(&cluster).unwrap().auth, code, "{auth:?}");
    }
}

#[test]
fn passwords_are_stored_in_the_format_of_the_method() {
    let look = "SELECT rolname || ' ' || left(rolpassword, 14) FROM pg_authid \
                WHERE rolpassword IS NOT NULL ORDER BY 1";
    for (auth, stored) in [(Auth::Md5, "md5"), (Auth::ScramSha256, "SCRAM-SHA-256$")] {
        let cluster = trusting()
            .auth(auth)
            .hba("host all postgres 127.0.0.1/32 trust")
            .superuser_password(r"it's \ a word")
            .init_sql("CREATE ROLE bob LOGIN PASSWORD 'straße'")
            .start()
            .unwrap();
        let rows = ask(&cluster, look);
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows[0].starts_with(&format!("bob {stored}")), "{rows:?}");
        assert!(rows[1].starts_with(&format!("postgres {stored}")), "{rows:?}");
        if auth == Auth::Md5 {
            // The server hashed the bytes of the UTF-8 text: md5(password || user).
            let same = "SELECT rolpassword = 'md5' || md5(convert_to('straßebob', 'UTF8')) \
                        FROM pg_authid WHERE rolname = 'bob'";
            assert_eq!(ask(&cluster, same), ["t"]);
            let same = r"SELECT rolpassword = 'md5' || md5('it''s \ a wordpostgres')
                         FROM pg_authid WHERE rolname = 'postgres'";
            assert_eq!(ask(&cluster, same), ["t"]);
        }
    }
}

#[test]
fn urls_hold_user_password_and_database() {
    let cluster = trusting().superuser_password("p@ß").start().unwrap();
    let place = format!("127.0.0.1:{}", cluster.port());
    assert_eq!(
        cluster.url_for_superuser(),
        format!("postgresql://postgres:p%40%C3%9F@{place}/postgres")
    );
    assert_eq!(cluster.url("a b", None, "c/d"), format!("postgresql://a%20b@{place}/c%2Fd"));
    assert!(!format!("{cluster:?}").contains("p@ß"));
}

#[test]
fn a_server_can_be_started_again_after_each_mode_of_stop() {
    let cluster = trusting().start().unwrap();
    let port = cluster.port();
    for mode in [Mode::Smart, Mode::Fast, Mode::Immediate] {
        cluster.stop(mode).unwrap();
        assert!(gone(&cluster)(), "{mode:?}");
        assert_eq!(cluster.postmaster_pid(), None);
        cluster.stop(mode).unwrap();
        cluster.start_again().unwrap();
        assert_eq!(cluster.port(), port);
        assert_eq!(ask(&cluster, "SELECT 1"), ["1"]);
    }
    assert!(cluster.start_again().unwrap_err().to_string().contains("runs already"));
    let log = cluster.log();
    for words in
        ["received smart shutdown", "received fast shutdown", "received immediate shutdown"]
    {
        assert!(log.contains(words), "{words}");
    }
}

#[test]
fn a_smart_stop_with_a_client_is_an_error_within_the_timeout() {
    let cluster = trusting().timeout(Duration::from_secs(2)).start().unwrap();
    let session = Session::open(&cluster).unwrap();
    let error = cluster.stop(Mode::Smart).unwrap_err().to_string();
    assert!(error.contains("did not stop within 2 s (Smart)"), "{error}");
    assert!(error.contains("received smart shutdown"), "{error}");
    drop(session);
    cluster.stop(Mode::Smart).unwrap();
    let error = cluster.wait_ready().unwrap_err().to_string();
    assert!(error.contains("after 2 s No such file"), "{error}");
}

#[test]
fn a_restart_ends_sessions_and_keeps_data() {
    let cluster = trusting().start().unwrap();
    ask(&cluster, "CREATE TABLE kept AS SELECT 7 AS n");
    let mut session = Session::open(&cluster).unwrap();
    cluster.restart().unwrap();
    assert!(session.last_message().contains("57P01"));
    assert_eq!(ask(&cluster, "SELECT n FROM kept"), ["7"]);
}

#[test]
fn a_server_can_be_started_again_after_its_postmaster_was_killed() {
    let cluster = trusting().start().unwrap();
    let mut session = Session::open(&cluster).unwrap();
    cluster.kill_postmaster().unwrap();
    assert_eq!(cluster.postmaster_pid(), None);
    assert!(cluster.kill_postmaster().is_err());
    // The backend notices that the postmaster is gone, and ends without a message.
    session.last_message();
    cluster.start_again().unwrap();
    assert_eq!(ask(&cluster, "SELECT 1"), ["1"]);
}

#[test]
fn shared_memory_of_a_killed_postmaster_is_removed() {
    let cluster = trusting().start().unwrap();
    let lock = fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    let id = lock.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let listed = || {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        table.lines().any(|line| line.split_whitespace().nth(1) == Some(&id))
    };
    assert!(listed() || !PathBuf::from("/proc/sysvipc/shm").exists());
    let mut session = Session::open(&cluster).unwrap();
    cluster.kill_postmaster().unwrap();
    drop(cluster);
    // No process is left that would keep the segment.
    session.last_message();
    until("the segment is gone", || !listed());
}

#[test]
fn only_a_backend_of_the_server_can_be_signalled() {
    let cluster = trusting().start().unwrap();
    let mut session = Session::open(&cluster).unwrap();
    cluster.signal_backend(session.process_id, Signal::Term).unwrap();
    assert!(session.last_message().contains("57P01"));

    let own = i32::try_from(std::process::id()).unwrap();
    for pid in [own, 1, 0, -1, i32::MAX] {
        let error = cluster.signal_backend(pid, Signal::Term).unwrap_err().to_string();
        assert!(error.contains("is not a backend of this server"), "{error}");
    }
}

#[test]
fn a_terminated_backend_reports_it_and_a_killed_one_ends_all_sessions() {
    let cluster = trusting().start().unwrap();
    let mut session = Session::open(&cluster).unwrap();
    cluster.terminate_backend(session.process_id).unwrap();
    assert!(session.last_message().contains("57P01"));

    let mut victim = Session::open(&cluster).unwrap();
    let mut other = Session::open(&cluster).unwrap();
    let postmaster = cluster.postmaster_pid();
    cluster.signal_backend(victim.process_id, Signal::Kill).unwrap();
    assert_eq!(victim.last_message(), "");
    assert!(other.last_message().contains("57P02"));
    cluster.wait_ready().unwrap();
    assert_eq!(ask(&cluster, "SELECT 1"), ["1"]);
    assert_eq!(cluster.postmaster_pid(), postmaster);
}

#[test]
fn a_frozen_backend_is_silent_until_it_is_resumed() {
    let cluster = trusting().start().unwrap();
    let mut session = Session::open(&cluster).unwrap();
    let pid = session.process_id;
    cluster.signal_backend(pid, Signal::Stop).unwrap();
    let answer = std::thread::spawn(move || session.ask("SELECT 7"));
    // Another session is served in the meantime.
    for _ in 0..10 {
        assert_eq!(ask(&cluster, "SELECT 8"), ["8"]);
    }
    assert!(!answer.is_finished());
    cluster.signal_backend(pid, Signal::Cont).unwrap();
    assert_eq!(answer.join().unwrap().unwrap(), ["7"]);
}

#[test]
fn a_frozen_backend_does_not_delay_the_end_of_the_cluster() {
    let cluster = trusting().start().unwrap();
    let session = Session::open(&cluster).unwrap();
    cluster.signal_backend(session.process_id, Signal::Stop).unwrap();
    let begin = Instant::now();
    drop(cluster);
    // The server itself waits ten seconds for the frozen backend before it kills it.
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
}

#[test]
fn a_changed_setting_applies_to_new_sessions() {
    let cluster = trusting().start().unwrap();
    let before = ask(&cluster, "SHOW work_mem");
    cluster.set("work_mem", "77kB").unwrap();
    assert_eq!(ask(&cluster, "SHOW work_mem"), ["77kB"]);
    cluster.set_read_only(true).unwrap();
    let mut session = Session::open(&cluster).unwrap();
    assert!(session.ask("CREATE TABLE refused ()").unwrap_err().to_string().contains("25006"));
    assert_eq!(ask(&cluster, "SHOW transaction_read_only"), ["on"]);
    cluster.set_read_only(false).unwrap();
    assert_eq!(ask(&cluster, "SHOW transaction_read_only"), ["off"]);

    let refused = |name, value| cluster.set(name, value).unwrap_err().to_string();
    let error = refused("work_mem", "none");
    assert!(error.contains("invalid value for parameter \"work_mem\""), "{error}");
    let error = refused("no_such_setting", "1");
    assert!(error.contains("unrecognized configuration parameter"), "{error}");
    let error = refused("max_connections", "33");
    assert!(error.contains("cannot be changed without restarting"), "{error}");
    // The file contains none of these values: the next change and the next start succeed.
    cluster.set("application_name", "after").unwrap();
    cluster.stop(Mode::Fast).unwrap();
    cluster.set("max_connections", "33").unwrap();
    cluster.start_again().unwrap();
    assert_eq!(ask(&cluster, "SHOW max_connections"), ["33"]);
    assert_eq!(ask(&cluster, "SHOW work_mem"), ["77kB"]);
    assert_ne!(before, ["77kB"]);
}

#[test]
fn the_testkits_own_role_logs_in_only_over_the_private_socket_and_has_few_rights() {
    own_role(&trusting().start().unwrap());
}

/// Other users of the machine can reach the port, but not the socket.
#[test]
fn a_cluster_refuses_every_login_without_its_password() {
    let [cluster, other] = [(), ()].map(|()| Cluster::start().unwrap());
    assert_ne!(cluster.superuser_password(), other.superuser_password());
    for user in ["postgres", "stranger", "postgres\0replication\0true"] {
        assert_eq!(Session::open_as(cluster.port(), user).unwrap().auth, 10, "{user:?}");
    }
    own_role(&cluster);
    let dir = cluster.socket_dir().unwrap();
    let found = fs::metadata(dir).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o700);
    assert_eq!(found.uid(), fs::metadata(cluster.data_dir()).unwrap().uid());
    assert_eq!(Session::open_socket(dir, cluster.port(), "postgres").unwrap().auth, 0);
}

#[test]
fn the_postmaster_reloads_its_files() {
    let cluster = trusting().start().unwrap();
    let conf = cluster.data_dir().join("postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap();
    cluster.write_file("postgresql.conf", text + "\nwork_mem = '77kB'\n").unwrap();
    cluster.signal_postmaster(Signal::Hup).unwrap();
    until("the new value", || ask(&cluster, "SHOW work_mem") == ["77kB"]);
    let text = fs::read_to_string(&conf).unwrap() + "\nwork_mem = '88kB'\n";
    cluster.write_file("postgresql.conf", text).unwrap();
    cluster.reload().unwrap();
    assert_eq!(ask(&cluster, "SHOW work_mem"), ["88kB"]);
}

#[test]
fn a_frozen_postmaster_can_be_stopped() {
    let cluster = trusting().start().unwrap();
    let dir = cluster.data_dir();
    cluster.signal_postmaster(Signal::Stop).unwrap();
    drop(cluster);
    assert!(!dir.exists());
}

#[test]
fn an_error_shows_the_messages_of_the_server() {
    let error = trusting().setting("no_such_setting", "1").start().unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    let error = trusting().setting("wal_level", "minimal").start().unwrap_err();
    assert!(error.to_string().contains("end of the server's log"), "{error}");
    assert!(error.to_string().contains("max_wal_senders"), "{error}");
}

#[test]
fn an_error_of_init_sql_does_not_contain_the_sql() {
    let error = trusting().init_sql("CREATE ROLE bob PASSWORD 'very quiet' NO_SUCH_WORD").start();
    let error = format!("{:#}", error.unwrap_err());
    assert!(
        error.contains("syntax error") || error.contains("unrecognized role option"),
        "{error}"
    );
    assert!(!error.contains("very quiet"), "{error}");
}

#[test]
fn several_clusters_can_start_at_the_same_time() {
    let clusters: Vec<Cluster> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| trusting().start().unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let mut ports: Vec<u16> = clusters.iter().map(Cluster::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4);
}

#[test]
fn the_found_installation_is_the_default() {
    let found = Installation::find().unwrap();
    assert_eq!(trusting().start().unwrap().installation(), &found);
    assert_eq!(Installation::at(found.bin()).unwrap(), found);
}
