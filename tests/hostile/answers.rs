//! Faults Q of the catalogue in `tests/README.md`: which messages answer a command, and which do not.

use pgbell::testing::{Delivery, Script};
use pgbell::{Connection, ErrorKind, Listener};

use super::attack::{Attack, LISTEN, hex, message, runtime, to_listen, to_query, when_idle};
use super::client::{Action, check_text, soon, url};

const LISTENED: &str = "43 0000000b 4c495354454e00";
const SELECTED: &str = "43 0000000d 53454c454354203100";
const READY: &str = "5a 00000005 49";
const ERROR: &str = "45 00000017 534552524f5200 43343235303100 4d6e6f00 00";
const COPY_IN: &str = "47 00000007 00 0000";
const COPY_OUT: &str = "48 00000007 00 0000";
const TERMINATE: &str = "58 00000004";
/// Two columns.
const COLUMNS: &str = "54 0000002e 0002 6300 00000000 0000 00000019 ffff ffffffff 0000 \
                       6300 00000000 0000 00000019 ffff ffffffff 0000";

const QUERY: &[Action] = &[Action::Query("SELECT 'x'")];

fn join(parts: &[&str]) -> Vec<u8> {
    hex(&parts.concat())
}

#[test]
fn q1_a_request_for_data_is_refused_with_copy_fail_and_the_session_goes_on() {
    let fail = message(b'f', b"COPY FROM STDIN is not supported\0");
    let end = join(&[ERROR, READY]);
    let script = Script::ready().expect_message(b'Q').send_hex(COPY_IN).expect(&fail).send(&end);
    let script = script.send(Script::A1).expect_hex(TERMINATE).wait_for_eof();
    let actions = &[Action::Query("COPY t FROM STDIN"), Action::Receive(1), Action::Close];
    Attack::new(script, end.len() + Script::A1.len(), actions)
        .run(&["connect", "query: Server | ERROR: no (SQLSTATE 42501)", "close"], &["1 a b"]);
    // LISTEN transfers no data: this is a violation of the protocol.
    to_listen(&hex(COPY_IN), "Protocol | CopyInResponse does not belong to LISTEN");
    // The request is repeated: the client refuses once, then closes the connection.
    let script = Script::ready().expect_message(b'Q').send_hex(COPY_IN).expect(&fail);
    let attack = Attack::new(script.send_hex(COPY_IN).wait_for_eof(), 8, QUERY);
    attack.run(
        &[
            "connect",
            "query: InDoubt | CopyInResponse does not belong to a query",
            "over: Protocol | CopyInResponse does not belong to a query",
        ],
        &[],
    );
}

/// The result of a user's query may be as long as the server likes, COPY data like rows: what is refused is skipped, and the
/// user limits the time. LISTEN must not be answered with COPY data.
#[test]
fn q2_copied_data_is_skipped_however_much_it_is() {
    let data = message(b'd', &vec![b'x'; 1_500_000]).repeat(60);
    let end = join(&["63 00000004", SELECTED, READY]);
    let script = Script::ready().expect_message(b'Q').send_hex(COPY_OUT).send(&data).send(&end);
    let script = script.expect_hex(TERMINATE).wait_for_eof();
    let actions = &[Action::Query("COPY t TO STDOUT"), Action::Close];
    Attack::new(script, 0, actions)
        .splits(1..2)
        .run(&["connect", "query: Unsupported | COPY TO STDOUT is not supported", "close"], &[]);
    to_listen(&hex(COPY_OUT), "Protocol | CopyOutResponse does not belong to LISTEN");
    // With an end of the data it is skipped.
    let end = join(&["64 00000006 780a 63 00000004", SELECTED, READY]);
    let script = Script::ready().expect_message(b'Q').send_hex(COPY_OUT).send(&end);
    let script = script.expect_hex(TERMINATE).wait_for_eof();
    let actions = &[Action::Query("COPY t TO STDOUT"), Action::Close];
    Attack::new(script, end.len(), actions)
        .run(&["connect", "query: Unsupported | COPY TO STDOUT is not supported", "close"], &[]);
}

