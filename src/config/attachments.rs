//! What a configuration carries that is not text.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Config;

/// One value of each type, which only those who know the type can get at.
#[derive(Clone, Default)]
pub(super) struct Attachments(BTreeMap<TypeId, Attachment>);

#[derive(Clone)]
struct Attachment {
    /// The name of the setting. `None` for what is not a setting of the user.
    setting: Option<&'static str>,
    #[allow(dead_code, reason = "as for `attach`")]
    value: Arc<dyn Any + Send + Sync>,
}

impl Attachments {
    /// Shows the names of the settings. Not their values: a value may hold a secret.
    pub(super) fn show(&self, shown: &mut fmt::DebugStruct<'_, '_>) {
        let mut settings: Vec<_> = self.0.values().filter_map(|one| one.setting).collect();
        settings.sort_unstable();
        for setting in settings {
            shown.field(setting, &format_args!("set"));
        }
    }
}

#[allow(dead_code, reason = "only shells attach, and a build may have none")]
impl Config {
    /// Keeps a value that is not text, in place of another one of its type. `setting` is the name of the setting if it is
    /// one of the user.
    pub(crate) fn attach<T: Any + Send + Sync>(
        mut self,
        setting: Option<&'static str>,
        value: Arc<T>,
    ) -> Self {
        let attachment = Attachment { setting, value };
        self.attachments.0.insert(TypeId::of::<T>(), attachment);
        self
    }

    /// The value of that type, if there is one.
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
    fn one_value_of_each_type_is_kept_and_none_is_shown() {
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
