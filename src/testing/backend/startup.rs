//! The phase from the first byte of a client to its first ReadyForQuery.

use bytes::BytesMut;

use super::connection::{Connection, Phase};
use super::login::{Verdict, malformed};
use super::{Proxy, Shared};
use crate::proto::wire::{
    Authentication, BackendKeyData, BackendMessage, DbError, FirstPacket, Names, ProtocolVersion,
    Severity, StartupPacket, StartupParameters, TransactionStatus,
};

impl Connection {
    pub(super) fn handle_first_packet(
        &mut self,
        shared: &mut Shared,
        input: &BytesMut,
    ) -> Result<usize, DbError> {
        let Some(packet) = FirstPacket::next(input).map_err(|error| malformed(&error))? else {
            return Ok(0);
        };
        let decoded = StartupPacket::decode(packet).map_err(|error| malformed(&error))?;
        match (decoded, &mut self.phase) {
            (StartupPacket::SslRequest, Phase::Startup { tls_refused, .. }) if !*tls_refused => {
                *tls_refused = true;
                self.output.extend_from_slice(b"N");
            }
            (StartupPacket::GssEncRequest, Phase::Startup { gss_refused, .. }) if !*gss_refused => {
                *gss_refused = true;
                self.output.extend_from_slice(b"N");
            }
            // No command takes long enough to be cancelled. PostgreSQL sends no answer either.
            (StartupPacket::CancelRequest { .. }, _) => self.phase = Phase::Closed,
            (StartupPacket::Startup { version, parameters }, _) => {
                self.start(shared, version, parameters)?;
            }
            _ => {
                let text = "the same request for encryption came twice";
                return Err(DbError::new(Severity::Fatal, "08P01", text));
            }
        }
        Ok(packet.wire_len())
    }

    fn start(
        &mut self,
        shared: &mut Shared,
        requested: ProtocolVersion,
        parameters: StartupParameters<'_>,
    ) -> Result<(), DbError> {
        let newest = shared.protocol_max;
        if requested.major() != 3 {
            let text = format!(
                "unsupported frontend protocol {requested}: server supports 3.0 to {newest}"
            );
            return Err(DbError::new(Severity::Fatal, "0A000", &text));
        }
        let options: Vec<&[u8]> = parameters
            .iter()
            .filter(|(name, _)| name.starts_with("_pq_."))
            .map(|(name, _)| name.as_bytes())
            .collect();
        let version = requested.min(newest);
        if version != requested || !options.is_empty() {
            let options = Names::new(&options);
            self.send(&BackendMessage::NegotiateProtocolVersion { version, options });
        }
        let user = parameters.iter().find(|(name, _)| *name == "user").map(|(_, value)| value);
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            let text = "no PostgreSQL user name specified in startup packet";
            return Err(DbError::new(Severity::Fatal, "28000", text));
        };
        for (name, value) in parameters {
            self.check_parameter(name, value)?;
        }
        if self.is_surplus {
            let text = "sorry, too many clients already";
            return Err(DbError::new(Severity::Fatal, "53300", text));
        }
        self.executor.settings.assign("session_authorization", user);
        let database = parameters.iter().find(|(name, _)| *name == "database");
        self.executor.open_database(database.map_or(user, |(_, name)| name));
        match shared.roles.challenge(user, &mut shared.random)? {
            None => self.accept(version, shared.proxy),
            Some(exchange) => {
                self.send(&BackendMessage::Authentication(exchange.request()));
                self.phase = Phase::Login { user: user.to_owned(), version, exchange };
            }
        }
        Ok(())
    }

    fn check_parameter(&mut self, name: &str, value: &str) -> Result<(), DbError> {
        match name {
            "client_encoding" => {
                let plain = value.to_ascii_lowercase().replace(['-', '_'], "");
                if !matches!(plain.trim_matches('\''), "utf8" | "unicode" | "auto" | "sqlascii") {
                    let text = format!("invalid value for parameter \"{name}\": \"{value}\"");
                    return Err(DbError::new(Severity::Fatal, "22023", &text));
                }
            }
            "application_name" => self.executor.settings.assign(name, value),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn handle_answer(&mut self, shared: &Shared, body: &[u8]) -> Result<(), DbError> {
        let Phase::Login { user, version, exchange } =
            std::mem::replace(&mut self.phase, Phase::CheckingAnswer)
        else {
            return Ok(());
        };
        match exchange.answer(&shared.roles, &user, body)? {
            Verdict::Continue(challenge, exchange) => {
                let challenge = Authentication::SaslContinue(&challenge);
                self.send(&BackendMessage::Authentication(challenge));
                self.phase = Phase::Login { user, version, exchange };
            }
            Verdict::Accepted(last) => {
                if let Some(last) = last {
                    let last = Authentication::SaslFinal(&last);
                    self.send(&BackendMessage::Authentication(last));
                }
                self.accept(version, shared.proxy);
            }
        }
        Ok(())
    }

    fn accept(&mut self, version: ProtocolVersion, proxy: Proxy) {
        self.phase = Phase::Ready;
        self.send(&BackendMessage::Authentication(Authentication::Ok));
        for (name, value) in self.executor.settings.reported().clone() {
            self.report(&name, &value);
        }
        let key = self.secret_key;
        let secret_key = if version < ProtocolVersion::V3_2 { &key[..4] } else { &key[..] };
        if let Some(process_id) = proxy.key_process_id(self.executor.process_id()) {
            self.send(&BackendMessage::BackendKeyData(BackendKeyData { process_id, secret_key }));
        }
        self.send(&BackendMessage::ReadyForQuery { status: TransactionStatus::Idle });
    }
}
