//! Clusters that are made from cached data directories, and directories that are refused.

mod common;

use std::fs::{self, DirBuilder, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{ask, trusting, until};
use pgbell_testkit::Installation;

/// A directory of this test, which contains a directory for templates.
struct Area(PathBuf);

impl Area {
    fn new(name: &str) -> Self {
        let area = std::env::temp_dir().join(format!("pgbell-{name}-{}", std::process::id()));
        DirBuilder::new().mode(0o755).create(&area).unwrap();
        DirBuilder::new().mode(0o700).create(area.join("templates")).unwrap();
        Self(area)
    }

    fn templates(&self) -> PathBuf {
        self.0.join("templates")
    }

    /// Returns the names of finished and of unfinished templates.
    fn found(&self) -> (Vec<String>, Vec<String>) {
        let entries = fs::read_dir(self.templates()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.partition(|name| name.ends_with(".tar"))
    }

    /// Returns the path of the only template.
    fn only(&self) -> PathBuf {
        let (finished, unfinished) = self.found();
        assert_eq!((finished.len(), unfinished.len()), (1, 0));
        self.templates().join(&finished[0])
    }

    /// Returns the program, which makes its cluster from a template that the environment names.
    fn program(&self) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pgbell-testkit"));
        program.env("PGBELL_TEMPLATE_DIR", self.templates());
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        program
    }

    /// Replaces `tar` by a shell script.
    fn replace_tar(&self, program: &mut Command, script: &str) {
        let dir = self.0.join("bin");
        DirBuilder::new().mode(0o755).create(&dir).unwrap();
        fs::write(dir.join("tar"), script).unwrap();
        fs::set_permissions(dir.join("tar"), Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        program.env("PATH", format!("{}:{path}", dir.display()));
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns whether the tests run as root. Prints a message if not.
#[expect(clippy::print_stderr, reason = "a skipped test prints a message")]
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("skipped: only root has directories of other users");
    }
    is_root
}

/// Returns the system identifier. Clusters of the same template have the same one.
fn system_identifier(data: &Path) -> Vec<u8> {
    fs::read(data.join("global/pg_control")).unwrap()[..8].to_vec()
}

/// Returns the data directory of the only cluster of a process, once it is ready.
fn data_of(child: &mut Child) -> PathBuf {
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("postgresql://"), "{url:?}: see standard error for the reason");
    let temporary = fs::canonicalize(std::env::temp_dir()).unwrap();
    temporary.join(format!("pgbell-{}-0/data", child.id()))
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Returns owner and mode of everything in a directory.
fn rights(dir: &Path) -> Vec<(u32, u32)> {
    let found = fs::symlink_metadata(dir).unwrap();
    let mut rights = vec![(found.uid(), found.mode())];
    if found.is_dir() {
        let entries = fs::read_dir(dir).unwrap();
        rights.extend(entries.flat_map(|entry| self::rights(&entry.unwrap().path())));
    }
    rights.sort_unstable();
    rights.dedup();
    rights
}

#[test]
fn clusters_of_one_template_are_independent() {
    let area = Area::new("independent");
    let start = || trusting().template_dir(area.templates()).start().unwrap();
    let first = start();
    let made = fs::metadata(area.only()).unwrap();
    assert_eq!(made.mode() & 0o7777, 0o600);
    assert_eq!(made.uid(), fs::metadata("/proc/self").unwrap().uid());
    ask(&first, "CREATE TABLE kept AS SELECT 7 AS n");

    let second = start();
    assert_eq!(fs::metadata(area.only()).unwrap().ino(), made.ino(), "made again");
    let [one, two] = [&first, &second].map(|cluster| system_identifier(&cluster.data_dir()));
    assert_eq!(one, two, "not made from the template");
    assert_eq!(ask(&second, "SELECT to_regclass('kept') IS NULL"), ["t"]);
    ask(&second, "CREATE TABLE kept AS SELECT 8 AS n");
    assert_eq!(ask(&first, "SELECT n FROM kept"), ["7"]);
    assert_ne!(first.superuser_password(), second.superuser_password());

    let without = trusting().start().unwrap();
    let [plain, copied] = [&without, &second].map(|cluster| rights(&cluster.data_dir()));
    assert_eq!(plain, copied);
    assert!(copied.iter().all(|(uid, mode)| *uid != 0 && mode & 0o077 == 0), "{copied:?}");
}

#[test]
fn each_encoding_and_version_has_a_template_of_its_own() {
    let area = Area::new("options");
    let start = || trusting().template_dir(area.templates());
    let first = start().start().unwrap();
    let ascii = start().encoding("SQL_ASCII").start().unwrap();
    assert_eq!(ask(&ascii, "SHOW server_encoding"), ["SQL_ASCII"]);
    let matrix = Installation::matrix().unwrap_or_else(|error| panic!("{error}"));
    let oldest = start().installation(matrix[0].clone()).start().unwrap();
    assert_eq!(oldest.major(), 13);
    let [a, b, c] = [&first, &ascii, &oldest].map(|one| system_identifier(&one.data_dir()));
    assert!(a != b && a != c && b != c);
    let (finished, unfinished) = area.found();
    assert_eq!((finished.len(), unfinished.len()), (3, 0));
}

/// One user could put a command into it that the server of the other user runs.
#[test]
fn a_template_of_one_user_is_not_used_by_another_one() {
    if !is_root() {
        return;
    }
    let area = Area::new("users");
    for count in 1..=2 {
        let mut program = area.program();
        if count == 2 {
            program.env("PGBELL_TEST_USER", "nobody");
        }
        let mut child = program.spawn().unwrap();
        data_of(&mut child);
        end(child);
        assert_eq!(area.found().0.len(), count);
    }
}

#[test]
fn processes_that_make_the_same_template_keep_one() {
    let area = Area::new("race");
    let mut children = [(), (), ()].map(|()| area.program().spawn().unwrap());
    children.iter_mut().for_each(|child| drop(data_of(child)));
    children.into_iter().for_each(end);
    let kept = fs::metadata(area.only()).unwrap().ino();
    // The template is complete.
    let mut later = [(), ()].map(|()| area.program().spawn().unwrap());
    let data = later.each_mut().map(data_of);
    assert_eq!(system_identifier(&data[0]), system_identifier(&data[1]));
    later.into_iter().for_each(end);
    assert_eq!(fs::metadata(area.only()).unwrap().ino(), kept);
}

#[test]
fn a_template_of_a_killed_process_is_not_used() {
    let area = Area::new("killed");
    let fifo = area.0.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut program = area.program();
    // The script writes a part, and waits.
    let script = "#!/bin/sh\nprintf part\nexec /bin/sh -c 'read -r line <\"$0\"' FIFO \"$@\"\n";
    area.replace_tar(&mut program, &script.replace("FIFO", fifo.to_str().unwrap()));
    let mut child = program.spawn().unwrap();
    let parts = || {
        let (finished, unfinished) = area.found();
        assert_eq!(finished, Vec::<String>::new());
        unfinished.into_iter().map(|name| area.templates().join(name)).collect::<Vec<_>>()
    };
    let has_part = |path: &PathBuf| fs::read(path).is_ok_and(|found| found == b"part");
    until("a part is written", || parts().iter().any(has_part));
    child.kill().unwrap();
    child.wait().unwrap();
    let home = fs::canonicalize(std::env::temp_dir()).unwrap();
    let home = home.join(format!("pgbell-{}-0", child.id()));
    until("the directory of the cluster is gone", || !home.exists());
    let part = parts();
    assert_eq!(part.len(), 1);

    let cluster = trusting().template_dir(area.templates()).start().unwrap();
    assert_eq!(ask(&cluster, "SELECT 7"), ["7"]);
    assert!(has_part(&part[0]));
    assert_eq!(area.found().0.len(), 1);
}

#[test]
fn a_template_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let area = Area::new("unwritten");
    let mut program = area.program();
    area.replace_tar(&mut program, "#!/bin/sh\nprintf part\necho 'no space' >&2\nexit 2\n");
    let output = program.stderr(Stdio::piped()).output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && printed.contains("no space"), "{printed}");
    assert_eq!(area.found(), (Vec::new(), Vec::new()));
}

