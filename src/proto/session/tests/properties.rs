//! Random bytes of a server and random commands of a client.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// One input of a session.
#[derive(Debug, Clone)]
enum SessionInput {
    Bytes(Vec<u8>),
    Command(u8),
    /// This time in milliseconds passes.
    Time(u64),
    Compute,
    Eof,
    Terminate,
}

/// Returns a message that is well formed, and allowed in some state.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        AUTHENTICATION_OK,
        CLIENT_ENCODING,
        SERVER_VERSION,
        KEY,
        READY,
        A1,
        LISTEN,
        SELECT_1,
        COLUMN,
        ROW,
        ERROR,
        "5a 00000005 54",
        "43 0000000d 554e4c495354454e00",
        "49 00000004",
        "31 00000004",
        "32 00000004",
        "6e 00000004",
        "73 00000004",
        "47 00000007 00 0000",
        "48 00000007 00 0000",
        "64 00000006 780a",
        "63 00000004",
        "4e 00000019 535741524e494e4700 43303130303000 4d687500 00",
        "52 00000017 0000000a 534352414d2d5348412d32353600 00",
        "52 00000008 00000003",
        "52 0000000c 00000005 01020304",
        "76 0000000c 00030000 00000000",
    ];
    select(words.map(hex).to_vec())
}

/// Returns bytes of a server: mostly whole messages, sometimes malformed ones.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => word(),
        2 => Just(join(&PRELUDE)),
        2 => Just(join(&[LISTEN, READY])),
        2 => Just(join(&[COLUMN, ROW, SELECT_1, READY])),
        1 => vec(any::<u8>(), 0..40),
        1 => (word(), any::<Index>(), any::<u8>()).prop_map(|(mut word, at, byte)| {
            let at = at.index(word.len());
            word[at] = byte;
            word
        }),
        1 => (word(), any::<Index>()).prop_map(|(mut word, at)| {
            word.truncate(at.index(word.len()));
            word
        }),
    ]
}

fn step() -> impl Strategy<Value = SessionInput> {
    prop_oneof![
        10 => bytes().prop_map(SessionInput::Bytes),
        6 => (0..8_u8).prop_map(SessionInput::Command),
        1 => (0..6_000_u64).prop_map(SessionInput::Time),
        1 => Just(SessionInput::Compute),
        1 => Just(SessionInput::Eof),
        1 => Just(SessionInput::Terminate),
    ]
}

fn command(
    session: &mut Session,
    now: Instant,
    which: u8,
) -> Result<super::super::CommandId, Error> {
    match which {
        0 => session.listen(now, &["a"]),
        1 => session.listen(now, &["a", "b", "c"]),
        2 => session.unlisten(now, &["a"]),
        3 => session.unlisten_all(now),
        4 => session.simple_query(now, "SELECT 1"),
        5 => session.query(now, "SELECT $1", &[(25, Some("x"))]),
        6 => session.notify(now, "a", "b"),
        _ => session.listen(now, &["a", ""]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// There is no panic. Every accepted command is done exactly once. Only whole messages are sent.
    /// A failed session stays failed.
    #[test]
    fn no_bytes_and_no_commands_break_a_session(
        begin_ready in prop::bool::weighted(0.7),
        steps in vec(step(), 0..40),
        password in any::<bool>(),
    ) {
        let before = if begin_ready { join(&PRELUDE) } else { Vec::new() };
        let scene = if password { Scene::with_password() } else { Scene::new() };
        let mut play = Scene { before, ..scene }.begin();
        let mut taken = Vec::new();
        let mut terminated = false;
        for step in steps {
            match step {
                SessionInput::Bytes(bytes) => play.feed(&bytes),
                SessionInput::Command(which) => {
                    let ready = play.session.is_ready();
                    let id = command(&mut play.session, play.now, which);
                    prop_assert_eq!(id.is_ok(), ready && which != 7);
                    taken.extend(id.ok().map(|id| id.0));
                }
                SessionInput::Time(ms) => {
                    play.now += Duration::from_millis(ms);
                    if let Err(error) = play.session.handle_timeout(play.now) {
                        play.take_events();
                        play.end(&error);
                    }
                    let due = play.session.poll_timeout();
                    prop_assert!(due.is_none_or(|deadline| deadline > play.now));
                }
                SessionInput::Compute => prop_assert!(play.session.compute().is_ok()),
                SessionInput::Eof => drop(play.eof()),
                SessionInput::Terminate => {
                    play.session.terminate();
                    play.take_events();
                    terminated = true;
                }
            }
            play.write();
            play.sent_messages();
        }
        if !play.over {
            play.eof();
        }
        prop_assert!(terminated || play.log.iter().any(|line| line.starts_with("over: ")));
        let mut done: Vec<u64> = play
            .log
            .iter()
            .filter_map(|line| line.strip_prefix("done ")?.split(':').next()?.parse().ok())
            .collect();
        // In the order in which they were sent.
        prop_assert_eq!(&done, &taken);
        done.dedup();
        prop_assert_eq!(done.len(), taken.len());
    }

    /// Any split of a valid or invalid stream has the same result.
    #[test]
    fn any_split_of_a_stream_gives_the_same_events(
        words in vec(bytes(), 0..25),
        cuts in vec(any::<Index>(), 0..12),
        which in 0..3_u8,
    ) {
        let scene = match which {
            0 => Scene::new(),
            1 => Scene { pause: join(&PRELUDE).len(), before: Vec::new(), ..Scene::idle() },
            _ => Scene::after(|session, now| {
                for which in [0, 4, 5, 1, 2, 6] {
                    command(session, now, which).unwrap();
                }
            }),
        };
        let stream = words.concat();
        // The length of the quoted text of another protocol depends on what has arrived.
        let [whole, split] = [vec![&stream[..]], pieces(&stream, &cuts)].map(|pieces| {
            let (log, sent) = play(&scene, &pieces);
            let log: Vec<_> = log
                .iter()
                .map(|line| line.split(": it began with").next().unwrap_or(line).to_owned())
                .collect();
            // Reports of dropped notifications with nothing between them may be one or two.
            let mut log = log;
            log.dedup_by(|next, last| next == last && next.starts_with("dropped: "));
            (log, sent)
        });
        prop_assert_eq!(whole, split);
    }
}
