//! The one error type. A message says what is wrong and, where there is one, the next step to take.

use std::fmt;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong outside our own bugs (those panic).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or another byte source could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path or address.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not what their format demands (truncated, out of range, wrong magic).
    #[error("{0}")]
    Format(String),
    /// A well-formed file asks for something Firelight does not have.
    #[error("{0}")]
    Unsupported(String),
    /// Something does not fit: memory, a binding limit, the context.
    #[error("{0}")]
    Limit(String),
    /// The device has not enough free memory.
    #[error("{0}")]
    Memory(String),
    /// No usable adapter, or the device refused or was lost.
    #[error("{0}")]
    Gpu(String),
    /// The tokenizer or the chat template refused.
    #[error("{0}")]
    Text(String),
    /// A server could not be reached, or did not give what was asked of it.
    #[error("{0}")]
    Network(String),
    /// The caller's arguments make no sense together.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// An [`Error::Io`] that says what was being done.
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        Error::Io { what: what.to_string(), source }
    }

    /// An [`Error::Format`].
    pub fn format(message: impl fmt::Display) -> Self {
        Error::Format(message.to_string())
    }
}
