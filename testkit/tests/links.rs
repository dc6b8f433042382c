//! The server's user plants symbolic links in the server's directory. Root follows none of them.
//!
//! Only root runs a server as another user. For other users the tests of that print that they are skipped.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use common::{ask, trusting, until};
use pgbell_testkit::{Certificates, Cluster, Leaf};

const SECRET: &str = "pl4nted line";

/// A file of the caller that no other user may read.
struct Victim {
    path: PathBuf,
    written: SystemTime,
}

impl Victim {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("pgbell-victim-{}-{name}", std::process::id()));
        fs::write(&path, SECRET).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        Self { path, written }
    }

    #[track_caller]
    fn is_untouched(&self) {
        let found = fs::metadata(&self.path).unwrap();
        assert_eq!(fs::read_to_string(&self.path).unwrap(), SECRET);
        // A file that was overwritten and restored has another modification time.
        assert_eq!(found.modified().unwrap(), self.written);
        let own = fs::metadata("/proc/self").unwrap().uid();
        assert_eq!((found.uid(), found.mode() & 0o777), (own, 0o600));
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns whether the tests run as root. Prints a message if not.
#[expect(clippy::print_stderr, reason = "a skipped test prints a message")]
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("skipped: only root has a server that runs as another user");
    }
    is_root
}

/// Runs a program as the server's user. Returns whether it succeeded.
fn as_server(cluster: &Cluster, program: &str, arguments: &[&Path]) -> bool {
    let owner = fs::metadata(cluster.data_dir()).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).uid(owner.uid()).gid(owner.gid()).current_dir("/");
    command.stderr(Stdio::null()).status().unwrap().success()
}

/// Replaces a file by a link, as the server's user.
fn plant(cluster: &Cluster, victim: &Victim, path: &Path) -> bool {
    as_server(cluster, "rm", &[Path::new("-f"), path])
        && as_server(cluster, "ln", &[Path::new("-s"), &victim.path, path])
}

#[test]
fn a_planted_link_in_the_data_directory_is_replaced_and_not_followed() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = root.issue(&Leaf::server("localhost")).unwrap();
    let cluster = trusting().start().unwrap();
    let victim = Victim::new("tls");
    for name in ["tls.crt", "tls.key", "tls-ca.crt", "tls.crl"] {
        assert!(plant(&cluster, &victim, &cluster.data_dir().join(name)), "{name}");
    }
    cluster.set_tls(&leaf).unwrap();
    victim.is_untouched();
    assert_eq!(ask(&cluster, "SHOW ssl"), ["on"]);
    let key = fs::symlink_metadata(cluster.data_dir().join("tls.key")).unwrap();
    assert_eq!((key.is_file(), key.mode() & 0o777), (true, 0o600));
}

/// A process that plants links as the server's user until it is dropped.
struct Attacker(Child);

impl Attacker {
    /// `$1` is the prefix of the directories of all clusters of this process. The other arguments are pairs of a name in
    /// them and the target of the link. A link within `data` is made when `initdb` has made the file that it replaces:
    /// `initdb` refuses a directory that is not empty.
    const SCRIPT: &'static str = r#"
begin=$1
shift
while :; do
    for home in "$begin"*; do
        for pair in "$@"; do
            path=$home/${pair%%=*}
            [ "${path##*/data/}" = "$path" ] || [ -e "$path" ] || continue
            [ -L "$path" ] || ln -sf -- "${pair#*=}" "$path"
        done
    done
done
"#;

