//! One attempt at one peer: connections, requests, answers.

pub mod body;
pub mod budget;
pub mod http;

pub use body::Payload;
pub use budget::Budget;
pub use http::{Answered, Failure, Upstream};
