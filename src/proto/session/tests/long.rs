//! Messages that are longer than the receive buffer may grow for any message.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// The longest body of a message that is always taken whole.
const WHOLE: usize = 1024 * 1024 - 4;

/// Returns a row with one value.
fn row(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap().to_be_bytes();
    message(b'D', &[&[0, 1][..], &length, &vec![b'x'; bytes]].concat())
}

/// Returns an error or a notice with a message of this length, and fields before and after it.
fn diagnostic(tag: u8, severity: &str, bytes: usize) -> Vec<u8> {
    let fields = format!("S{severity}\0V{severity}\0C42501\0M{}\0Hhint\0\0", "x".repeat(bytes));
    message(tag, fields.as_bytes())
}

/// Returns the lines without their long texts.
fn short(log: &[String]) -> Vec<String> {
    let cut = |line: &String| {
        let x = line.matches('x').count();
        if x > 100 { format!("{} and {x} x", line.replace('x', "")) } else { line.clone() }
    };
    log.iter().map(cut).collect()
}

/// As [`check_bytes`], without the long texts.
fn check_long(scene: &Scene, bytes: &[u8], expect: &[&str]) {
    let whole = play(scene, &[bytes]);
    assert_eq!(short(&whole.0), expect);
    check_splits(scene, bytes, &whole);
}

const TOO_LARGE: &str = "done 0: unsupported: the result is larger than 67108864 bytes";

#[test]
fn a_row_that_is_longer_than_others_is_taken_up_to_the_limit_of_its_result() {
    let end = join(&[SELECT_1, READY, A1]);
    for bytes in [WHOLE - 6, WHOLE - 5, 1_100_000] {
        let stream = [hex(COLUMN), row(bytes), end.clone()].concat();
        let expect = [&format!("done 0: SELECT 1 [] and {bytes} x"), "A 1 a b"];
        check_long(&Scene::querying(), &stream, &expect);
        check_long(&Scene::binding(), &stream, &expect);
    }
    let mut play = Scene::querying().begin();
    play.feed(&hex(COLUMN));
    for part in row(60_000_000).chunks(1_000_000) {
        play.feed(part);
    }
    play.feed(&end);
    assert_eq!(short(&play.log), ["done 0: SELECT 1 [] and 60000000 x", "A 1 a b"]);
}

#[test]
fn a_row_above_the_limit_is_skipped_and_only_its_command_fails() {
    let mut play = Scene::querying().begin();
    play.session.simple_query(play.now, "SELECT 1").unwrap();
    play.feed(&hex(COLUMN));
    for part in row(70_000_000).chunks(100_000) {
        play.feed(part);
        assert!(play.input.is_empty(), "what is skipped is not kept");
    }
    play.feed(&join(&[ROW, SELECT_1, READY, COLUMN, ROW, SELECT_1, READY, A1]));
    assert_eq!(play.log, [TOO_LARGE, "done 1: SELECT 1 [x]", "A 1 a b"]);

    // The limit is for the sum, and can be set.
    let limited = |limit: usize| {
        let mut play = Scene::idle().begin();
        play.session.limit_results(limit);
        play.session.simple_query(play.now, "SELECT").unwrap();
        play.feed(
            &[hex(COLUMN), row(1_100_000), row(1_100_000), join(&[SELECT_1, READY])].concat(),
        );
        short(&play.log).join(" ")
    };
    assert_eq!(limited(3_000_000), "done 0: SELECT 1 [] [] and 2200000 x");
    for (limit, said) in [(2_000_000, 2_000_000), (1_000_000, 1_000_000), (0, 65_536)] {
        let expect = format!("done 0: unsupported: the result is larger than {said} bytes");
        assert_eq!(limited(limit), expect);
    }
}

#[test]
fn a_long_description_is_taken_or_skipped_with_its_rows() {
    let column =
        hex(&format!("{} 00 00000000 0000 00000019 ffff ffffffff 0000", "63".repeat(1_000)));
    let columns = 1_600_u16;
    let body = [&columns.to_be_bytes()[..], &column.repeat(columns.into())].concat();
    assert!(body.len() > WHOLE);
    let nulls = [&columns.to_be_bytes()[..], &[0xff; 4].repeat(columns.into())].concat();
    let stream =
        [message(b'T', &body), message(b'D', &nulls), join(&[SELECT_1, READY, A1])].concat();
    let (log, _) = play(&Scene::querying(), &[&stream]);
    assert_eq!(log.len(), 2);
    assert!(log[0].starts_with("done 0: SELECT 1 [NULL|NULL|"), "{}", log[0]);
    let mut play = Scene::idle().begin();
    play.session.limit_results(1_000_000);
    play.session.simple_query(play.now, "SELECT").unwrap();
    for byte in stream.chunks(1) {
        play.feed(byte);
        assert!(play.input.len() < 10_000);
    }
    assert_eq!(
        play.log,
        ["done 0: unsupported: the result is larger than 1000000 bytes", "A 1 a b"]
    );
}

