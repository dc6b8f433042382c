//! The text form of a script.

use std::str::FromStr;

use super::{Expected, Mismatch, Script, Step};

impl FromStr for Script {
    type Err = Mismatch;

    /// Reads a transcript. Lines of bytes of one side that follow each other are one step.
    ///
    /// # Errors
    /// A line is not understood: it is the step of the error, counted from 1.
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
                .ok_or_else(|| wrong("it begins with neither C> nor S>".to_owned()))?;
            let step = step(side.trim(), what.trim()).map_err(wrong)?;
            script.push_joined(step);
        }
        Ok(script)
    }
}

fn step(side: &str, what: &str) -> Result<Step, String> {
    let bytes = || super::hex::parse(what).map(bytes::Bytes::from);
    match (side, what) {
        ("C", "startup") => Ok(Step::Expect(Expected::Startup)),
        ("C", "eof") => Ok(Step::WaitForEof),
        ("S", "close") => Ok(Step::Close),
        ("S", "reset") => Ok(Step::Reset),
        ("C", _) => bytes().map(|bytes| Step::Expect(Expected::Bytes(bytes))),
        ("S", _) => bytes().map(Step::Send),
        _ => Err("it begins with neither C> nor S>".to_owned()),
    }
}

impl Script {
    fn push_joined(&mut self, step: Step) {
        let joined = |a: &[u8], b: &[u8]| [a, b].concat().into();
        match (self.steps.back_mut(), &step) {
            (Some(Step::Send(last)), Step::Send(more))
            | (Some(Step::Expect(Expected::Bytes(last))), Step::Expect(Expected::Bytes(more))) => {
                *last = joined(last, more);
            }
            (_, Step::Expect(Expected::Bytes(bytes))) if bytes.is_empty() => {}
            _ => self.steps.push_back(step),
        }
    }
}
