//! The programs of the README and of two chapters of the guide, in a crate of their own, with the dependencies that the commands of the
//! README add. They compile, and their output is readable.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgbell::Connection;
use pgbell_testkit::Auth;

use crate::support::{Server, TEST_TIMEOUT, run_for, value};

const README: &str = include_str!("../../README.md");

/// The pages whose programs are compiled: what a new user copies first.
const PAGES: [&str; 3] = [
    README,
    include_str!("../../src/guide/losing_nothing.md"),
    include_str!("../../src/guide/connecting.md"),
];

/// The path of this repository, seen from the crate of the programs.
const REPOSITORY: &str = "../pgbell";

/// The database in the URLs of the README.
const DATABASE: &str = "shop";

const PASSWORD: &str = "pl4nted bob";

/// The time limit for a cold build of the dependencies on a busy machine, and for the programs.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(600);

/// Returns the contents of the blocks of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let (mut is_inside, mut is_wanted) = (false, false);
    for line in page.lines() {
        if let Some(info) = line.strip_prefix("```") {
            is_inside = !is_inside;
            is_wanted = is_inside && info.split(',').next() == Some(language);
            if is_wanted {
                blocks.push(String::new());
            }
        } else if is_wanted {
            // `rustdoc` hides these lines, and compiles them.
            let code = line.strip_prefix("# ").unwrap_or(line);
            blocks.last_mut().unwrap().push_str(&format!("{code}\n"));
        }
    }
    blocks
}

/// Returns a Rust block as a complete program.
fn program(block: &str) -> String {
    if block.contains("fn main()") {
        return block.to_owned();
    }
    assert!(block.contains("async fn example()"), "neither `main` nor `example`:\n{block}");
    format!("{block}\n#[tokio::main]\nasync fn main() {{\n    example().await.unwrap();\n}}\n")
}

/// A crate outside the repository, which is removed at the end.
struct Crate {
    dir: PathBuf,
    target: PathBuf,
}

