//! Suggests a known parameter for an unknown name.

use super::keys::KEYS;

/// Names that other clients use for the parameters, and the names of libpq.
const FOREIGN: &[(&str, &str)] = &[
    ("database", "dbname"),
    ("db", "dbname"),
    ("hostname", "host"),
    ("pass", "password"),
    ("passwd", "password"),
    ("pwd", "password"),
    ("timeout", "connect_timeout"),
    ("username", "user"),
];

/// Returns the known parameter that is most similar to an unknown name.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    if let Some((_, key)) = FOREIGN.iter().find(|(foreign, _)| name.eq_ignore_ascii_case(foreign)) {
        return Some(key);
    }
    // A third of the letters may differ, but at most two. With more, the suggestion would be arbitrary.
    let most = (name.len() / 3).min(2);
    KEYS.iter()
        .filter(|entry| entry.name.len().abs_diff(name.len()) <= most)
        .map(|entry| (distance(entry.name.as_bytes(), name.as_bytes()), entry.name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// Returns the edit distance of two words: the number of letters that must be inserted, removed, replaced, or swapped with
/// the next one.
fn distance(from: &[u8], to: &[u8]) -> usize {
    // `row` contains the distances from the letters of `from` processed so far to each prefix of `to`.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    // The previous row, for two swapped letters, and the letter between the two rows.
    let mut before: Option<(Vec<usize>, u8)> = None;
    for (removed, a) in from.iter().enumerate() {
        let mut diagonal = removed;
        let mut left = removed + 1;
        let mut next = vec![left];
        let mut last: Option<u8> = None;
        for ((column, above), b) in row.iter().skip(1).enumerate().zip(to) {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            left = replaced.min(above + 1).min(left + 1);
            if let (Some((row, letter)), Some(last)) = (&before, last)
                && letter.eq_ignore_ascii_case(b)
                && last.eq_ignore_ascii_case(a)
                && let Some(exchanged) = column.checked_sub(1).and_then(|at| row.get(at))
            {
                left = left.min(exchanged + 1);
            }
            next.push(left);
            diagonal = *above;
            last = Some(*b);
        }
        before = Some((std::mem::replace(&mut row, next), *a));
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn two_letters_in_the_wrong_order_are_one_mistake() {
        for (name, expected) in
            [("hots", "host"), ("prot", "port"), ("uesr", "user"), ("dbnaem", "dbname")]
        {
            assert_eq!(nearest(name), Some(expected), "{name}");
        }
        assert_eq!((distance(b"ab", b"ba"), distance(b"abcd", b"badc")), (1, 2));
        assert_eq!(distance(b"ca", b"abc"), 3);
    }

    #[test]
    fn a_parameter_is_suggested_only_when_its_name_is_similar() {
        for (name, expected) in [
            ("hst", Some("host")),
            ("sslMode", Some("sslmode")),
            ("ssl-mode", Some("sslmode")),
            ("aplication_nmae", Some("application_name")),
            ("applicationName", Some("application_name")),
            ("connect_timout", Some("connect_timeout")),
            ("PWD", Some("password")),
            ("", None),
            ("ab", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(name), expected, "{name}");
        }
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
    }
}
