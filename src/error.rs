//! The error type. A message says what is wrong and, if there is one, the next step to take.

use std::fmt;

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error that caused another one.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Anything that can fail, other than Firelight's own bugs, which panic. Messages include those of their causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or another byte source could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, with the path or address.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The bytes violate their format (truncated, out of range, wrong magic).
    #[error("{message}")]
    Format {
        /// What is wrong, with the file's name.
        message: String,
        /// The parser's error, if there is one.
        source: Option<Cause>,
    },
    /// A well-formed file needs a feature that Firelight does not have.
    #[error("{0}")]
    Unsupported(String),
    /// A size exceeds what Firelight, a file's format or a disk allows.
    #[error("{0}")]
    Limit(String),
    /// A model, with the requested context and sequences, exceeds a limit of the device.
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
    /// There is no usable adapter, or the device failed or was lost.
    #[error("{0}")]
    Gpu(String),
    /// The tokenizer or the chat template rejects the input.
    #[error("{message}")]
    Text {
        /// What is wrong.
        message: String,
        /// The error of the template engine or the tokenizer, if there is one.
        source: Option<Cause>,
    },
    /// A server cannot be reached, or its reply is not what was requested.
    #[error("{message}")]
    Network {
        /// What is wrong, with the address.
        message: String,
        /// The connection's error, if there is one.
        source: Option<Cause>,
    },
    /// The caller's arguments contradict each other.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// An [`Error::Io`]: what was attempted, and the cause.
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        Error::Io { what: what.to_string(), source }
    }

    /// An [`Error::Format`] without a cause.
    pub fn format(message: impl fmt::Display) -> Self {
        Error::Format { message: message.to_string(), source: None }
    }

    /// An [`Error::Text`] without a cause.
    pub fn text(message: impl fmt::Display) -> Self {
        Error::Text { message: message.to_string(), source: None }
    }

    /// An [`Error::Network`] without a cause.
    pub fn network(message: impl fmt::Display) -> Self {
        Error::Network { message: message.to_string(), source: None }
    }

    /// Sets the cause of an [`Error::Format`], [`Error::Text`] or [`Error::Network`].
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        if let Error::Format { source, .. } | Error::Text { source, .. } | Error::Network { source, .. } = &mut self {
            *source = Some(cause.into());
        }
        self
    }
}
