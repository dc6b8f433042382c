//! The parameter that was probably meant by an unknown name.

use super::keys::KEYS;

/// What other clients call the parameters, for the hint in an error.
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

/// The known parameter that was probably meant by an unknown name.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    if let Some((_, key)) = FOREIGN.iter().find(|(foreign, _)| name.eq_ignore_ascii_case(foreign)) {
        return Some(key);
    }
    // A third of the letters may differ, two at most: more is guessing.
    let most = (name.len() / 3).min(2);
    KEYS.iter()
        .filter(|entry| entry.name.len().abs_diff(name.len()) <= most)
        .map(|entry| (distance(entry.name.as_bytes(), name.as_bytes()), entry.name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// How many letters must be inserted, removed or replaced, or exchanged with the next one, to get from one word to the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    // `row` holds the distances from the letters of `from` seen so far to each start of `to`.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    // The row before that, for two letters in the wrong order, and the letter between the two rows.
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
    fn the_nearest_parameter_is_named_only_when_it_is_near() {
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
