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
    /// A size exceeds what Firelight, a file's format or a disk allows.
    #[error("{0}")]
    Limit(String),
    /// A model, with the context and the sequences that were asked for, exceeds a limit of the device.
    #[error("{message}")]
    DoesNotFit {
        /// What does not fit, and the smallest change that would help.
        message: String,
        /// Bytes that the plan needs: in all, or of its largest binding. 0 where the limit is not one of bytes.
        needed: u64,
        /// Bytes that the device offers for it. 0 where the limit is not one of bytes.
        available: u64,
    },
    /// Tokens leave no room in the context, for an answer or for themselves.
    #[error(
        "{tokens} tokens leave no room in a context of {context} positions: shorten the text, or open the model with a \
         larger context"
    )]
    ContextFull {
        /// Tokens of the prompt or text.
        tokens: usize,
        /// Positions of the context.
        context: usize,
    },
    /// The device ran out of memory while buffers were allocated.
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
