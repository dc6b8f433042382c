//! Every id of the catalogue of faults that this suite answers for, and where it is a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where an id is a test.
#[derive(Debug)]
enum Place {
    /// In this suite: the function's name begins with the id.
    Here,
    /// As these ids, which say the same.
    As(&'static [&'static str]),
    /// As these functions, in the library or in another suite.
    Tests(&'static [&'static str]),
    /// Not a matter of what a server says: what holds it instead.
    ByConstruction(&'static str),
    /// With what it is about, which stands elsewhere.
    With(&'static str),
}

use Place::{As, ByConstruction, Here, Tests, With};

const RECONNECT: Place =
    With("reconnecting: a listener has one session, its end is the error here");

/// Section 2, advisories, then the sections 3.1, 3.2, 3.3, 3.5, 3.6 and 3.10.
const CATALOGUE: &[(&str, Place)] = &[
    ("V1", Here),
    ("V2", RECONNECT),
    ("V3", As(&["T2"])),
    ("V4", As(&["E5"])),
    ("V5", As(&["T1"])),
    ("V6", As(&["T23", "I1"])),
    ("V7", Here),
    ("V8", As(&["F4", "T24"])),
    (
        "V9",
        ByConstruction("unsafe code is forbidden, and no buffer has the size that a server says"),
    ),
    ("V10", ByConstruction("the signature is compared by `Mac::verify_slice`, in constant time")),
    ("V11", Here),
    ("V12", Here),
    ("V13", Tests(&["parameters_are_bound_and_never_text", "only_the_double_quote_is_special"])),
    ("V14", As(&["I1", "I2", "I3", "I5", "I7"])),
    (
        "V15",
        Tests(&[
            "each_mode_welcomes_and_refuses_as_libpq_does",
            "a_host_is_known_by_its_names_alone",
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
    ("V28", Tests(&["no_text_panics", "no_error_repeats_a_password_wherever_it_stands"])),
    ("V29", With("dependencies: deny.toml, tests/dependencies.rs")),
    ("V30", Tests(&["what_is_not_done_is_refused_by_name_and_with_the_reason"])),
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
    ("T5", Here),
    ("T6", Here),
    (
        "T7",
        Tests(&[
            "direct_tls_needs_the_protocol_to_be_chosen",
            "another_protocol_is_refused_however_tls_began",
        ]),
    ),
    ("T8", Tests(&["a_host_is_known_by_its_names_alone", "the_host_counts_and_not_its_address"])),
    (
        "T9",
        Tests(&[
            "each_mode_welcomes_and_refuses_as_libpq_does",
            "hints_name_the_trap",
            "a_revoked_certificate_is_refused_with_and_without_its_host_checked",
            "a_list_that_cannot_be_read_is_an_error",
        ]),
    ),
    ("T10", Tests(&["servers_with_older_versions_are_refused_with_the_cure"])),
    (
        "T11",
        Tests(&[
            "an_end_without_a_goodbye_is_never_a_clean_one",
            "a_server_that_dies_under_tls_is_an_error_and_not_an_end",
        ]),
    ),
    (
        "T12",
        Tests(&[
            "a_goodbye_within_the_handshake_ends_it",
            "a_handshake_at_one_byte_a_second_waits_for_the_deadline",
            "floods_within_the_handshake_end_it",
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
    // Its path; who the server runs as is `a_server_of_another_account_is_refused_where_requirepeer_names_one`.
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
            "passwords_that_are_not_ascii_are_prepared_in_the_order_of_the_server",
            "the_bytes_are_those_that_libpq_hashes",
            "every_password_on_which_the_rfc_and_the_server_disagree_logs_in",
        ]),
    ),
    ("A20", Here),
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
    ("I8", ByConstruction("names are `&str`: bytes that are no UTF-8 cannot be given")),
    ("I9", Tests(&["a_refused_notification_fails_alone"])),
    ("L1", Here),
    ("L3", Here),
    ("L4", Tests(&["debug_shows_no_byte_of_a_password"])),
    ("L5", Tests(&["a_password_file_that_is_not_used_is_told_with_the_reason_and_no_content"])),
];

/// How many ids there are of each letter: a row that is lost is missed.
const COUNTS: [(char, usize); 8] =
    [('V', 31), ('F', 15), ('T', 23), ('A', 16), ('Q', 11), ('E', 9), ('I', 7), ('L', 4)];

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

/// `t26` and `i3` and `i5` of `i3_i5_names_that_are_none`.
fn ids(function: &str) -> impl Iterator<Item = String> {
    let is_id = |word: &&str| {
        let digits = word.get(1..).unwrap_or_default();
        word.starts_with(['a', 'e', 'f', 'i', 'l', 'q', 't', 'v'])
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
    let places: BTreeMap<&str, &Place> = CATALOGUE.iter().map(|(id, place)| (*id, place)).collect();
    assert_eq!(places.len(), CATALOGUE.len(), "an id stands twice");
    for (letter, count) in COUNTS {
        let found = places.keys().filter(|id| id.starts_with(letter)).count();
        assert_eq!(found, count, "{letter}");
    }
    let mut wrong = Vec::new();
    for (id, place) in CATALOGUE {
        let problem = match place {
            Here => (!tested.contains(*id)).then(|| "no test begins with it".to_owned()),
            As(others) => others
                .iter()
                .find(|other| !matches!(places.get(**other), Some(Here | Tests(_))))
                .map(|other| format!("{other} is no test")),
            Tests(functions) => functions
                .iter()
                .find(|function| !everywhere.contains(**function))
                .map(|function| format!("there is no {function}")),
            ByConstruction(reason) | With(reason) => {
                reason.is_empty().then(|| "no reason is given".to_owned())
            }
        };
        wrong.extend(problem.map(|problem| format!("{id}: {problem}")));
    }
    // And the other way round: what is tested here is in the table as such.
    for id in &tested {
        if !matches!(places.get(id.as_str()), Some(Here)) {
            wrong.push(format!("{id} is tested and the table does not say so"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
