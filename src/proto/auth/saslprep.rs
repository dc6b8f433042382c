//! SASLprep in PostgreSQL's order, which differs from that of RFC 4013.
//!
//! The server prepared the password with its own `pg_saslprep` when the role was created. A client
//! that prepares it in another way computes other keys, and a correct password fails.
//!
//! ```text
//! ASCII only ─────────────────────────────────────────────► unchanged, control bytes too
//! not UTF-8 ──────────────────────────────────────────────► unchanged
//! map: C.1.2 spaces → U+0020, B.1 → nothing ── empty? ────► unchanged
//!   ├─ C.*, A.1 or bidi rule broken by the MAPPED text ───► unchanged
//!   └─ NFKC of the mapped text ───────────────────────────► prepared
//! ```

use std::borrow::Cow;
use std::fmt;

/// A password that is not plain ASCII, in a build without the feature `saslprep`.
///
/// Sending its raw bytes instead would fail for most such passwords, and the error would only say "wrong
/// password".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonAsciiPassword;

impl fmt::Display for NonAsciiPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the password is not plain ASCII and this build has no SASLprep: \
             enable the feature `saslprep` of pgbell",
        )
    }
}

impl std::error::Error for NonAsciiPassword {}

/// Returns the bytes that PostgreSQL hashes for a password.
///
/// If a password cannot be prepared, its raw bytes are used, as in the server. The result
/// contains the password: the caller clears it.
///
/// # Errors
/// [`NonAsciiPassword`] if the crate was built without the feature `saslprep` and the password
/// needs it. Never with the feature.
pub fn prepare(password: &[u8]) -> Result<Cow<'_, [u8]>, NonAsciiPassword> {
    // pg_saslprep checks this first: ASCII control bytes are prohibited (C.2.1) only together with
    // characters that are not ASCII. N24.
    if password.is_ascii() {
        return Ok(Cow::Borrowed(password));
    }
    prepare_unicode(password)
}

#[cfg(not(feature = "saslprep"))]
fn prepare_unicode(_: &[u8]) -> Result<Cow<'_, [u8]>, NonAsciiPassword> {
    Err(NonAsciiPassword)
}

#[cfg(feature = "saslprep")]
fn prepare_unicode(password: &[u8]) -> Result<Cow<'_, [u8]>, NonAsciiPassword> {
    Ok(unicode::prepare(password).map_or(Cow::Borrowed(password), Cow::Owned))
}

#[cfg(feature = "saslprep")]
mod unicode {
    use stringprep::tables;
    use unicode_normalization::UnicodeNormalization;
    use zeroize::Zeroizing;

