//! Copies of a password in the memory of this process after a login.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;

use pgbell::{Config, Connection};
use zeroize::Zeroizing;

use crate::support::Server;

/// Passwords in a masked form, so that the search does not find itself.
const HIDDEN: [(&str, &[u8], &str); 2] = [
    (
        "long",
        &[
            42, 54, 110, 52, 46, 63, 62, 122, 51, 52, 122, 55, 63, 55, 53, 40, 35, 122, 59, 52, 62,
            122, 52, 53, 45, 50, 63, 40, 63, 122, 63, 54, 41, 63, 122, 109, 107, 99, 105,
        ],
        "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$BvBpFqqQ6MAN3Q4AMv2XVyz7knTWpNmvKN4/d8cpOrQ=:FYGy728QuR479inteWkr6QEw8UJ+jzpZS4lx5yAhg3Y=",
    ),
    (
        "short",
        &[42, 54, 110, 52, 46, 63, 62, 122, 109, 107, 99, 105, 34, 43],
        "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$deQc6PJsMdvw8vXFsxNwvpqVURe8ortK2C7l19Z8cM8=:HB0eZtqtrFc2CNGxWfYRDnNBfWc54fGPGSPp15gb44E=",
    ),
];

const MASK: u8 = 0x5a;

/// The length of a found part of a password, in bytes.
const PART_BYTES: usize = 10;

/// Returns every place in writable memory where a part of the password is found.
fn finds(hidden: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = File::open("/proc/self/mem").unwrap();
    let mut found = Vec::new();
    // The bytes are masked at once, so that later reads do not find them.
    let mut chunk = Zeroizing::new(vec![0; 1 << 16]);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let name = words.nth(3).unwrap_or("");
        if !rights.starts_with("rw") || name.starts_with("[v") {
            continue;
        }
        let (begin, end) = range.split_once('-').unwrap();
        let parse = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (parse(begin), parse(end));
        while at < end {
            let bytes = chunk.len().min(usize::try_from(end - at).unwrap());
            let chunk = &mut chunk[..bytes];
            memory.seek(SeekFrom::Start(at)).unwrap();
            if memory.read_exact(chunk).is_err() {
                break;
            }
            chunk.iter_mut().for_each(|byte| *byte ^= MASK);
            for part in hidden.windows(PART_BYTES).step_by(PART_BYTES) {
                for place in memmem(chunk, part) {
                    found.push(format!("{:#x} {name}", at + place as u64));
                }
            }
            // The chunks overlap: otherwise a match at their border is missed.
            at += (bytes - PART_BYTES.min(bytes - 1)) as u64;
            if bytes <= PART_BYTES {
                break;
            }
        }
    }
    found
}

fn memmem(text: &[u8], part: &[u8]) -> Vec<usize> {
    let first = part[0];
    let places = text.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(at, _)| at);
    places.filter(|at| text[*at..].starts_with(part)).collect()
}

/// A password file with one line, which ends with the password.
fn write_file(path: &std::path::Path, hidden: &[u8]) {
    let mut line = Zeroizing::new(Vec::with_capacity(100));
    line.extend_from_slice(b"*:*:*:*:");
    line.extend(hidden.iter().map(|byte| byte ^ MASK));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(&line).unwrap();
}

#[test]
fn no_copy_of_a_password_of_a_password_file_is_left_after_a_login() {
    let server = Server::with(|builder| {
        HIDDEN.iter().fold(builder, |builder, (role, _, stored)| {
            builder
                .hba(format!("host all {role} 127.0.0.1/32 scram-sha-256"))
                .hba(format!("host all {role}_clear 127.0.0.1/32 password"))
                .init_sql(format!(
                    "CREATE ROLE {role} LOGIN PASSWORD '{stored}'; \
                     CREATE ROLE {role}_clear LOGIN PASSWORD '{stored}'"
                ))
        })
    });
    let path = std::env::temp_dir().join(format!("pgbell-memory-{}", std::process::id()));
    let mut left = Vec::new();
    for (role, hidden, _) in HIDDEN {
        write_file(&path, hidden);
        assert_eq!(finds(hidden), Vec::<String>::new(), "the test itself leaves it");
        for role in [role.to_owned(), format!("{role}_clear")] {
            let config: Config = server.cluster.url(&role, None, "postgres").parse().unwrap();
            let config =
                config.passfile(path.to_str().unwrap()).require_auth("scram-sha-256,password");
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let connected =
                runtime.spawn(async move { Connection::connect(config).await.unwrap() });
            let connection = runtime.block_on(connected).unwrap();
            left.extend(finds(hidden).into_iter().map(|place| format!("{role}: {place}")));
            drop(connection);
            drop(runtime);
            left.extend(
                finds(hidden).into_iter().map(|place| format!("{role}, at the end: {place}")),
            );
        }
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(left, Vec::<String>::new());
}