#[test]
fn q3_the_replication_protocol_is_refused() {
    let both = hex("57 00000007 00 0000");
    to_listen(&both, "Protocol | CopyBothResponse does not belong to LISTEN");
    to_query(&both, "Protocol | CopyBothResponse does not belong to a query");
    when_idle(&both, "Protocol | CopyBothResponse does not belong to an idle session");
}

/// Also V19.
#[test]
fn q5_a_row_that_is_shorter_than_its_description_is_refused() {
    for (row, values) in [
        ("44 00000006 0000", 0),
        ("44 0000000a 0001 ffffffff", 1),
        ("44 00000012 0003 ffffffff ffffffff ffffffff", 3),
    ] {
        let expect = format!("Protocol | DataRow has {values} values, RowDescription 2 columns");
        to_query(&join(&[COLUMNS, row]), &expect);
    }
    to_query(&hex("44 00000006 0000"), "Protocol | DataRow does not belong to a query");
    to_listen(&hex(COLUMNS), "Protocol | RowDescription does not belong to LISTEN");
}

/// Also V20.
#[test]
fn q6_a_value_of_a_negative_length_is_refused() {
    for (row, expect) in [
        ("44 0000000a 0001 fffffffe", "value length is -2"),
        ("44 0000000a 0001 80000000", "value length is -2147483648"),
        ("44 00000006 ffff", "value count is -1"),
        ("44 0000000a 0001 7fffffff", "value needs 2147483647 bytes"),
    ] {
        to_query(&join(&[COLUMNS, row]), &format!("Protocol | {expect}"));
    }
}

#[test]
fn q7_a_completion_of_another_command_is_refused() {
    let long = message(b'C', &[&vec![b'x'; 25_000][..], b"\0"].concat());
    let belongs = "CommandComplete does not belong to LISTEN";
    for (bytes, expect) in [
        (hex("49 00000004"), "EmptyQueryResponse does not belong to LISTEN"),
        (hex(SELECTED), belongs),
        (hex("43 00000005 00"), belongs),
        (long, belongs),
        (hex("43 0000000a 4c495354454e"), "tag is not ended by a NUL in CommandComplete"),
        (hex(READY), "ReadyForQuery came before the answer to LISTEN was complete"),
        (join(&[LISTENED, LISTENED]), belongs),
    ] {
        to_listen(&bytes, &format!("Protocol | {expect}"));
    }
}

#[test]
fn q9_a_completion_that_answers_no_command_is_refused() {
    when_idle(&hex(READY), "Protocol | ReadyForQuery does not belong to an idle session");
    when_idle(&hex(LISTENED), "Protocol | CommandComplete does not belong to an idle session");
    let twice = join(&[LISTENED, READY, READY]);
    let script = Script::ready().expect_message(b'Q').send(&twice).wait_for_eof();
    Attack::new(script, twice.len(), LISTEN).run(
        &["connect", "listen", "over: Protocol | ReadyForQuery does not belong to an idle session"],
        &[],
    );
}

#[test]
fn q10_one_refused_listen_refuses_its_batch_and_leaves_the_session_up() {
    let answer = join(&[LISTENED, ERROR, READY]);
    let script = Script::ready().expect_message(b'Q').send(&answer).expect_message(b'Q');
    let script = script.send(Script::ACK).send(Script::A1).expect_hex(TERMINATE).wait_for_eof();
    let actions = &[
        Action::Listen(&["a", "b", "c"]),
        Action::Listen(&["a"]),
        Action::Receive(1),
        Action::Close,
    ];
    let refused = "listen: Server | the server refused LISTEN: ERROR: no (SQLSTATE 42501)";
    let tail = answer.len() + Script::ACK.len() + Script::A1.len();
    Attack::new(script, tail, actions).run(&["connect", refused, "listen", "close"], &["1 a b"]);
    // After an error only ReadyForQuery may follow.
    let bytes = join(&[ERROR, LISTENED]);
    let expect = "Protocol | CommandComplete does not belong to LISTEN";
    let script = Script::ready().expect_message(b'Q').send(&bytes).wait_for_eof();
    // Which of the two errors the command fails with depends only on their order.
    let attack = Attack::new(script, bytes.len(), LISTEN);
    attack.run(&["connect", &format!("listen: {expect}"), &format!("over: {expect}")], &[]);
}

