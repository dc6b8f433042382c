//! Which version of the protocol is spoken: what was asked for, and what the server made of it. N32.

use super::startup::Login;
use super::violation::Violation;
use crate::wire::ProtocolVersion;
use crate::{Error, ErrorKind};

/// Startup parameters that begin like this are options of the protocol.
const OPTION_PREFIX: &str = "_pq_.";

/// A version that was asked for, and at most one answer to it.
#[derive(Debug)]
pub(super) struct Negotiation {
    requested: ProtocolVersion,
    min: ProtocolVersion,
    /// Protocol options that were sent.
    options: Vec<String>,
    /// Nothing may be negotiated any more: it was, or the server has begun to authenticate.
    settled: bool,
}

impl Negotiation {
    /// What a login asks for, if anybody can speak it.
    pub(super) fn new(login: &Login) -> Result<Self, Error> {
        let (requested, min) = (login.protocol, login.min_protocol);
        if !is_spoken(requested) && requested != ProtocolVersion::GREASE {
            return Err(refused(format!("protocol {requested} is not spoken")));
        }
        if !is_spoken(min) {
            return Err(refused(format!("the lowest protocol is {min}, which is not spoken")));
        }
        if min > requested {
            let message =
                format!("the lowest protocol is {min}, and no more than {requested} is asked for");
            return Err(refused(message));
        }
        let names = login.parameters.iter().map(|(name, _)| name);
        let options = names.filter(|name| name.starts_with(OPTION_PREFIX)).cloned().collect();
        Ok(Self { requested, min, options, settled: false })
    }

    /// Takes in NegotiateProtocolVersion: what the server speaks instead of what was asked for. The
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
            "names an option that is none of the protocol"
        } else if !options.iter().all(sent) {
            "names an option that was not sent"
        } else if !is_spoken(offered) {
            "offers a version that is not spoken here"
        } else if offered < self.min {
            let message = format!(
                "the server speaks protocol {offered}, and no less than {} is accepted",
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

    /// The server begins to authenticate: it agrees with what was asked for, or has said so.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        if !self.settled && self.requested == ProtocolVersion::GREASE {
            return Err(Violation::Grease);
        }
        self.settled = true;
        Ok(())
    }

    /// What to do about a server or a pooler that refused the startup packet itself.
    pub(super) fn hint(&self, sqlstate: &str) -> Option<&'static str> {
        let asked_for_more = self.requested > ProtocolVersion::V3_0;
        (asked_for_more && matches!(sqlstate, "0A000" | "08P01"))
            .then_some("a server that does not negotiate: set max_protocol_version=3.0")
    }
}

fn is_spoken(version: ProtocolVersion) -> bool {
    matches!(version, ProtocolVersion::V3_0 | ProtocolVersion::V3_2)
}

#[cold]
fn refused(message: String) -> Error {
    Error::new(ErrorKind::Config, message).with_hint(
        "3.0 and 3.2 are spoken, for min_protocol_version and max_protocol_version alike",
    )
}
