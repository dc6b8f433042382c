//! Lines of `postgresql.conf`.

use crate::error::Error;

pub(crate) fn setting_line(name: &str, value: &str) -> Result<String, Error> {
    let named = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
    if !named {
        return Err(Error::new(format!("{name:?} is not the name of a setting")));
    }
    if value.contains(['\n', '\r', '\0']) {
        return Err(Error::new(format!("the value of setting {name} has more than one line")));
    }
    Ok(format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_quoted_and_checked() {
        assert_eq!(setting_line("a.b", r"it's \").unwrap(), "a.b = 'it''s \\\\'\n");
        assert!(setting_line("a b", "1").is_err());
        assert!(setting_line("", "1").is_err());
        assert!(setting_line("a", "1\nb = 2").is_err());
    }
}
