//! The negotiation of the protocol version.

use super::startup::Login;
use super::violation::Violation;
use crate::error::{Error, ErrorKind};
use crate::proto::wire::ProtocolVersion;

/// The prefix of startup parameters that are protocol options.
const OPTION_PREFIX: &str = "_pq_.";

/// The requested version, and at most one answer to it.
#[derive(Debug)]
pub(super) struct Negotiation {
    requested: ProtocolVersion,
    min: ProtocolVersion,
    /// The protocol options that were sent.
    options: Vec<String>,
    /// True after the negotiation, or after the server has begun to authenticate.
    settled: bool,
}

impl Negotiation {
    /// Returns the negotiation of a login, if its versions are supported.
    pub(super) fn new(login: &Login) -> Result<Self, Error> {
        let (requested, min) = (login.protocol, login.min_protocol);
        if !is_supported(requested) && requested != ProtocolVersion::GREASE {
            return Err(refused(format!("protocol {requested} is not supported")));
        }
        if !is_supported(min) {
            return Err(refused(format!("the lowest protocol is {min}, which is not supported")));
        }
        if min > requested {
            let message =
                format!("the lowest protocol is {min}, which is above the highest, {requested}");
            return Err(refused(message));
        }
        let names = login.parameters.iter().map(|(name, _)| name);
        let options = names.filter(|name| name.starts_with(OPTION_PREFIX)).cloned().collect();
        Ok(Self { requested, min, options, settled: false })
    }

    /// Handles NegotiateProtocolVersion, and returns the version to use. The
    /// rules are those of libpq's `pqGetNegotiateProtocolVersion3`.
    pub(super) fn answer(
        &mut self,
        offered: ProtocolVersion,
        options: &[&[u8]],
    ) -> Result<ProtocolVersion, Error> {
        let prefix = OPTION_PREFIX.as_bytes();
        let sent = |option: &&[u8]| self.options.iter().any(|sent| sent.as_bytes() == *option);
        let why = if self.settled {
            "came twice, or after authentication has begun"
        } else if offered > self.requested {
            "offers a newer version than was asked for"
        } else if offered < ProtocolVersion::V3_0 {
            "offers a version below 3.0"
        } else if offered == ProtocolVersion::V3_1 {
            "offers a version that does not exist"
        } else if offered == self.requested && options.is_empty() {
            "changes nothing"
        } else if !options.iter().all(|option| option.starts_with(prefix)) {
            "names an option that is not a protocol option"
        } else if !options.iter().all(sent) {
            "names an option that was not sent"
        } else if !is_supported(offered) {
            "offers a version that is not supported"
        } else if offered < self.min {
            let message = format!(
                "the server supports protocol {offered}, and the lowest accepted is {}",
                self.min
            );
            let hint = "PostgreSQL 18 and later speak 3.2, poolers in between may not: lower \
                        min_protocol_version";
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint(hint));
        } else {
            self.settled = true;
            return Ok(offered);
        };
        Err(Violation::Negotiation { offered, why }.into())
    }

    /// Ends the negotiation, because the server begins to authenticate.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        if !self.settled && self.requested == ProtocolVersion::GREASE {
            return Err(Violation::Grease);
        }
        self.settled = true;
        Ok(())
    }

    /// Returns a hint for a server or a pooler that has refused the startup packet.
    pub(super) fn hint(&self, sqlstate: &str) -> Option<&'static str> {
        let asked_for_more = self.requested > ProtocolVersion::V3_0;
        (asked_for_more && matches!(sqlstate, "0A000" | "08P01"))
            .then_some("the server does not negotiate the protocol: set max_protocol_version=3.0")
    }
}

fn is_supported(version: ProtocolVersion) -> bool {
    matches!(version, ProtocolVersion::V3_0 | ProtocolVersion::V3_2)
}

#[cold]
fn refused(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
        .with_hint("min_protocol_version and max_protocol_version can be 3.0 or 3.2")
}
