//! Who logs in, and what they know.

use super::error::AuthError;
use super::policy::AuthMethod;
use super::secret::Password;

/// Who logs in, and the password, if there is one.
#[derive(Debug, Clone)]
pub struct Credentials {
    user: String,
    password: Option<Password>,
}

impl Credentials {
    /// A user without a password.
    ///
    /// # Errors
    /// [`AuthError::Credentials`] when the name contains a NUL, which would end it on the wire.
    pub fn new(user: impl Into<String>) -> Result<Self, AuthError> {
        let user = user.into();
        if user.contains('\0') {
            return Err(AuthError::Credentials { problem: "the user name contains a NUL" });
        }
        Ok(Self { user, password: None })
    }

    /// The same user with this password. An empty one is none at all, as in libpq. N21.
    ///
    /// # Errors
    /// [`AuthError::Credentials`] when it contains a NUL, which would end it on the wire.
    pub fn password(mut self, password: Password) -> Result<Self, AuthError> {
        if password.expose().contains(&0) {
            return Err(AuthError::Credentials { problem: "the password contains a NUL" });
        }
        self.password = Some(password).filter(|password| !password.expose().is_empty());
        Ok(self)
    }

    /// The name, as the startup message says it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether there is a password to answer with.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    pub(super) fn password_for(&self, method: AuthMethod) -> Result<&Password, AuthError> {
        self.password.as_ref().ok_or(AuthError::NoPassword { method })
    }
}