#[test]
fn an_error_that_is_very_long_is_the_answer_to_its_command_and_its_end_is_cut() {
    let end = join(&[READY, A1]);
    // The fields before the text count too.
    let kept = WHOLE - b"SERROR\0VERROR\0C42501\0M".len();
    for bytes in [WHOLE, 5_000_000] {
        let stream = [diagnostic(b'E', "ERROR", bytes), end.clone()].concat();
        let refused = format!(
            "done 0: server error: the server refused the query: ERROR: … ({kept} bytes) \
             (SQLSTATE 42501) and {DISPLAYED} x"
        );
        let (log, _) = play(&Scene::querying(), &[&stream]);
        assert_eq!(short(&log), [&refused, "A 1 a b"]);
        for size in [1, 7, 4_096, 1_000_000] {
            // Byte by byte for the shorter one only.
            if size == 1 && bytes > WHOLE {
                continue;
            }
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(play(&Scene::querying(), &pieces).0, log, "in pieces of {size}");
        }
    }
    // As other errors: shortened if it answers no query, and the end of the session if it is FATAL.
    let long = diagnostic(b'E', "ERROR", 2_000_000);
    let listen = [&long[..], &end].concat();
    let (log, _) = play(&Scene::listening(), &[&listen]);
    assert!(log[0].starts_with("done 0: server error: the server refused LISTEN: ERROR: xxx"));
    assert!(log[0].ends_with("(SQLSTATE 42501)") && log[1] == "A 1 a b", "{log:?}");
    let (log, _) = play(&Scene::idle(), &[&[&long[..], &end].concat()]);
    assert!(log[0].starts_with("dropped: server error") && log[1] == "A 1 a b", "{log:?}");
    let fatal = diagnostic(b'E', "FATAL", 2_000_000);
    for scene in [Scene::idle(), Scene::listening(), Scene::authenticated()] {
        let (log, _) = play(&scene, &[&fatal]);
        let last = log.last().unwrap();
        assert!(last.starts_with("over: ") && last.contains("FATAL: xxx"), "{log:?}");
    }
}

/// The longest text that is shown.
const DISPLAYED: usize = 2_048;

#[test]
fn a_notice_that_is_very_long_has_no_effect() {
    let notice = diagnostic(b'N', "NOTICE", 5_000_000);
    let stream = [&hex(COLUMN)[..], &notice, &join(&[ROW, SELECT_1, READY]), &notice, &hex(A1)];
    let mut play = Scene::querying().begin();
    for part in stream.concat().chunks(10_000) {
        play.feed(part);
        assert!(play.input.len() <= WHOLE + 5);
    }
    assert_eq!(play.log, ["done 0: SELECT 1 [x]", "A 1 a b"]);
    let (count, last) = play.session.notices();
    assert_eq!(count, 2);
    let last = last.unwrap();
    assert_eq!((last.code(), last.message().len()), ("42501", 512));
}

/// `search_path` may be of any length, and PostgreSQL 18 reports it.
#[test]
fn a_parameter_that_is_very_long_is_kept_in_part() {
    let status = |name: &str, bytes: usize| {
        message(b'S', format!("{name}\0{}\0", "x".repeat(bytes)).as_bytes())
    };
    let stream = [status("search_path", 40_000), join(&[COLUMN, ROW, SELECT_1, READY])].concat();
    check_bytes(&Scene::querying(), &stream, &["done 0: SELECT 1 [x]"]);
    // Before the session is ready too.
    let login = [&status("search_path", 500_000)[..], &join(&PRELUDE[1..])].concat();
    check_bytes(&Scene::authenticated(), &login, &["ready"]);
    let mut play = Scene::authenticated().begin();
    play.feed(&login);
    assert_eq!(play.session.parameter("search_path").map(str::len), Some(1_024));
    // A very long encoding name is refused too.
    let encoding = status("client_encoding", 40_000);
    let (log, _) = super::play(&Scene::idle(), &[&encoding]);
    assert!(log[0].starts_with("over: unsupported: client_encoding is "), "{log:?}");
    let endless = "over: protocol violation: more than 1,000 messages or 1 MiB before \
                   the first ReadyForQuery";
    check(&Scene::authenticated(), &["53 00200000"], &[endless]);
    check(&Scene::authenticated(), &["4e 00200000"], &[endless]);
}

#[test]
fn copied_data_of_any_length_is_skipped() {
    let copy_out = "48 00000007 00 0000";
    let end = join(&["63 00000004", SELECT_1, READY, A1]);
    let refused = ["done 0: unsupported: COPY TO STDOUT is not supported", "A 1 a b"];
    let long = message(b'd', &vec![b'x'; 1_100_000]);
    check_bytes(&Scene::querying(), &[&hex(copy_out)[..], &long, &end].concat(), &refused);
    let mut play = Scene::querying().begin();
    play.feed(&hex(copy_out));
    for _ in 0..100 {
        play.feed(&long);
        play.feed(&message(b'd', &vec![b'x'; 1_000_000]));
        assert!(play.input.is_empty());
    }
    play.feed(&end);
    assert_eq!(play.log, refused);
}

