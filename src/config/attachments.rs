//! What a configuration carries that is not text.

use std::any::{Any, TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Config;

/// One value of each type, which only those who know the type can get at.
#[derive(Clone, Default)]
pub(super) struct Attachments(BTreeMap<TypeId, Attachment>);

#[derive(Clone)]
struct Attachment {
    type_name: &'static str,
    #[allow(dead_code, reason = "as for `attach`")]
    value: Arc<dyn Any + Send + Sync>,
}

impl Attachments {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The names of the types: a value may hold a secret.
impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.values().map(|attachment| attachment.type_name)).finish()
    }
}

#[allow(dead_code, reason = "only shells attach, and a build may have none")]
impl Config {
    /// Keeps a value that is not text, in place of another one of its type.
    pub(crate) fn attach<T: Any + Send + Sync>(mut self, value: Arc<T>) -> Self {
        let attachment = Attachment { type_name: type_name::<T>(), value };
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
        let config = Config::new().attach(Arc::new(Secret("old"))).attach(Arc::new(7_u16));
        let config = config.attach(Arc::new(Secret("pencil")));
        assert_eq!(*config.attachment::<Secret>().unwrap(), Secret("pencil"));
        assert_eq!(config.attachment::<u16>().as_deref(), Some(&7));
        assert!(config.attachment::<String>().is_none());
        let shown = format!("{config:?}{config}");
        assert!(shown.contains("Secret\"") && !shown.contains("pencil"), "{shown}");
        assert!(!format!("{:?}", Config::new()).contains("attachments"));
    }
}
