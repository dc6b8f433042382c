//! Every id of the catalogue of faults that this suite covers, and the place of its test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where an id is tested.
#[derive(Debug)]
enum TestPlace {
    /// The test is in this suite. The name of its function begins with the id.
    Here,
    /// Like these ids, which have the same meaning.
    As(&'static [&'static str]),
    /// The tests are these functions, in the library or in another suite.
    Tests(&'static [&'static str]),
    /// There is no test: the given reason makes the fault impossible.
    ByConstruction(&'static str),
    /// It is tested with the feature that it is about, elsewhere.
    With(&'static str),
}

use TestPlace::{As, ByConstruction, Here, Tests, With};

/// The faults, in the order of `tests/README.md`.
const CATALOGUE: &[(&str, TestPlace)] = &[
    ("V1", Here),
    ("V2", Here),
    ("V3", As(&["T2"])),
    ("V4", As(&["E5"])),
    ("V5", As(&["T1"])),
    ("V6", As(&["T23", "I1"])),
    ("V7", Here),
    ("V8", As(&["F4", "T24"])),
    (
        "V9",
        ByConstruction("unsafe code is forbidden, and no buffer has a size that a server sends"),
    ),
    ("V10", ByConstruction("the signature is compared by `Mac::verify_slice`, in constant time")),
    ("V11", Here),
    ("V12", Here),
    ("V13", Tests(&["parameters_are_bound_and_never_text", "only_the_double_quote_is_escaped"])),
    ("V14", As(&["I1", "I2", "I3", "I5", "I7"])),
    (
        "V15",
        Tests(&[
            "each_mode_accepts_the_same_servers_as_libpq",
            "a_host_is_compared_with_the_alternative_names",
        ]),
    ),
    ("V16", As(&["A12", "A13"])),
    ("V17", As(&["A17"])),
    ("V18", As(&["A6"])),
    ("V19", As(&["Q5"])),
    ("V20", As(&["Q6"])),
    ("V21", As(&["F4", "F5"])),
    ("V22", As(&["F1", "F2", "F3", "F4", "F5"])),
    ("V23", As(&["A5"])),
    ("V24", As(&["E4"])),
    ("V25", As(&["T24"])),
    ("V26", As(&["A18"])),
    ("V27", As(&["A4", "A19"])),
    ("V28", Tests(&["no_text_panics", "no_error_repeats_a_password_at_any_position"])),
    ("V29", With("dependencies: deny.toml, tests/dependencies.rs")),
    ("V30", Tests(&["unsupported_parameters_are_refused_by_name_and_with_the_reason"])),
    ("V31", As(&["E7"])),
    ("F1", Here),
    ("F2", Here),
    ("F3", Here),
    ("F4", Here),
    ("F5", Here),
    ("F7", Here),
    ("F8", Here),
    ("F9", Here),
    ("F11", Here),
    ("F12", Here),
    ("F14", Here),
    ("F15", Here),
    ("F16", Here),
    ("F17", Here),
    ("F18", Here),
    ("T1", Here),
    ("T2", Here),
    ("T3", Here),
    ("T4", Here),
    ("T5", Here),
    ("T6", Here),
    (
        "T7",
        Tests(&[
            "with_direct_tls_the_server_must_choose_the_protocol",
            "another_protocol_is_refused_with_and_without_direct_tls",
        ]),
    ),
    (
        "T8",
        Tests(&[
            "a_host_is_compared_with_the_alternative_names",
            "the_host_is_verified_and_not_its_address",
        ]),
    ),
    (
        "T9",
        Tests(&[
            "each_mode_accepts_the_same_servers_as_libpq",
            "the_hint_names_the_mistake",
            "a_revoked_certificate_is_refused_with_and_without_its_host_checked",
            "a_list_that_cannot_be_read_is_an_error",
        ]),
    ),
    ("T10", Tests(&["a_server_with_an_older_version_is_refused_with_a_hint"])),
    (
        "T11",
        Tests(&[
            "an_end_without_close_notify_is_an_error",
            "a_killed_server_under_tls_is_an_error_and_not_an_end_of_stream",
        ]),
    ),
    (
        "T12",
        Tests(&[
            "close_notify_ends_the_handshake",
            "a_handshake_at_one_byte_a_second_waits_for_the_deadline",
            "a_flood_of_messages_ends_the_handshake",
        ]),
    ),
    ("T14", Here),
    ("T16", Here),
    ("T17", Here),
    ("T18", Here),
    ("T19", Here),
    ("T21", Here),
    ("T22", Here),
    ("T23", Here),
    ("T24", Here),
    ("T26", Here),
    // The path of the socket. The account of the server: `a_server_of_another_account_is_refused_by_requirepeer`.
    ("T27", Here),
    ("T28", Here),
    ("A1", Here),
    ("A2", Here),
    ("A4", Here),
    ("A5", Here),
    ("A6", Here),
    ("A7", Here),
    ("A8", Here),
    ("A11", Here),
    ("A12", Here),
    ("A13", Here),
    ("A14", Here),
    ("A15", Here),
    ("A17", Here),
    ("A18", Tests(&["a_login_is_bound_to_certificates_that_are_signed_in_every_way"])),
    (
        "A19",
        Tests(&[
            "passwords_beyond_ascii_are_prepared_in_the_order_of_the_server",
            "the_prepared_bytes_are_those_that_libpq_hashes",
            "every_password_on_which_the_rfc_and_the_server_disagree_logs_in",
        ]),
    ),
    ("A20", Here),
    ("N1", As(&["V7"])),
    ("N2", Tests(&["notifications_up_to_the_limit_are_delivered"])),
    ("N4", Tests(&["notifications_between_any_two_messages_do_not_change_the_answer"])),
    ("N5", Here),
    ("N6", Tests(&["equal_payloads_of_two_transactions_across_a_handover_both_arrive"])),
    ("N7", Here),
    (
        "N9",
        Tests(&[
            "every_number_arrives_once_in_order_or_is_in_a_gap_whenever_the_backend_is_killed",
        ]),
    ),
    ("N11", With("subscribers: a listener has one, which gets every channel")),
    ("N12", Tests(&["ten_thousand_channels_are_restored_in_groups_within_three_round_trips"])),
    ("N13", Tests(&["an_own_notification_comes_before_its_command_is_done"])),
    ("R1", Here),
    (
        "R2",
        Tests(&[
            "a_listener_reconnects_after_every_kind_of_server_stop",
            "a_listener_reconnects_after_the_crash_of_another_backend_and_reports_the_reason",
        ]),
    ),
    (
        "R3",
        Tests(&[
            "every_number_arrives_once_in_order_or_is_in_a_gap_when_the_network_resets_at_any_byte",
        ]),
    ),
    ("R5", Here),
    ("R6", Here),
    ("R8", Here),
    ("R9", Tests(&["a_refused_channel_affects_no_other_channel_and_the_gap_names_it"])),
    ("R11", Tests(&["each_attempt_requests_the_password_again_and_the_old_one_is_not_used"])),
    ("R12", Tests(&["a_listener_is_closed_in_time_while_a_name_is_looked_up"])),
    ("R13", Tests(&["a_silent_server_leaves_time_for_the_next"])),
    ("R14", As(&["V2"])),
    ("R15", Here),
    ("R16", Tests(&["a_listener_is_not_ended_by_idle_session_timeout"])),
    (
        "R18",
        Tests(&[
            "ten_thousand_unread_flaps_are_one_gap_that_counts_them",
            "unread_flaps_with_notifications_between_take_no_more_than_the_queue_limit",
        ]),
    ),
    ("S1", Here),
    (
        "S2",
        Tests(&[
            "drop_newest_keeps_exactly_the_first_and_reports_the_rest",
            "drop_oldest_keeps_exactly_the_newest",
            "after_the_longest_stall_notifications_are_dropped_and_reported",
        ]),
    ),
    (
        "S3",
        Tests(&[
            "a_consumer_that_never_polls_leaves_the_servers_queue_empty_and_others_unaffected",
        ]),
    ),
    ("S6", Tests(&["no_mix_of_traffic_takes_more_memory_than_the_formula_says"])),
    ("S7", ByConstruction("an allocation that fails ends the process, as in every Rust program")),
    ("S8", Tests(&["views_that_a_consumer_keeps_cannot_exceed_the_maximum_of_buffers"])),
    (
        "D1",
        Tests(&["a_clean_end_sends_terminate_after_the_queued_bytes_and_answers_every_command"]),
    ),
    ("D3", Tests(&["d3_d5_a_listener_may_be_dropped_anywhere"])),
    ("D5", Tests(&["d3_d5_a_listener_may_be_dropped_anywhere"])),
    ("D6", ByConstruction("the standard library opens every socket with CLOEXEC")),
    ("H1", Tests(&["a_half_open_connection_in_one_or_both_directions_is_noticed_in_time"])),
    ("H3", Tests(&["a_stopped_backend_is_noticed_in_time"])),
    ("H4", As(&["H1"])),
    ("H5", Here),
    ("H6", Tests(&["a_starved_task_restarts_the_timeout_once"])),
    ("C1", ByConstruction("timers are those of the runtime, which are monotonic")),
    ("C3", Here),
    ("Q1", Here),
    ("Q2", Here),
    ("Q3", Here),
    ("Q5", Here),
    ("Q6", Here),
    ("Q7", Here),
    ("Q8", Here),
    ("Q9", Here),
    ("Q10", Here),
    ("Q13", Tests(&["five_thousand_channels_are_one_query_and_one_transaction"])),
    ("Q14", Here),
    ("E1", Here),
    ("E2", Here),
    ("E4", Here),
    ("E5", Here),
    ("E7", Here),
    ("E8", Here),
    ("E10", Here),
    ("E11", Here),
    ("E12", Here),
    ("I1", Here),
    ("I2", Here),
    ("I3", Here),
    ("I5", Here),
    ("I7", Here),
    ("I8", ByConstruction("names are `&str`: bytes that are not UTF-8 cannot be given")),
    ("I9", Tests(&["a_refused_notification_fails_alone"])),
    ("L1", Here),
    ("L3", Here),
    ("L4", Tests(&["debug_shows_no_byte_of_a_password"])),
    ("L5", Tests(&["the_hint_says_why_a_password_file_was_not_used_and_shows_no_content"])),
];

/// The number of ids of each letter, so that a missing row is found.
const COUNTS: [(char, usize); 14] = [
    ('V', 31),
    ('F', 15),
    ('T', 24),
    ('A', 16),
    ('N', 10),
    ('R', 14),
    ('S', 6),
    ('D', 4),
    ('H', 5),
    ('C', 2),
    ('Q', 11),
    ('E', 9),
    ('I', 7),
    ('L', 4),
];

/// The names of all functions in the directory.
fn functions(directory: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut stack: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                let rests = source.split("fn ").skip(1);
                names.extend(rests.map(|rest| {
                    rest.chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect::<String>()
                }));
            }
        }
    }
    names
}

