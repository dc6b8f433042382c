//! libpq's `require_auth`: the authentication methods that the client accepts.

use std::fmt;
use std::str::FromStr;

use super::policy::AuthMethod;

/// The words of the list, in the order of `Display`. The bit of a word is its index.
const METHODS: [&str; 7] = ["password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none"];

/// The methods by which the server may authenticate the client: a list of `password`, `md5`, `gss`, `sspi`,
/// `scram-sha-256`, `oauth` and `none`, or all of them except those with `!` before them.
///
/// `none` means that the server requests nothing: `trust`, `peer`, `ident` and `cert`. A list without it
/// requires that the server completes an exchange. The grammar is libpq's: no blanks, no method twice,
/// and either all or none of the methods negated.
///
/// ```
/// use pgbell::{AuthMethod, config::RequireAuth};
///
/// let only: RequireAuth = "scram-sha-256".parse()?;
/// assert!(only.allows(AuthMethod::ScramSha256Plus) && !only.allows(AuthMethod::Trust));
/// let not: RequireAuth = "!password,!md5".parse()?;
/// assert!(not.allows(AuthMethod::Trust) && !not.allows(AuthMethod::Md5));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequireAuth {
    /// Bits of [`METHODS`], at least one.
    listed: u8,
    /// The listed methods are those that are not allowed.
    negated: bool,
}

impl RequireAuth {
    /// Returns whether the server may use this method.
    #[must_use]
    pub fn allows(self, method: AuthMethod) -> bool {
        self.lists(method) != self.negated
    }

    /// Returns whether the method is listed without negation.
    pub(super) fn names(self, method: AuthMethod) -> bool {
        !self.negated && self.lists(method)
    }

    fn lists(self, method: AuthMethod) -> bool {
        bit(word(method)).is_some_and(|bit| self.listed & bit != 0)
    }
}

/// Returns libpq's word for a method.
fn word(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::Trust => "none",
        AuthMethod::Password => "password",
        AuthMethod::Md5 => "md5",
        AuthMethod::ScramSha256 | AuthMethod::ScramSha256Plus => "scram-sha-256",
    }
}

fn bit(word: &str) -> Option<u8> {
    let index = METHODS.iter().position(|method| *method == word)?;
    1_u8.checked_shl(u32::try_from(index).ok()?)
}

impl FromStr for RequireAuth {
    type Err = RequireAuthError;

    /// Parses the value of `require_auth`. An empty value is an error: a parameter that allows any method
    /// has no `RequireAuth`.
    fn from_str(text: &str) -> Result<Self, RequireAuthError> {
        let (mut listed, mut negations, mut count) = (0, 0_usize, 0_usize);
        for item in text.split(',') {
            let word = item.strip_prefix('!');
            negations = negations.saturating_add(usize::from(word.is_some()));
            count = count.saturating_add(1);
            if negations != 0 && negations != count {
                return Err(RequireAuthError::Mixed);
            }
            let bit = bit(word.unwrap_or(item)).ok_or(RequireAuthError::Unknown)?;
            if listed & bit != 0 {
                return Err(RequireAuthError::Duplicate);
            }
            listed |= bit;
        }
        Ok(Self { listed, negated: negations != 0 })
    }
}

impl fmt::Display for RequireAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed =
            METHODS.iter().filter(|word| bit(word).is_some_and(|bit| self.listed & bit != 0));
        for (count, word) in listed.enumerate() {
            let comma = if count == 0 { "" } else { "," };
            let not = if self.negated { "!" } else { "" };
            write!(f, "{comma}{not}{word}")?;
        }
        Ok(())
    }
}

/// Why a text is not a valid value of `require_auth`. Contains no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequireAuthError {
    /// A method that libpq does not have, or an empty one.
    Unknown,
    /// A method twice.
    Duplicate,
    /// Both negated methods and others.
    Mixed,
}

impl fmt::Display for RequireAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => {
                "expected password, md5, gss, sspi, scram-sha-256, oauth or none, with commas and no \
                 blanks between"
            }
            Self::Duplicate => "a method is in the list twice",
            Self::Mixed => "methods with and without `!` cannot be in one list",
        })
    }
}

impl std::error::Error for RequireAuthError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPPORTED: [AuthMethod; 5] = [
        AuthMethod::Trust,
        AuthMethod::Password,
        AuthMethod::Md5,
        AuthMethod::ScramSha256,
        AuthMethod::ScramSha256Plus,
    ];

    /// `check_expected_areq` of libpq: `none` is allowed when it is listed, or nothing listed excludes it.
    #[test]
    fn a_list_allows_its_methods_and_a_negated_list_allows_all_others() {
        use AuthMethod::{Md5, Password, ScramSha256, ScramSha256Plus, Trust};
        let cases: [(&str, &[AuthMethod]); 10] = [
            ("password", &[Password]),
            ("md5", &[Md5]),
            ("scram-sha-256", &[ScramSha256, ScramSha256Plus]),
            ("none", &[Trust]),
            ("scram-sha-256,none", &[Trust, ScramSha256, ScramSha256Plus]),
            ("gss,sspi,oauth", &[]),
            ("!none", &[Password, Md5, ScramSha256, ScramSha256Plus]),
            ("!password,!md5", &[Trust, ScramSha256, ScramSha256Plus]),
            ("!gss", &SUPPORTED),
            ("!scram-sha-256,!none,!md5", &[Password]),
        ];
        for (text, allowed) in cases {
            let require: RequireAuth = text.parse().unwrap();
            let found: Vec<_> = SUPPORTED.into_iter().filter(|m| require.allows(*m)).collect();
            assert_eq!(found, allowed, "{text}");
            let again: RequireAuth = require.to_string().parse().unwrap();
            assert_eq!(again, require, "{text} is shown as {require}");
        }
        let shown = |text: &str| text.parse::<RequireAuth>().unwrap().to_string();
        assert_eq!(shown("none,scram-sha-256"), "scram-sha-256,none");
        assert_eq!(shown("!none,!password"), "!password,!none");
    }

    #[test]
    fn a_method_is_named_only_without_negation() {
        let names = |text: &str| text.parse::<RequireAuth>().unwrap().names(AuthMethod::Password);
        assert!(names("password") && names("scram-sha-256,password"));
        assert!(!names("!md5") && !names("!password") && !names("md5"));
    }

    /// The texts that libpq refuses (`connectOptions2`, and its test 001_password.pl).
    #[test]
    fn values_that_libpq_refuses_are_refused() {
        for (text, error) in [
            ("", RequireAuthError::Unknown),
            ("!", RequireAuthError::Unknown),
            (",", RequireAuthError::Unknown),
            ("password,", RequireAuthError::Unknown),
            (",password", RequireAuthError::Unknown),
            ("password, md5", RequireAuthError::Unknown),
            (" password", RequireAuthError::Unknown),
            ("Password", RequireAuthError::Unknown),
            ("scram-sha-256-plus", RequireAuthError::Unknown),
            ("trust", RequireAuthError::Unknown),
            ("!!password", RequireAuthError::Unknown),
            ("password,md5,password", RequireAuthError::Duplicate),
            ("!none,!none", RequireAuthError::Duplicate),
            ("none,none", RequireAuthError::Duplicate),
            ("password,!md5", RequireAuthError::Mixed),
            ("!password,md5", RequireAuthError::Mixed),
            ("!password,none", RequireAuthError::Mixed),
            ("none,!password", RequireAuthError::Mixed),
        ] {
            assert_eq!(text.parse::<RequireAuth>(), Err(error), "{text}");
        }
    }
}