/// Its header is enough; the rest is neither waited for nor kept.
#[test]
fn a_long_message_that_is_not_allowed_ends_the_session_at_its_header() {
    let broken = "over: protocol violation: ";
    let header = |tag: u8| [&[tag][..], &hex("04000000")].concat();
    let cases = [
        (Scene::idle(), "DTd", "an idle session"),
        (Scene::listening(), "DTd", "LISTEN"),
        (Scene::authenticated(), "DTd", "the startup"),
        (Scene::querying(), "Dd", "a query"),
        (Scene::binding(), "Dd", "a query with parameters"),
    ];
    for (scene, tags, during) in cases {
        for tag in tags.bytes() {
            let (log, _) = play(&scene, &[&header(tag)]);
            let last = log.last().unwrap();
            assert!(last.starts_with(broken), "{last}");
            assert!(last.ends_with(&format!("does not belong to {during}")), "{last}");
        }
    }
    // A second description, and any message after an error.
    for before in [COLUMN, ERROR] {
        let (log, _) = play(&Scene::querying(), &[&hex(before), &header(b'T')]);
        assert!(log.last().unwrap().ends_with("RowDescription does not belong to a query"));
    }
    // A type that no server sends is malformed.
    for (bytes, name) in
        [("43 00007531", "CommandComplete"), ("41 00040001", "NotificationResponse")]
    {
        let (log, _) = play(&Scene::querying(), &[&hex(bytes)]);
        assert!(log.last().unwrap().ends_with(name), "{log:?}");
    }
}

#[test]
fn a_long_message_that_is_malformed_ends_the_session() {
    let malformed = "over: protocol violation: ";
    let tail = vec![0; 1_100_000];
    for (tag, body) in [(b'E', &b"C42501\0\0"[..]), (b'N', b"\0"), (b'S', b"name\0value\0x")] {
        let stream = message(tag, &[body, &tail].concat());
        for scene in [Scene::idle(), Scene::querying()] {
            let (log, _) = play(&scene, &[&stream]);
            assert!(log.last().unwrap().starts_with(malformed), "{log:?}");
        }
    }
    let name = message(b'S', &[b'x'; 40_000]);
    let (log, _) = play(&Scene::idle(), &[&name]);
    assert!(
        log.last().unwrap().ends_with("parameter name is not ended by a NUL in ParameterStatus")
    );
    let rest = message(b'D', &[&[0, 1][..], &7_u32.to_be_bytes(), &vec![b'x'; 1_100_000]].concat());
    let (log, _) = play(&Scene::querying(), &[&hex(COLUMN), &rest]);
    assert!(log.last().unwrap().contains("more bytes in DataRow"), "{log:?}");
}

#[test]
fn the_end_of_the_stream_inside_a_skipped_message_is_reported_as_inside_a_message() {
    let mut play = Scene::querying().begin();
    play.feed(&hex(COLUMN));
    play.feed(&row(70_000_000)[..1_000_000]);
    assert!(play.input.is_empty());
    let error = play.eof();
    assert!(error.to_string().contains("in the middle of a message"), "{error}");
}

/// Returns an answer with long and short messages.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(hex(ROW)),
        Just(hex(A1)),
        Just(row(1_050_000)),
        Just(row(3_000_000)),
        Just(diagnostic(b'N', "NOTICE", 1_060_000)),
        Just(message(b'S', &[b"search_path\0", &[b'p'; 35_000][..], b"\0"].concat())),
        Just(message(b'd', &vec![b'x'; 1_060_000])),
        Just(diagnostic(b'E', "ERROR", 1_060_000)),
        Just(join(&[SELECT_1, COLUMN])),
    ];
    (vec(part, 0..6), prop::bool::ANY).prop_map(|(parts, copies)| {
        let begin = if copies { hex("48 00000007 00 0000") } else { hex(COLUMN) };
        [begin, parts.concat(), join(&[SELECT_1, READY, A1])].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_an_answer_with_long_messages_gives_the_same_events(
        stream in answer(),
        cuts in vec(any::<Index>(), 0..40),
        size in 1_000..200_000_usize,
    ) {
        let scene = Scene::after(|session, now| {
            session.limit_results(4_000_000);
            session.simple_query(now, "SELECT 'x'").unwrap();
            session.simple_query(now, "SELECT 'y'").unwrap();
        });
        let whole = play(&scene, &[&stream]);
        prop_assert!(play(&scene, &pieces(&stream, &cuts)) == whole);
        let even: Vec<&[u8]> = stream.chunks(size).collect();
        prop_assert!(play(&scene, &even) == whole);
    }
}
