//! Connection URLs.

/// The address on which all servers listen.
pub(crate) const HOST: &str = "127.0.0.1";

/// Returns a URL over TCP.
pub(crate) fn tcp(port: u16, user: &str, password: Option<&str>, database: &str) -> String {
    format!("postgresql://{}@{HOST}:{port}/{}", login(user, password), percent(database))
}

/// Returns a URL over the Unix socket in a directory.
pub(crate) fn socket(
    dir: &str,
    port: u16,
    user: &str,
    password: Option<&str>,
    database: &str,
) -> String {
    let (login, dir, database) = (login(user, password), percent(dir), percent(database));
    format!("postgresql://{login}@/{database}?host={dir}&port={port}")
}

fn login(user: &str, password: Option<&str>) -> String {
    match password {
        Some(password) => format!("{}:{}", percent(user), percent(password)),
        None => percent(user),
    }
}

/// Encodes everything but the unreserved characters of RFC 3986.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_can_have_any_character() {
        assert_eq!(login("bob", None), "bob");
        assert_eq!(login("a@b", Some("ß:/?")), "a%40b:%C3%9F%3A%2F%3F");
        assert_eq!(tcp(7, "b", None, "c/d"), "postgresql://b@127.0.0.1:7/c%2Fd");
    }
}
