//! Keeps the view equal to the registry, and this host's providers in it.

pub mod layout;
