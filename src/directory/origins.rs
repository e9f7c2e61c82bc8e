//! Where the rules of an API come from, for those who ask.

use super::Directory;
use crate::explain::{Origin, Origins};
use crate::model::{Policy, PolicyPatch};

impl Directory {
    /// Where each rule of an API's policy comes from.
    pub(super) fn origins(&self, api: &PolicyPatch, service: &PolicyPatch) -> Origins {
        let mut built_in = self.built_in.iter();
        PolicyPatch::KNOWN.map(|field| match built_in.next() {
            _ if api.has(field) => Origin::Api,
            _ if service.has(field) => Origin::Service,
            Some(true) => Origin::BuiltIn,
            Some(false) | None => Origin::Configuration,
        })
    }
}

/// Which fields are as they are where nobody set them.
pub(super) fn built_in(defaults: &Policy) -> Vec<bool> {
    let (set, unset) = (defaults.to_value(), Policy::default().to_value());
    PolicyPatch::KNOWN.into_iter().map(|field| set.get(field) == unset.get(field)).collect()
}
