//! The format codes of a list of values.

use super::refusal::Refusal;
use crate::proto::wire;

/// The format codes of a list of values: none if all are text, one for all, or one for each.
#[derive(Debug, Clone, Default)]
pub(super) struct Formats(Vec<i16>);

impl Formats {
    /// Checks the format codes of a Bind for this number of values.
    pub(super) fn read(
        list: wire::Formats<'_>,
        values: usize,
        what: &str,
    ) -> Result<Self, Refusal> {
        let formats: Vec<i16> = list.iter().collect();
        if formats.len() > 1 && formats.len() != values {
            let text = format!("bind message has {} {what} formats for {values}", formats.len());
            return Err(Refusal::new("08P01", text));
        }
        match formats.iter().find(|format| !matches!(format, 0 | 1)) {
            Some(format) => {
                Err(Refusal::new("22023", format!("unsupported format code: {format}")))
            }
            None => Ok(Self(formats)),
        }
    }

    /// Returns the format code of a value: 0 is text and 1 is binary.
    pub(super) fn code(&self, index: usize) -> i16 {
        match self.0.as_slice() {
            [one] => *one,
            formats => formats.get(index).copied().unwrap_or(0),
        }
    }

    pub(super) fn is_binary(&self, index: usize) -> bool {
        self.code(index) == 1
    }
}