    fn start(owner: &fs::Metadata, pairs: &[(&str, &Victim)]) -> Self {
        let begin = std::env::temp_dir().join(format!("pgbell-{}-", std::process::id()));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", Self::SCRIPT, "sh"]).arg(begin);
        command
            .args(pairs.iter().map(|(name, victim)| format!("{name}={}", victim.path.display())));
        command.uid(owner.uid()).gid(owner.gid()).current_dir("/").stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server's user runs a program while root starts a cluster. The names of the files are predictable.
#[test]
fn links_that_are_planted_during_a_start_do_not_overwrite_files_of_root() {
    if !is_root() {
        return;
    }
    let owner = {
        let cluster = Cluster::start().unwrap();
        fs::metadata(cluster.data_dir()).unwrap()
    };
    let names = ["init.sql", "log", "openssl.cnf", "data/pg_hba.conf"];
    let victims = names.map(|name| Victim::new(&format!("start-{}", name.replace('/', "-"))));
    let pairs: Vec<_> = names.into_iter().zip(&victims).collect();
    let attacker = Attacker::start(&owner, &pairs);
    // The server's own user may prevent the start. The test checks what root writes during it.
    let _ = Cluster::builder().timeout(Duration::from_secs(20)).start();
    drop(attacker);
    victims.iter().for_each(Victim::is_untouched);
}

/// Root may read the file, the server's user may not.
#[test]
fn a_planted_link_does_not_copy_a_secret_into_the_data_directory() {
    let cluster = trusting().start().unwrap();
    let victim = Victim::new("conf");
    let conf = cluster.data_dir().join("postgresql.conf");
    assert!(plant(&cluster, &victim, &conf));
    let changed = cluster.set("work_mem", "5MB");
    victim.is_untouched();
    if is_root() {
        assert!(changed.is_err());
        let copied = fs::symlink_metadata(&conf).is_ok_and(|found| found.is_file())
            && fs::read_to_string(&conf).unwrap().contains(SECRET);
        assert!(!copied);
    }
}

/// The server's user can plant nothing in the directories of the log, of OpenSSL's configuration and of the SQL of the start.
#[test]
fn no_file_that_the_caller_writes_is_in_a_directory_of_the_server() {
    let cluster = trusting().start().unwrap();
    let data = cluster.data_dir();
    let home = data.parent().unwrap();
    let own = fs::metadata("/proc/self").unwrap().uid();
    let found = fs::metadata(home).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o022), (own, 0), "{home:?}");
    for entry in fs::read_dir(home).unwrap() {
        let entry = entry.unwrap();
        let found = entry.metadata().unwrap();
        assert!(found.is_dir() || found.uid() == own, "{entry:?}");
    }
    if !is_root() {
        return;
    }
    let victim = Victim::new("home");
    for name in ["init.sql", "log", "openssl.cnf", "pid", "data", "other"] {
        assert!(!plant(&cluster, &victim, &home.join(name)), "{name}");
    }
    cluster.restart().unwrap();
    victim.is_untouched();
}

/// A pipe in the place of a file would block its reader.
#[test]
fn a_planted_pipe_does_not_delay_the_end_of_a_cluster() {
    let cluster = trusting().start().unwrap();
    cluster.stop(pgbell_testkit::Mode::Fast).unwrap();
    let lock = cluster.data_dir().join("postmaster.pid");
    assert!(as_server(&cluster, "mkfifo", &[&lock]));
    drop(cluster);
    assert!(!lock.exists());
}