impl Crate {
    fn new(programs: &[String]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = std::env::temp_dir().join(format!("pgbell-readme-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&dir).unwrap();
        // Dependencies that the other tests have built are not built again.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
        let own = Self { dir, target };
        let package = "[package]\nname = \"pgbell-readme\"\nedition = \"2024\"\n";
        fs::write(own.dir.join("Cargo.toml"), package).unwrap();
        fs::copy(root.join("Cargo.lock"), own.dir.join("Cargo.lock")).unwrap();
        fs::create_dir_all(own.dir.join("src/bin")).unwrap();
        for (number, program) in programs.iter().enumerate() {
            let file = format!("src/bin/{}.rs", Self::name(number));
            fs::write(own.dir.join(file), program).unwrap();
        }
        own.add_dependencies(root);
        own
    }

    /// Runs the commands of the README that add dependencies, without a network.
    fn add_dependencies(&self, root: &Path) {
        let commands = blocks(README, "console").concat();
        let adding: Vec<&str> =
            commands.lines().filter_map(|line| line.strip_prefix("cargo add ")).collect();
        assert_eq!(adding.len(), 2, "{commands}");
        assert!(commands.contains(REPOSITORY), "{commands}");
        for words in adding {
            let words = words.replace(REPOSITORY, root.to_str().unwrap());
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["add", "--offline"]).args(words.split(' ')).current_dir(&self.dir);
            let output = cargo.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    fn name(number: usize) -> String {
        format!("pgbell-readme-{number}")
    }

    fn build(&self) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--offline", "--bins"]).current_dir(&self.dir);
        let output = cargo.env("CARGO_TARGET_DIR", &self.target).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a program. Environment variables give what the URL of the README does not contain.
    fn run(&self, number: usize, port: u16) -> Running {
        let name = Self::name(number);
        let shown = self.dir.join(format!("{name}.txt"));
        let file = File::create(&shown).unwrap();
        let mut command = Command::new(self.target.join("debug").join(name));
        command.env_clear().env("HOME", &self.dir).env("PGPORT", port.to_string());
        command.envs([("PGUSER", "bob"), ("PGPASSWORD", PASSWORD)]).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Running { child: command.spawn().unwrap(), shown }
    }
}

impl Drop for Crate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A program and the file that it prints to.
struct Running {
    child: Child,
    shown: PathBuf,
}

impl Running {
    /// Sends numbered notifications until the program prints a line with the words. No line may be a debug dump.
    async fn prints(
        &mut self,
        sender: &mut Connection,
        word: &str,
        expected: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = tokio::time::Instant::now() + TEST_TIMEOUT;
        for number in 0.. {
            let shown = fs::read_to_string(&self.shown).unwrap();
            assert!(!shown.lines().any(is_dump), "a dump is printed:\n{shown}");
            if let Some(line) = shown.lines().find(|line| expected(line)) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}:\n{shown}");
            assert!(tokio::time::Instant::now() < deadline, "{word} is not printed:\n{shown}");
            sender.notify("orders", &format!("{word} {number}")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("the deadline is over");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether a line contains a part of `{:?}` output: a type name before a parenthesis or brace, or an internal
/// field.
fn is_dump(line: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let opens = |opening: &str| {
        line.match_indices(opening).any(|(at, _)| {
            let before = &line[..at];
            let name = &before[before.trim_end_matches(is_word).len()..];
            name.starts_with(|c: char| c.is_ascii_uppercase())
        })
    };
    opens("(") || opens(" {") || ["Mutex", "Facts"].iter().any(|word| line.contains(word))
}

#[test]
fn a_line_that_dumps_a_value_is_recognised() {
    for line in [
        "read the state again: Gap(Gap(Facts { cause: Error, refused: Mutex { data: [] } }))",
        "orders: Some(\"7\")",
        "Notification { channel: \"orders\" }",
        "poisoned: Mutex",
    ] {
        assert!(is_dump(line), "{line}");
    }
    for line in [
        "orders: {\"id\": 1}",
        "2 orders are open",
        "notifications may be missing here: FATAL: terminating (1 session lost, for 0.1 s, 1 attempt)",
    ] {
        assert!(!is_dump(line), "{line}");
    }
}

#[test]
fn the_programs_of_the_readme_compile_in_a_crate_of_their_own_and_print_what_a_person_can_read() {
    run_for(PROGRAM_TIMEOUT, async {
        let blocks = PAGES.iter().flat_map(|page| blocks(page, "rust"));
        let programs: Vec<String> = blocks.map(|block| program(&block)).collect();
        let own = Crate::new(&programs);
        own.build();

        let server = Server::with(|builder| {
            builder
                .auth(Auth::ScramSha256)
                .init_sql(format!("CREATE ROLE bob LOGIN PASSWORD '{PASSWORD}'"))
                .init_sql(format!("CREATE DATABASE {DATABASE} OWNER bob"))
        });
        let cluster = &server.cluster;
        let url = cluster.url(cluster.superuser(), cluster.superuser_password(), DATABASE);
        let mut admin = Connection::connect(url).await.unwrap();
        let orders = "CREATE TABLE orders AS SELECT 7 AS id, false AS done";
        admin.simple_query(&format!("{orders}; GRANT SELECT ON orders TO bob")).await.unwrap();

        let prints = |program: &String| program.contains("println!");
        let printing = programs.iter().enumerate().filter(|(_, program)| prints(program));
        let mut runs = 0;
        for (number, program) in printing {
            // The first program also prints the channel, and sends a notification itself. The other one reads the state.
            let is_whole = program.contains("n.channel()");
            let channel = if is_whole { "orders: " } else { "" };
            let own_line = if is_whole { "orders: {\"id\": 1}" } else { "1 orders are open" };
            let mut running = own.run(number, cluster.port());
            running.prints(&mut admin, "before", |line| line == own_line).await;
            let before = format!("{channel}before ");
            running.prints(&mut admin, "before", |line| line.starts_with(&before)).await;
            let sql = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE usename = 'bob'";
            assert_eq!(value(&mut admin, sql).await, "t");
            let words = "notifications may be missing here: ";
            let gap = running.prints(&mut admin, "gap", |line| line.contains(words)).await;
            for words in ["terminating connection due to administrator command", "1 session lost"] {
                assert!(gap.contains(words), "{gap}");
            }
            let after = format!("{channel}after ");
            running.prints(&mut admin, "after", |line| line.starts_with(&after)).await;
            runs += 1;
        }
        assert_eq!(runs, 2, "the programs that print");
    });
}
