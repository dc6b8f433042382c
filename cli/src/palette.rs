//! Colours on a terminal.

use std::env;
use std::io::{self, IsTerminal};

use clap::ValueEnum;

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`; elsewhere if CLICOLOR_FORCE is set
    Auto,
    Always,
    Never,
}

/// The escape sequences of the parts of a record, all of them empty without colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Palette {
    pub(crate) faint: &'static str,
    pub(crate) name: &'static str,
    pub(crate) good: &'static str,
    pub(crate) warning: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) end: &'static str,
}

impl Palette {
    pub(crate) const PLAIN: Self =
        Self { faint: "", name: "", good: "", warning: "", bad: "", end: "" };

    const COLORED: Self = Self {
        faint: "\x1b[2m",
        name: "\x1b[1;36m",
        good: "\x1b[32m",
        warning: "\x1b[1;33m",
        bad: "\x1b[1;31m",
        end: "\x1b[0m",
    };

    /// Returns the colours for stdout.
    pub(crate) fn new(color: Color) -> Self {
        let is_terminal = || io::stdout().is_terminal();
        if is_colored(color, is_terminal, |name| env::var(name).ok()) {
            Self::COLORED
        } else {
            Self::PLAIN
        }
    }
}

fn is_colored(
    color: Color,
    is_terminal: impl Fn() -> bool,
    variable: impl Fn(&str) -> Option<String>,
) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    let is_forced = || variable("CLICOLOR_FORCE").is_some_and(|value| !matches!(&*value, "" | "0"));
    let is_dumb = || variable("TERM").is_some_and(|value| value == "dumb");
    match color {
        Color::Always => true,
        Color::Never => false,
        // https://no-color.org: set and not empty.
        Color::Auto => !is_set("NO_COLOR") && (is_forced() || is_terminal() && !is_dumb()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_the_user_decides() {
        let colored = |color, is_terminal: bool, set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned())
            };
            is_colored(color, || is_terminal, variable)
        };
        for (is_terminal, set, expected) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            assert_eq!(colored(Color::Auto, is_terminal, set), expected, "{set:?}");
        }
        assert!(colored(Color::Always, false, &[("NO_COLOR", "1")]));
        assert!(!colored(Color::Never, true, &[]));
    }
}