/// A user that can rename the outer directory can put another one in its place.
#[test]
fn a_cluster_of_root_refuses_a_directory_of_another_user() {
    if !is_root() {
        return;
    }
    let area = std::env::temp_dir().join(format!("pgbell-theirs-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o755).create(&area).unwrap();
    std::os::unix::fs::chown(&area, Some(65_534), None).unwrap();
    let started = trusting().data_parent(&area).start();
    fs::remove_dir_all(&area).unwrap();
    let error = started.unwrap_err().to_string();
    assert!(error.contains("another user can exchange"), "{error}");
}

const INSIDE: &str = "PGBELL_TEST_INSIDE";

/// The keys there belong to root, so no user of a server is involved.
#[test]
fn certificates_of_root_refuse_a_directory_of_another_user() {
    if !is_root() {
        return;
    }
    // The environment belongs to the whole process: the test runs in a process of its own.
    if let Some(area) = std::env::var_os(INSIDE) {
        let certificates = Certificates::new().unwrap();
        let root = certificates.authority("root").unwrap();
        let path = root.certificate().path();
        assert!(!path.starts_with(area), "{path:?}");
        return;
    }
    let test = "certificates_of_root_refuse_a_directory_of_another_user";
    let area = fs::canonicalize(std::env::temp_dir()).unwrap();
    let area = area.join(format!("pgbell-inside-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o755).create(&area).unwrap();
    std::os::unix::fs::chown(&area, Some(65_534), None).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(INSIDE, &area).env("TMPDIR", &area);
    let output = again.output().unwrap();
    fs::remove_dir_all(&area).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

/// Files of the caller with the same names as those in an outer directory.
struct Decoy(PathBuf);

impl Decoy {
    /// Creates directories that every user can empty, or only files.
    fn new(name: &str, with_dirs: bool) -> Self {
        let name = format!("pgbell-decoy-{}-{name}", std::process::id());
        let decoy = Self(std::env::temp_dir().join(name));
        fs::create_dir(&decoy.0).unwrap();
        fs::set_permissions(&decoy.0, Permissions::from_mode(0o755)).unwrap();
        for dir in ["data", "run"].iter().filter(|_| with_dirs) {
            let dir = decoy.0.join(dir);
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
            fs::write(dir.join("x"), SECRET).unwrap();
        }
        for file in ["log", "init.sql", "openssl.cnf"] {
            fs::write(decoy.0.join(file), SECRET).unwrap();
        }
        decoy
    }

    fn files(&self) -> Vec<PathBuf> {
        let names = ["data/x", "run/x", "log", "init.sql", "openssl.cnf"];
        names.iter().map(|name| self.0.join(name)).filter(|path| path.exists()).collect()
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Replaces directories by links as soon as their names are free, while the directories are dropped. The links
/// belong to the caller: the kernel may refuse to follow links of other users in `/tmp` (`fs.protected_symlinks`).
fn replace_during(homes: &[&Path], target: &Path, dropped: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for home in homes {
                    let _ = symlink(target, home);
                }
            }
        });
        dropped();
        until("the directories are replaced by links", || {
            homes
                .iter()
                .all(|home| fs::symlink_metadata(home).is_ok_and(|found| found.is_symlink()))
        });
        over.store(true, Ordering::Relaxed);
    });
    homes.iter().for_each(|home| fs::remove_file(home).unwrap());
}

/// Returns the directory of this process that contains a path.
fn home(path: &Path) -> PathBuf {
    let begin = format!("pgbell-{}-", std::process::id());
    let is_home = |dir: &&Path| {
        dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin))
    };
    path.ancestors().find(is_home).unwrap().to_owned()
}

/// Every user can see the name of an outer directory, and can use it when the directory is gone.
#[test]
fn a_link_in_the_place_of_a_dropped_directory_does_not_remove_files_of_the_caller() {
    for with_dirs in [true, false] {
        let decoy = Decoy::new("drop", with_dirs);
        let before = decoy.files();
        assert_eq!(before.len(), if with_dirs { 5 } else { 3 });

        let cluster = Cluster::start().unwrap();
        let dir = home(&cluster.data_dir());
        replace_during(&[&dir], &decoy.0, || drop(cluster));
        assert_eq!(decoy.files(), before, "a cluster, directories: {with_dirs}");

        for _ in 0..5 {
            let certificates = Certificates::new().unwrap();
            let root = certificates.authority("root").unwrap();
            let dir = home(root.certificate().path());
            replace_during(&[&dir], &decoy.0, || drop((certificates, root)));
            assert_eq!(decoy.files(), before, "certificates, directories: {with_dirs}");
        }
    }
}

/// The socket is in another directory, which is removed too.
#[test]
fn a_link_in_the_place_of_the_directory_of_the_socket_does_not_remove_files_of_the_caller() {
    let area = std::env::temp_dir().join(format!("pgbell-far-{}", std::process::id()));
    let parent = area.join("d".repeat(100));
    fs::create_dir_all(&parent).unwrap();
    for with_dirs in [true, false] {
        let decoy = Decoy::new("far", with_dirs);
        let before = decoy.files();
        let cluster = Cluster::builder().data_parent(&parent).start().unwrap();
        let homes = [home(&cluster.data_dir()), home(cluster.socket_dir().unwrap())];
        assert_ne!(homes[0], homes[1]);
        replace_during(&homes.each_ref().map(|home| &**home), &decoy.0, || drop(cluster));
        assert_eq!(decoy.files(), before, "directories: {with_dirs}");
    }
    fs::remove_dir_all(&area).unwrap();
}
