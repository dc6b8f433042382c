//! The user name and the password of a login.

use super::error::AuthError;
use super::policy::AuthMethod;
use super::secret::Password;

/// The name of the user, and the password if there is one.
#[derive(Debug, Clone)]
pub struct Credentials {
    user: String,
    password: Option<Password>,
}

impl Credentials {
    /// Creates credentials without a password.
    ///
    /// # Errors
    /// [`AuthError::Credentials`] if the name contains a NUL, which would end it on the wire.
    pub fn new(user: impl Into<String>) -> Result<Self, AuthError> {
        let user = user.into();
        if user.contains('\0') {
            return Err(AuthError::Credentials { problem: "the user name contains a NUL" });
        }
        Ok(Self { user, password: None })
    }

    /// Sets the password. An empty password is the same as none, as in libpq.
    ///
    /// # Errors
    /// [`AuthError::Credentials`] if it contains a NUL, which would end it on the wire.
    pub fn password(mut self, password: Password) -> Result<Self, AuthError> {
        if password.expose().contains(&0) {
            return Err(AuthError::Credentials { problem: "the password contains a NUL" });
        }
        self.password = Some(password).filter(|password| !password.expose().is_empty());
        Ok(self)
    }

    /// Returns the name of the user, as it is sent in the startup message.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns whether there is a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    pub(super) fn password_for(&self, method: AuthMethod) -> Result<&Password, AuthError> {
        self.password.as_ref().ok_or(AuthError::NoPassword { method })
    }
}
