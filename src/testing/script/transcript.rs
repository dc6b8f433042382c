//! The text form of a script.

use std::str::FromStr;

use super::{Expected, Mismatch, Script, ScriptStep};

impl FromStr for Script {
    type Err = Mismatch;

    /// Parses a transcript. Consecutive lines of one side are one step.
    ///
    /// # Errors
    /// A line has no valid form. The step of the error is the line, counted from 1.
    fn from_str(text: &str) -> Result<Self, Mismatch> {
        let mut script = Self::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |problem: String| {
                let expected = "a line of a transcript".to_owned();
                Mismatch::new(number, expected, format!("{line:?}: {problem}"))
            };
            let (side, what) = line
                .split_once('>')
                .ok_or_else(|| wrong("the line begins with neither C> nor S>".to_owned()))?;
            let step = step(side.trim(), what.trim()).map_err(wrong)?;
            script.push_joined(step);
        }
        Ok(script)
    }
}

fn step(side: &str, what: &str) -> Result<ScriptStep, String> {
    let bytes = || super::hex::parse(what).map(bytes::Bytes::from);
    match (side, what) {
        ("C", "startup") => Ok(ScriptStep::Expect(Expected::Startup)),
        ("C", "eof") => Ok(ScriptStep::WaitForEof),
        ("S", "close") => Ok(ScriptStep::Close),
        ("S", "reset") => Ok(ScriptStep::Reset),
        ("C", _) => bytes().map(|bytes| ScriptStep::Expect(Expected::Bytes(bytes))),
        ("S", _) => bytes().map(ScriptStep::Send),
        _ => Err("the line begins with neither C> nor S>".to_owned()),
    }
}

impl Script {
    fn push_joined(&mut self, step: ScriptStep) {
        let joined = |a: &[u8], b: &[u8]| [a, b].concat().into();
        match (self.steps.back_mut(), &step) {
            (Some(ScriptStep::Send(last)), ScriptStep::Send(more))
            | (
                Some(ScriptStep::Expect(Expected::Bytes(last))),
                ScriptStep::Expect(Expected::Bytes(more)),
            ) => {
                *last = joined(last, more);
            }
            (_, ScriptStep::Expect(Expected::Bytes(bytes))) if bytes.is_empty() => {}
            _ => self.steps.push_back(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::BytesMut;

    use super::super::Output;
    use super::*;
    use crate::proto::auth::{AuthPolicy, Credentials, Password, ScramNonce};
    use crate::proto::session::{Login, Progress, Session};
    use crate::proto::wire::ProtocolVersion;

    #[test]
    fn a_session_logs_in_with_the_nonces_and_the_salt_of_the_rfc() {
        let mut script: Script = include_str!("rfc7677.txt").parse().unwrap();
        let now = Instant::now();
        let credentials = Credentials::new("user").unwrap().password(Password::new("pencil"));
        let mut session = Session::new(Login {
            credentials: credentials.unwrap(),
            policy: AuthPolicy::default(),
            nonce: ScramNonce::from_text("rOprNGfwEbeRWgbNEkqO"),
            parameters: Vec::new(),
            protocol: ProtocolVersion::V3_0,
            min_protocol: ProtocolVersion::V3_0,
            deadline: now + Duration::from_secs(10),
            command_timeout: Duration::from_secs(10),
        })
        .unwrap();
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        loop {
            to_server.extend_from_slice(&session.transmit().split());
            match script.step(&mut to_server).unwrap() {
                Output::Send(bytes) => to_client.extend_from_slice(&bytes),
                Output::WaitForEof => break,
                other => panic!("{other:?}"),
            }
            assert_eq!(session.handle_input(now, &mut to_client).unwrap(), Progress::NeedMore);
            while session.is_computing() {
                session.compute().unwrap();
            }
        }
        assert!(session.is_ready());
    }

    #[test]
    fn lines_of_one_side_are_one_step_and_comments_are_ignored() {
        let text =
            "# all\nC> startup\nS> 52 0000\n\nS> 0008 00000000 # end\nC> 58\nC> 00000004\nC> eof";
        let script: Script = text.parse().unwrap();
        let written = Script::new().expect_startup().send(b"R\0\0\0\x08\0\0\0\0");
        let written = written.expect_hex("5800000004").wait_for_eof();
        assert_eq!(script.steps, written.steps);
        assert_eq!(script.sent_bytes(), 9);
    }

    #[test]
    fn an_invalid_line_is_named() {
        for (text, expected) in [
            (
                "C> 5",
                "step 1: expected a line of a transcript, found \"C> 5\": an odd number of hexadecimal digits",
            ),
            (
                "\nS> 5x",
                "step 2: expected a line of a transcript, found \"S> 5x\": 'x' is no hexadecimal digit",
            ),
            (
                "hello",
                "step 1: expected a line of a transcript, found \"hello\": the line begins with neither C> nor S>",
            ),
            (
                "X> 00",
                "step 1: expected a line of a transcript, found \"X> 00\": the line begins with neither C> nor S>",
            ),
        ] {
            let error = text.parse::<Script>().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
