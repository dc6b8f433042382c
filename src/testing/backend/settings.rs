//! The parameters of a session, for SET, SHOW and RESET.

use std::collections::BTreeMap;

use super::refusal::Refusal;

/// The highest number of parameters of a session. A limit of this backend.
const COUNT_MAX: usize = 1_000;
/// The highest number of bytes of a name or a value.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The parameters of a session. Unlike PostgreSQL any name can be set, and ROLLBACK does not undo it.
#[derive(Debug)]
pub(super) struct Settings {
    values: BTreeMap<String, String>,
    /// The values after RESET. These parameters are reported to the client at the login and when they change.
    defaults: BTreeMap<String, String>,
    /// The changes to report before the next ReadyForQuery.
    reports: BTreeMap<String, String>,
}

impl Settings {
    pub(super) fn new(defaults: BTreeMap<String, String>) -> Self {
        Self { values: defaults.clone(), defaults, reports: BTreeMap::new() }
    }

    /// Returns the reported parameters with their values.
    pub(super) fn reported(&self) -> &BTreeMap<String, String> {
        &self.defaults
    }

    /// Sets a parameter of the startup packet, if it is a reported one.
    pub(super) fn assign(&mut self, name: &str, value: &str) {
        if let Some(default) = self.defaults.get_mut(name) {
            value.clone_into(default);
            self.values.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Returns the spelling and the value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<(&str, &str)> {
        let found = self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let known = self.get(name).map(|(name, _)| name.to_owned());
        let is_full = known.is_none() && self.values.len() >= COUNT_MAX;
        if is_full || name.len().max(value.len()) > VALUE_BYTES_MAX {
            return Err(Refusal::limit_exceeded("the parameters of this session"));
        }
        let name = known.unwrap_or_else(|| name.to_owned());
        if self.defaults.contains_key(&name) {
            self.reports.insert(name.clone(), value.to_owned());
        }
        self.values.insert(name, value.to_owned());
        Ok(())
    }

    pub(super) fn reset(&mut self, name: &str) -> Result<(), Refusal> {
        let Some((name, _)) = self.get(name) else { return Err(Refusal::unknown_setting(name)) };
        let name = name.to_owned();
        match self.defaults.get(&name).cloned() {
            Some(value) => self.set(&name, &value),
            None => {
                self.values.remove(&name);
                Ok(())
            }
        }
    }

    pub(super) fn reset_all(&mut self) {
        for (name, value) in &self.defaults {
            if self.values.get(name) != Some(value) {
                self.reports.insert(name.clone(), value.clone());
            }
        }
        self.values.clone_from(&self.defaults);
    }

    pub(super) fn take_reports(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.reports)
    }
}
