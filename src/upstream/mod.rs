//! One attempt at one peer: connections, requests, answers.

pub mod body;
pub mod http;

pub use body::Payload;
pub use http::{Answered, Failure, Upstream};
