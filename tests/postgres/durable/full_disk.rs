//! A log on a disk that is full.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
#[cfg(target_os = "linux")]
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgbell::{Connection, ErrorKind, Listen};
use tokio::time::timeout;

use super::support::{Log, add, look, nothing, payloads, sql, take};
use crate::support::{Server, TEST_TIMEOUT, run, value};

/// A file system in memory, of which the log has all. It is unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it, for the user of a server. Returns none if only root could do that.
    #[expect(clippy::print_stderr, reason = "a skipped test prints why")]
    fn mount(server: &Server, size: &str) -> Option<Self> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            eprintln!("skipped: only root can mount a small file system");
            return None;
        }
        let data = server.cluster.data_dir();
        // The directory above belongs to the caller, and the server can enter it.
        let path = data.parent().expect("the directory of the cluster").join("small");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=0700");
        if !mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path) {
            eprintln!("skipped: this environment has no mounts");
            fs::remove_dir(&path).unwrap();
            return None;
        }
        let disk = Self(path);
        let of_server = fs::metadata(data).unwrap();
        chown(&disk.0, Some(of_server.uid()), Some(of_server.gid())).unwrap();
        Some(disk)
    }

    /// Makes room.
    fn resize(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}")], &self.0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may still have files open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(path).status().is_ok_and(|status| status.success())
}

/// A record of about 20 kB that cannot be compressed much.
const LONG: &str = "INSERT INTO outbox (key, payload) SELECT '', string_agg(md5(random()::text), '') FROM generate_series(1, 600)";

/// Writes until an error of the server, and returns it with the number of records.
async fn fill(session: &mut Connection) -> (u64, pgbell::Error) {
    for written in 0..100_000 {
        if let Err(error) = session.simple_query(LONG).await {
            return (written, error);
        }
    }
    panic!("the disk is not full");
}

#[test]
fn on_a_full_disk_writers_fail_and_readers_wait_until_there_is_room() {
    let server = Server::start();
    let Some(disk) = SmallDisk::mount(&server, "3m") else { return };
    run(async {
        let mut session = server.connection().await;
        let place = format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.display());
        sql(&mut session, &place).await;
        sql(&mut session, "ALTER ROLE postgres SET default_tablespace = small").await;
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        let cursor = log.outbox.cursor("reader").page_size(1).listen(Listen::Disabled);
        let cursor = cursor.interval(Duration::from_millis(50));
        let mut cursor = cursor
            .backoff(Duration::from_millis(1), Duration::from_millis(50))
            .open()
            .await
            .unwrap();
        let (written, error) = fill(&mut writer).await;
        assert_eq!(error.sqlstate(), Some("53100"), "{error}");
        assert!(error.is_transient(), "{error}");
        // The last blocks of other tables, too.
        sql(&mut writer, "CREATE TABLE more (n bigint)").await;
        while writer.simple_query("INSERT INTO more SELECT generate_series(1, 100)").await.is_ok() {
        }

        // What is committed is received, and acknowledged as long as the table of acknowledgements has room.
        let mut received = 0;
        loop {
            let batch = timeout(TEST_TIMEOUT, cursor.next()).await.unwrap().unwrap();
            received += batch.len() as u64;
            assert!(received <= written, "the acknowledgements need no room");
            let mut ack = Box::pin(batch.ack());
            if let Ok(result) = timeout(Duration::from_secs(2), ack.as_mut()).await {
                result.unwrap();
                continue;
            }
            let stored = value(&mut writer, "SELECT last FROM outbox_positions").await;
            assert_eq!(stored, (received - 1).to_string());
            disk.resize("64m");
            timeout(TEST_TIMEOUT, ack).await.unwrap().unwrap();
            break;
        }
        assert_eq!(cursor.last_error().and_then(|error| error.sqlstate()), Some("53100"));
        add(&mut writer, "", "after").await;
        cursor.set_page_size(100_000);
        // The window of before ends first.
        assert_eq!(take(&mut cursor).await.len() as u64, written - received);
        assert_eq!(take(&mut cursor).await, ["after"]);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// The limit of a file's size is another error, which a server cannot know to pass: the caller gets it, and nothing is lost.
#[cfg(target_os = "linux")]
#[test]
fn an_acknowledgement_that_cannot_be_written_is_an_error_and_its_batch_is_received_again() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        let mut cursor = log.open("reader").await;
        cursor.set_page_size(1);
        let many =
            "INSERT INTO outbox (key, payload) SELECT '', n FROM generate_series(1, 500) AS n";
        sql(&mut writer, many).await;
        look(&mut cursor).await;
        let pid = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%outbox_read%' AND pid <> pg_backend_pid()";
        let pid = value(&mut writer, pid).await;
        limit(&log.server, &pid, "8192");
        let mut received = 0;
        let error = loop {
            let batch = timeout(TEST_TIMEOUT, cursor.next()).await.unwrap().unwrap();
            received += 1;
            assert_eq!(payloads(&batch), [received.to_string()]);
            match batch.ack().await {
                Ok(()) => assert!(received < 500, "the table of acknowledgements does not grow"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Server, "{error}");
        assert!(!error.is_transient(), "{error}");
        limit(&log.server, &pid, "unlimited");
        cursor.set_page_size(1_000);
        let expected: Vec<String> = (received..=500).map(|number| number.to_string()).collect();
        assert_eq!(take(&mut cursor).await, expected);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// Sets the largest size of a file that a process of a server can write. The user of the server may do that.
#[cfg(target_os = "linux")]
fn limit(server: &Server, pid: &str, bytes: &str) {
    let owner = fs::metadata(server.cluster.data_dir()).unwrap();
    let mut command = Command::new("prlimit");
    command.args([&format!("--fsize={bytes}:"), "--pid", pid]).uid(owner.uid()).gid(owner.gid());
    assert!(command.status().unwrap().success());
}
