//! What a Yar caller gets thrown.

use std::fmt;

use proto_adapters::yar::{Code, Exception};

use super::CallError;

impl CallError {
    /// What a Yar caller gets thrown.
    pub fn exception(&self) -> Exception {
        if let Self::ProviderException(thrown) = self {
            return thrown.clone();
        }
        let verdict = self.verdict();
        Exception {
            message: self.to_string(),
            code: Code::Int(verdict.code),
            file: String::new(),
            line: 0,
            class: format!("Remora\\{}", pascal(verdict.kind)),
        }
    }

    /// The same of a call with this id, which PHP sees nowhere else; what a provider threw is its own.
    pub fn exception_of(&self, call: Option<impl fmt::Display>) -> Exception {
        let mut thrown = self.exception();
        if let Some(call) = call.filter(|_| !matches!(self, Self::ProviderException(_))) {
            thrown.message = format!("{} (call {call})", thrown.message);
        }
        thrown
    }
}

/// `no-service` → `NoService`.
fn pascal(kind: &str) -> String {
    let upper = |word: &str| word.get(..1).unwrap_or("").to_uppercase() + word.get(1..).unwrap_or("");
    kind.split('-').map(upper).collect()
}
