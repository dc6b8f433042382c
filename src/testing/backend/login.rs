//! The server's half of a login.

use std::collections::BTreeMap;

use super::config::{Auth, BackendConfig};
use super::random::Random;
use crate::proto::auth::scram::{SCRAM_NONCE_BYTES, SCRAM_SHA_256};
use crate::proto::auth::{
    NonAsciiPassword, Password, ScramNonce, ScramServer, ScramVerdict, ScramVerifier, md5,
};
use crate::proto::wire::{
    Authentication, DbError, DecodeError, PasswordMessage, SaslInitialResponse, SaslResponse,
    Severity,
};

/// The roles, with the keys derived from their passwords.
#[derive(Debug)]
pub(super) struct Roles {
    auth: Auth,
    passwords: BTreeMap<String, Password>,
    verifiers: BTreeMap<String, Result<ScramVerifier, NonAsciiPassword>>,
    /// The verifier of a random password, for roles that do not exist.
    unknown_role: Option<ScramVerifier>,
    md5_salt: Option<[u8; 4]>,
    scram_nonce: Option<[u8; SCRAM_NONCE_BYTES]>,
}

impl Roles {
    pub(super) fn new(config: &BackendConfig, random: &mut Random) -> Self {
        let verifier = |password: &Password| {
            ScramVerifier::from_password(password, &config.scram_salt, config.scram_iterations)
        };
        let scram = config.auth == Auth::ScramSha256;
        let roles = config.users.iter().filter(|_| scram);
        let bytes: [u8; SCRAM_NONCE_BYTES] = random.bytes();
        let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            unknown_role: scram.then(|| verifier(&Password::new(password)).ok()).flatten(),
            auth: config.auth,
            passwords: config.users.clone(),
            verifiers: roles.map(|(name, password)| (name.clone(), verifier(password))).collect(),
            md5_salt: config.md5_salt,
            scram_nonce: config.scram_nonce,
        }
    }

    /// Starts the authentication exchange of a role. `None` if it needs none.
    pub(super) fn challenge(
        &self,
        user: &str,
        random: &mut Random,
    ) -> Result<Option<Exchange>, DbError> {
        match self.auth {
            Auth::Trust if self.passwords.is_empty() || self.passwords.contains_key(user) => {
                Ok(None)
            }
            Auth::Trust => {
                let text = format!("role \"{user}\" does not exist");
                Err(DbError::new(Severity::Fatal, "28000", &text))
            }
            Auth::Password => Ok(Some(Exchange::Password)),
            Auth::Md5 => {
                Ok(Some(Exchange::Md5 { salt: self.md5_salt.unwrap_or_else(|| random.bytes()) }))
            }
            Auth::ScramSha256 => {
                let verifier = match (self.verifiers.get(user), &self.unknown_role) {
                    (Some(Ok(verifier)), _) => verifier.clone(),
                    (Some(Err(error)), _) => {
                        return Err(DbError::new(Severity::Fatal, "XX000", &error.to_string()));
                    }
                    // An unknown role gets the same challenge and the same error as a known one. N61.
                    (None, Some(verifier)) => verifier.clone(),
                    (None, None) => return Err(wrong_password(user)),
                };
                let nonce = self.scram_nonce.unwrap_or_else(|| random.bytes());
                let server = ScramServer::new(verifier, ScramNonce::new(nonce));
                Ok(Some(Exchange::Sasl(Box::new(server))))
            }
        }
    }
}

/// An authentication exchange in progress.
#[derive(Debug)]
pub(super) enum Exchange {
    Password,
    Md5 {
        salt: [u8; 4],
    },
    /// The client has not chosen a mechanism.
    Sasl(Box<ScramServer>),
    /// The client's proof is expected.
    SaslContinued(Box<ScramServer>),
}

/// The result of a client's answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The exchange continues with this challenge.
    Continue(Vec<u8>, Exchange),
    /// The client is logged in. The final message of SCRAM is sent before AuthenticationOk.
    Accepted(Option<Vec<u8>>),
}