/// The ids of a function: `t26`, and `i3` and `i5` of `i3_i5_invalid_names`.
fn ids(function: &str) -> impl Iterator<Item = String> {
    let is_id = |word: &&str| {
        let digits = word.get(1..).unwrap_or_default();
        word.starts_with(['a', 'c', 'd', 'e', 'f', 'h', 'i', 'l', 'n', 'q', 'r', 's', 't', 'v'])
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    function.split('_').take_while(is_id).map(str::to_uppercase)
}

#[test]
fn every_id_of_the_catalogue_is_a_test_or_says_where_it_is_one() {
    let here = functions("tests/hostile");
    let tested: BTreeSet<String> = here.iter().flat_map(|function| ids(function)).collect();
    let everywhere: BTreeSet<String> =
        ["src", "tests"].iter().flat_map(|directory| functions(directory)).collect();
    let places: BTreeMap<&str, &TestPlace> =
        CATALOGUE.iter().map(|(id, place)| (*id, place)).collect();
    assert_eq!(places.len(), CATALOGUE.len(), "an id is in the table twice");
    for (letter, count) in COUNTS {
        let found = places.keys().filter(|id| id.starts_with(letter)).count();
        assert_eq!(found, count, "{letter}");
    }
    let mut wrong = Vec::new();
    for (id, place) in CATALOGUE {
        let problem = match place {
            Here => {
                (!tested.contains(*id)).then(|| "no test has a name that begins with it".to_owned())
            }
            As(others) => others
                .iter()
                .find(|other| !matches!(places.get(**other), Some(Here | Tests(_))))
                .map(|other| format!("{other} is not a test")),
            Tests(functions) => functions
                .iter()
                .find(|function| !everywhere.contains(**function))
                .map(|function| format!("there is no {function}")),
            ByConstruction(reason) | With(reason) => {
                reason.is_empty().then(|| "the reason is empty".to_owned())
            }
        };
        wrong.extend(problem.map(|problem| format!("{id}: {problem}")));
    }
    // The reverse check: an id that is tested here is in the table as such.
    for id in &tested {
        if !matches!(places.get(id.as_str()), Some(Here)) {
            wrong.push(format!("{id} is tested, and the table names another place"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