#[test]
fn a_directory_of_templates_that_others_can_enter_is_refused() {
    let area = Area::new("refused");
    let dir = area.templates();
    let refused = |dir: &Path| trusting().template_dir(dir).start().unwrap_err().to_string();
    for mode in [0o770, 0o720, 0o701, 0o1777] {
        fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        let error = refused(&dir);
        assert!(error.contains("is not a directory that only the caller can use"), "{error}");
        assert!(error.contains(&format!("mode {mode:o}")), "{error}");
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    let file = area.0.join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&file).contains("is not a directory"), "{}", refused(&file));
    let missing = refused(&area.0.join("missing"));
    assert!(missing.contains("cannot find the directory"), "{missing}");
    assert!(!area.0.join("missing").exists());

    if is_root() {
        chown(&dir, Some(65_534), None).unwrap();
        let error = refused(&dir);
        assert!(error.contains("(owner 65534, mode 700)"), "{error}");
        chown(&dir, Some(0), None).unwrap();
        // The name of the directory is not safe.
        chown(&area.0, Some(65_534), None).unwrap();
        let error = refused(&dir);
        assert!(error.contains("another user can exchange the templates"), "{error}");
        chown(&area.0, Some(0), None).unwrap();
    }
    assert_eq!(area.found(), (Vec::new(), Vec::new()));
}

#[test]
fn a_template_that_others_can_write_to_is_refused() {
    let area = Area::new("foreign");
    let start = || trusting().template_dir(area.templates()).start();
    drop(start().unwrap());
    let template = area.only();
    let refused = || start().unwrap_err().to_string();
    fs::set_permissions(&template, Permissions::from_mode(0o620)).unwrap();
    let error = refused();
    assert!(error.contains("is not a file that only the caller can use"), "{error}");
    fs::set_permissions(&template, Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        chown(&template, Some(65_534), None).unwrap();
        let error = refused();
        assert!(error.contains("(owner 65534, mode 600)"), "{error}");
        chown(&template, Some(0), None).unwrap();
    }
    // A link, and a pipe, which would block its reader.
    let elsewhere = area.0.join("elsewhere");
    fs::rename(&template, &elsewhere).unwrap();
    symlink(&elsewhere, &template).unwrap();
    assert!(refused().contains("cannot open"), "{}", refused());
    fs::remove_file(&template).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&template).status().unwrap().success());
    assert!(refused().contains("is not a file"), "{}", refused());
    // A truncated template is not used either.
    fs::remove_file(&template).unwrap();
    let whole = fs::read(&elsewhere).unwrap();
    fs::write(&template, &whole[..whole.len() / 2]).unwrap();
    fs::set_permissions(&template, Permissions::from_mode(0o600)).unwrap();
    let error = refused();
    assert!(error.contains("tar, which unpacks") && error.contains(".tar, failed"), "{error}");
}