#[test]
fn q14_answers_of_the_extended_protocol_to_a_simple_query_are_refused() {
    for (bytes, name) in [
        ("31 00000004", "ParseComplete"),
        ("32 00000004", "BindComplete"),
        ("33 00000004", "CloseComplete"),
        ("6e 00000004", "NoData"),
        ("73 00000004", "PortalSuspended"),
        ("74 00000006 0000", "ParameterDescription"),
        ("56 00000008 ffffffff", "FunctionCallResponse"),
        ("64 00000004", "CopyData"),
        ("63 00000004", "CopyDone"),
        ("52 00000008 00000000", "Authentication"),
        ("76 0000000c 00030000 00000000", "NegotiateProtocolVersion"),
    ] {
        to_query(&hex(bytes), &format!("Protocol | {name} does not belong to a query"));
        to_listen(&hex(bytes), &format!("Protocol | {name} does not belong to LISTEN"));
    }
}

/// The query for the facts of the server, which every connection sends first, is answered like any other.
#[test]
fn an_invalid_answer_to_the_query_for_the_facts_of_the_server_is_refused() {
    let fatal = "45 0000001e 53464154414c00 56464154414c00 43353750303100 4d6e6f00 00";
    for (answer, expect) in [
        ("41 00000003", "connect: Protocol | length word 3 is below 11"),
        (READY, "connect: Protocol | ReadyForQuery came before the answer to a query was complete"),
        (LISTENED, "connect: Protocol | the query for the facts of the server has no valid answer"),
        (&[COLUMNS, "44 00000006 0000"].concat(), "connect: Protocol | DataRow has 0 values"),
        (fatal, "connect: Server | FATAL: no (SQLSTATE 57P01)"),
    ] {
        let end = if answer == LISTENED { READY } else { "" };
        let answer = join(&[answer, end]);
        let script = Script::let_in().expect_message(b'Q').send(&answer);
        Attack::new(script.close(), answer.len(), LISTEN).run(&[expect], &[]);
    }
}

/// The answer takes no memory: the number of rows is limited to limit the processor time.
#[test]
fn an_endless_answer_to_a_query_of_the_client_itself_ends_the_session_at_once() {
    let (no_columns, empty_row) = ("54 00000006 0000", "44 00000006 0000");
    let (empty_query, copied) = ("49 00000004", "64 00000004");
    runtime().block_on(async {
        for (begin, again) in
            [(no_columns, empty_row), ("", SELECTED), ("", empty_query), (COPY_OUT, copied)]
        {
            // The answer has no end: it continues for as long as the client is connected.
            let bytes = [hex(begin), hex(again).repeat(100)].concat();
            let script = Script::let_in().expect_message(b'Q').send(&bytes).wait_for_eof();
            for client in ["connection", "listener"] {
                let (address, task) = script.clone().serve(Delivery::Whole).await.unwrap();
                let url = format!("{}&connect_timeout=5", url(address));
                let error = match client {
                    "connection" => Connection::connect(&url).await.map(drop).unwrap_err(),
                    _ => Listener::connect(&url).await.map(drop).unwrap_err(),
                };
                check_text(&error);
                assert_eq!(error.kind(), ErrorKind::Protocol, "{client}, {again}: {error}");
                assert!(format!("{error:#}").contains("more rows"), "{client}, {again}: {error}");
                soon("script", task).await.unwrap().unwrap();
            }
        }
    });
}