impl Exchange {
    /// Returns the first request to the client.
    pub(super) fn request(&self) -> Authentication<'static> {
        match self {
            Self::Password => Authentication::CleartextPassword,
            Self::Md5 { salt } => Authentication::Md5Password { salt: *salt },
            Self::Sasl(_) | Self::SaslContinued(_) => {
                Authentication::Sasl { mechanisms: b"SCRAM-SHA-256\0\0" }
            }
        }
    }

    /// Handles the body of a `p` message.
    pub(super) fn answer(self, roles: &Roles, user: &str, body: &[u8]) -> Result<Verdict, DbError> {
        let known = roles.passwords.get(user);
        match self {
            Self::Password => {
                let found = PasswordMessage::decode(body).map_err(|error| malformed(&error))?;
                accept_if(known.is_some_and(|known| known.expose() == found.0), user)
            }
            Self::Md5 { salt } => {
                let found = PasswordMessage::decode(body).map_err(|error| malformed(&error))?;
                let right = known.is_some_and(|known| md5::verify(user, known, salt, found.0));
                accept_if(right, user)
            }
            Self::Sasl(mut server) => {
                let first = SaslInitialResponse::decode(body).map_err(|error| malformed(&error))?;
                if first.mechanism != SCRAM_SHA_256 {
                    let text = "client selected an invalid SASL authentication mechanism";
                    return Err(DbError::new(Severity::Fatal, "08P01", text));
                }
                let reply = server.handle_client_first(first.data.unwrap_or_default());
                Ok(Verdict::Continue(
                    reply.map_err(|error| malformed_scram(&error))?,
                    Self::SaslContinued(server),
                ))
            }
            Self::SaslContinued(mut server) => {
                let SaslResponse(last) = SaslResponse::decode(body);
                match server.handle_client_final(last).map_err(|error| malformed_scram(&error))? {
                    ScramVerdict::Accepted(last) => Ok(Verdict::Accepted(Some(last))),
                    ScramVerdict::Refused(_) => Err(wrong_password(user)),
                }
            }
        }
    }
}

fn accept_if(right: bool, user: &str) -> Result<Verdict, DbError> {
    if right { Ok(Verdict::Accepted(None)) } else { Err(wrong_password(user)) }
}

fn wrong_password(user: &str) -> DbError {
    let text = format!("password authentication failed for user \"{user}\"");
    DbError::new(Severity::Fatal, "28P01", &text)
}

/// Returns the FATAL error for a malformed message.
pub(super) fn malformed(error: &DecodeError) -> DbError {
    DbError::new(Severity::Fatal, "08P01", &error.to_string())
}

fn malformed_scram(error: &crate::proto::auth::ScramError) -> DbError {
    DbError::new(Severity::Fatal, "08P01", "malformed SCRAM message")
        .with_field(b'D', &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3, word for word.
    #[test]
    fn the_exchange_of_the_rfc_succeeds() {
        let salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
        let config = BackendConfig::new().auth(Auth::ScramSha256).user("user", "pencil");
        let roles = Roles::new(&config.scram_salt(salt), &mut Random::new(0));
        let verifier = roles.verifiers["user"].clone().unwrap();
        let nonce = ScramNonce::from_text("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        let exchange = Exchange::Sasl(Box::new(ScramServer::new(verifier, nonce)));

        let first = b"SCRAM-SHA-256\0\0\0\0\x20n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let Ok(Verdict::Continue(challenge, exchange)) = exchange.answer(&roles, "user", first)
        else {
            panic!("the first message was refused");
        };
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(challenge, expected.as_bytes());

        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let Ok(Verdict::Accepted(Some(signature))) = exchange.answer(&roles, "user", last) else {
            panic!("the last message was refused");
        };
        assert_eq!(signature, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn malformed_answers_are_refused_by_every_method() {
        for (auth, bodies) in [
            (Auth::Password, &[&b"pencil"[..], b"", b"pencil\0x"][..]),
            (Auth::Md5, &[b"md5"]),
            (
                Auth::ScramSha256,
                &[b"", b"SCRAM-SHA-256-PLUS\0\0\0\0\0", b"SCRAM-SHA-256\0\xff\xff\xff\xff"],
            ),
        ] {
            let config = BackendConfig::new().auth(auth).user("user", "pencil");
            let mut random = Random::new(0);
            let roles = Roles::new(&config.scram_iterations(1), &mut random);
            for body in bodies {
                let exchange = roles.challenge("user", &mut random).unwrap().unwrap();
                let error = exchange.answer(&roles, "user", body).unwrap_err();
                assert_eq!((error.severity(), error.code()), (Severity::Fatal, "08P01"));
            }
        }
    }
}
