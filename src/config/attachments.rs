//! The values of a configuration that are not text, such as functions and TLS settings.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Config;

/// At most one value of each type. It is found by its type.
#[derive(Clone, Default)]
pub(super) struct Attachments(BTreeMap<TypeId, Attachment>);

#[derive(Clone)]
struct Attachment {
    /// The name of the setting. `None` if it is not a setting of the user.
    setting: Option<&'static str>,
    #[allow(dead_code, reason = "as for `attach`")]
    value: Arc<dyn Any + Send + Sync>,
}

impl Attachments {
    /// Shows the names of the settings, but not their values: a value may contain a secret.
    pub(super) fn show(&self, shown: &mut fmt::DebugStruct<'_, '_>) {
        let mut settings: Vec<_> = self.0.values().filter_map(|one| one.setting).collect();
        settings.sort_unstable();
        for setting in settings {
            shown.field(setting, &format_args!("set"));
        }
    }
}

#[allow(dead_code, reason = "only drivers attach values, and a build may have no driver")]
impl Config {
    /// Stores a value that is not text, and replaces another value of the same type. `setting` is the name of the setting,
    /// if the user set it.
    pub(crate) fn attach<T: Any + Send + Sync>(
        mut self,
        setting: Option<&'static str>,
        value: Arc<T>,
    ) -> Self {
        let attachment = Attachment { setting, value };
        self.attachments.0.insert(TypeId::of::<T>(), attachment);
        self
    }

    /// Returns the value of type `T`, if there is one.
    pub(crate) fn attachment<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.attachments.0.get(&TypeId::of::<T>())?.value.clone().downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Secret(&'static str);

    #[test]
    fn one_value_of_each_type_is_stored_and_no_value_is_shown() {
        let config = Config::new().attach(Some("secret"), Arc::new(Secret("old")));
        let config = config.attach(None, Arc::new(7_u16));
        let config = config.attach(Some("secret"), Arc::new(Secret("pencil")));
        assert_eq!(*config.attachment::<Secret>().unwrap(), Secret("pencil"));
        assert_eq!(config.attachment::<u16>().as_deref(), Some(&7));
        assert!(config.attachment::<String>().is_none());
        assert_eq!(format!("{config:?}"), "Config { secret: set }");
        assert!(!config.to_string().contains("pencil"), "{config}");
    }
}