    /// Returns the prepared text, or `None` if the raw bytes are used.
    pub(super) fn prepare(password: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(password).ok()?;
        // Mapping never lengthens: every space that is mapped to U+0020 had two bytes or more.
        let mut mapped = Zeroizing::new(String::with_capacity(text.len()));
        mapped.extend(text.chars().filter_map(map));
        // The mapped text is checked before NFKC. In the RFC it is checked afterwards. N25.
        if mapped.is_empty() || mapped.chars().any(is_refused) || breaks_bidi_rule(&mapped) {
            return None;
        }
        // The size is computed first, so that growing leaves no copy of the password in memory.
        let mut prepared = Vec::with_capacity(mapped.nfkc().map(char::len_utf8).sum());
        for c in mapped.nfkc() {
            prepared.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Some(prepared)
    }

    /// Maps a character as in RFC 4013 section 2.1. Spaces come first: U+200B is in both tables.
    fn map(c: char) -> Option<char> {
        if tables::non_ascii_space_character(c) {
            Some(' ')
        } else if tables::commonly_mapped_to_nothing(c) {
            None
        } else {
            Some(c)
        }
    }

    /// Returns whether a character is prohibited output (RFC 4013 section 2.3) or was not assigned in Unicode 3.2.
    fn is_refused(c: char) -> bool {
        tables::non_ascii_space_character(c)
            || tables::ascii_control_character(c)
            || tables::non_ascii_control_character(c)
            || tables::private_use(c)
            || tables::non_character_code_point(c)
            || tables::inappropriate_for_plain_text(c)
            || tables::inappropriate_for_canonical_representation(c)
            || tables::change_display_properties_or_deprecated(c)
            || tables::tagging_character(c)
            || tables::unassigned_code_point(c)
    }

    /// Checks RFC 3454 section 6: text with a right-to-left character has no left-to-right one, and begins
    /// and ends with a right-to-left one.
    fn breaks_bidi_rule(text: &str) -> bool {
        text.contains(tables::bidi_r_or_al)
            && (text.contains(is_left_to_right)
                || !text.starts_with(tables::bidi_r_or_al)
                || !text.ends_with(tables::bidi_r_or_al))
    }

    /// Returns whether a character is in table D.2 of RFC 3454. `stringprep` uses the class of the current Unicode, which
    /// differs for 276 of the characters of Unicode 3.2. These exceptions were found by comparison with the server.
    // N26.
    fn is_left_to_right(c: char) -> bool {
        match c {
            // Left-to-right in 3.2, neutral or a mark without direction now.
            '\u{17B4}'..='\u{17B5}' | '\u{1885}'..='\u{1886}' => true,
            // Nabla and partial differential in the mathematical alphabets, likewise.
            '\u{1D6C1}' | '\u{1D6DB}' | '\u{1D6FB}' | '\u{1D715}' | '\u{1D735}' | '\u{1D74F}'
            | '\u{1D76F}' | '\u{1D789}' | '\u{1D7A9}' | '\u{1D7C3}' => true,
            // Without direction in 3.2, left-to-right now; the range is Braille.
            '\u{0CBF}'
            | '\u{0CC6}'
            | '\u{1734}'
            | '\u{2132}'
            | '\u{302E}'..='\u{302F}'
            | '\u{2800}'..='\u{28FF}' => false,
            _ => tables::bidi_l(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_unchanged_with_and_without_the_feature() {
        let every_byte: Vec<u8> = (1..0x80).collect();
        for password in [&b"pencil"[..], b"foo\x07bar", b" two  spaces ", &every_byte] {
            assert!(matches!(prepare(password), Ok(Cow::Borrowed(same)) if same == password));
        }
    }

    #[cfg(not(feature = "saslprep"))]
    #[test]
    fn without_the_feature_a_password_that_is_not_ascii_is_refused_and_not_shown() {
        for password in ["gr\u{e4}\u{df}lich".as_bytes(), b"\xff\xfepw"] {
            assert_eq!(prepare(password), Err(NonAsciiPassword));
        }
        let text = NonAsciiPassword.to_string();
        assert!(text.contains("feature `saslprep`") && text.is_ascii(), "{text}");
    }

    #[cfg(feature = "saslprep")]
    mod with_tables {
        use stringprep::tables;

        use super::super::prepare;

        fn check(password: &[u8], expect: &[u8]) {
            assert_eq!(*prepare(password).unwrap(), *expect, "{password:x?}");
        }

        /// A19: each `expect` is what PQencryptPasswordConn of libpq 15.20 hashed.
        #[test]
        fn the_prepared_bytes_are_those_that_libpq_hashes() {
            check(b"\x61\xcd\x80", b"\x61\xcd\x80"); // U+0340: prohibited before NFKC, not after
            check(b"\x61\xe2\x84\xb5", b"\x61\xd7\x90"); // U+2135: right-to-left only after NFKC
            check(b"\x61\xe1\xb4\xac", b"\x61\xe1\xb4\xac"); // U+1D2C: not yet in Unicode 3.2
            check(b"\x49\xc2\xad\x58", b"IX"); // soft hyphen: nothing
            check(b"\xc2\xad", b"\xc2\xad"); // nothing else: raw
            check(b"\x70\xc2\xa0\x77", b"p w"); // no-break space: a space
            check(b"\xe2\x82\xac\x07", b"\xe2\x82\xac\x07"); // prohibited together with the euro sign
            check(b"foo\x07bar", b"foo\x07bar"); // ASCII: not checked
            check(b"\xff\xfe\x70\x77", b"\xff\xfe\x70\x77"); // not UTF-8
        }

        /// RFC 4013 section 3, with the raw bytes in place of "error".
        #[test]
        fn the_examples_of_the_rfc_are_prepared_as_in_the_server() {
            check("I\u{ad}X".as_bytes(), b"IX");
            check(b"user", b"user");
            check(b"USER", b"USER");
            check("\u{aa}".as_bytes(), b"a");
            check("\u{2168}".as_bytes(), b"IX");
            check(b"\x07", b"\x07");
            check("\u{627}\u{31}".as_bytes(), "\u{627}\u{31}".as_bytes());
        }

        #[test]
        fn a_zero_width_space_becomes_a_space() {
            check("p\u{200b}w".as_bytes(), b"p w");
        }

        #[test]
        fn characters_that_mapping_makes_adjacent_are_normalized_together() {
            check("e\u{ad}\u{301}".as_bytes(), "\u{e9}".as_bytes());
        }

        #[test]
        fn right_to_left_text_is_prepared_if_it_has_no_left_to_right_character() {
            check("\u{fb1d}".as_bytes(), "\u{5d9}\u{5b4}".as_bytes());
            check("\u{5d0}-\u{fb2a}".as_bytes(), "\u{5d0}-\u{5e9}\u{5c1}".as_bytes());
            check("\u{5d0}a\u{fb2a}".as_bytes(), "\u{5d0}a\u{fb2a}".as_bytes());
            check("1\u{fb2a}".as_bytes(), "1\u{fb2a}".as_bytes());
            check("\u{fb2a}1".as_bytes(), "\u{fb2a}1".as_bytes());
        }

        #[test]
        fn directions_are_those_of_unicode_3_2() {
            // Between Hebrew letters, of which the first shows whether the text was prepared.
            for c in "\u{17b4}\u{17b5}\u{1885}\u{1886}\u{1d6c1}\u{1d6db}\u{1d6fb}\u{1d715}\u{1d735}\
                      \u{1d74f}\u{1d76f}\u{1d789}\u{1d7a9}\u{1d7c3}"
                .chars()
            {
                let password = format!("\u{fb21}{c}\u{5d0}");
                check(password.as_bytes(), password.as_bytes());
            }
            for c in "\u{cbf}\u{cc6}\u{1734}\u{2132}\u{302e}\u{302f}\u{2800}\u{28ff}".chars() {
                let password = format!("\u{fb21}{c}\u{5d0}");
                check(password.as_bytes(), format!("\u{5d0}{c}\u{5d0}").as_bytes());
            }
        }

        /// The tables come from crates that follow Unicode; those of the server do not change. Each count is
        /// that of `pg_saslprep`, which is the same in 13 and 18.
        #[test]
        fn as_many_characters_are_prepared_in_each_context_as_in_the_server() {
            let count = |before: &str, after: &str| {
                ('\u{1}'..=char::MAX)
                    .map(|c| format!("{before}{c}{after}"))
                    .filter(|text| *prepare(text.as_bytes()).unwrap() != *text.as_bytes())
                    .count()
            };
            assert_eq!(count("\u{aa}", ""), PREPARED_AFTER_LATIN);
            assert_eq!(count("\u{fb21}", "\u{fb21}"), PREPARED_AMID_HEBREW);
            assert_eq!(count("\u{fb21}", ""), PREPARED_AFTER_HEBREW);
            assert_eq!(count("", ""), PREPARED_ALONE);
        }
        const PREPARED_AFTER_LATIN: usize = 93_969;
        const PREPARED_AMID_HEBREW: usize = 4_555;
        const PREPARED_AFTER_HEBREW: usize = 1_068;
        const PREPARED_ALONE: usize = 4_238;

        /// Assigned after Unicode 14 and changed by the NFKC of Unicode 18.
        const NEWER_THAN_UNICODE_14: [(u32, u32); 21] = [
            (0x558, 0x558),
            (0x58B, 0x58C),
            (0x209D, 0x209F),
            (0xA7F1, 0xA7F1),
            (0x107BB, 0x107BE),
            (0x1B123, 0x1B126),
            (0x1CCD6, 0x1CCF9),
            (0x1D6A6, 0x1D6A6),
            (0x1DF95, 0x1DF95),
            (0x1DFD0, 0x1DFD0),
            (0x1DFD2, 0x1DFD6),
            (0x1DFDC, 0x1DFDD),
            (0x1DFE2, 0x1DFE2),
            (0x1DFE6, 0x1DFE6),
            (0x1DFEB, 0x1DFEC),
            (0x1DFF3, 0x1DFF4),
            (0x1DFFA, 0x1DFFE),
            (0x1E030, 0x1E049),
            (0x1E04B, 0x1E04F),
            (0x1E051, 0x1E06B),
            (0x1E06D, 0x1E06D),
        ];

        /// The order of the checks decides for 482 characters of Unicode 14 whether a correct
        /// password succeeds. Later characters add to them only in the order of the RFC.
        #[test]
        fn the_order_of_the_rfc_differs_for_482_characters() {
            let differs = |&c: &char| {
                let password = format!("a{c}");
                let rfc = stringprep::saslprep(&password).map(|text| text.into_owned());
                let rfc = rfc.unwrap_or_else(|_| password.clone()).into_bytes();
                *prepare(password.as_bytes()).unwrap() != *rfc
            };
            let newer = |&c: &char| {
                NEWER_THAN_UNICODE_14.iter().any(|&(from, to)| (from..=to).contains(&u32::from(c)))
            };
            let all: Vec<char> = ('\u{1}'..=char::MAX).filter(differs).collect();
            let (newer, known): (Vec<char>, Vec<char>) = all.into_iter().partition(newer);
            assert_eq!(known.len(), 482);
            let (unassigned, assigned): (Vec<char>, Vec<char>) =
                known.into_iter().partition(|&c| tables::unassigned_code_point(c));
            assert_eq!((unassigned.len(), assigned.len()), (462, 20));
            if unicode_normalization::UNICODE_VERSION == (18, 0, 0) {
                assert_eq!(newer.len(), 131);
            }
            // In any version of Unicode: the server does not prepare a character that 3.2 did not assign.
            for c in unassigned.into_iter().chain(newer) {
                let password = format!("a{c}");
                check(password.as_bytes(), password.as_bytes());
            }
        }
    }
}
