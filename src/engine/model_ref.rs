//! The place of a model.

use std::fmt;
use std::path::PathBuf;

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::demo;

/// The place of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRef {
    /// The built-in model.
    BuiltIn,
    /// A file or folder.
    Path(PathBuf),
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelRef::BuiltIn => f.write_str(demo::NAME),
            ModelRef::Path(path) => path.display().fmt(f),
        }
    }
}

impl ModelRef {
    /// Opens the model's files.
    ///
    /// # Errors
    /// If they cannot be read, or are not a model.
    pub async fn open(&self) -> Result<Checkpoint> {
        match self {
            ModelRef::BuiltIn => Checkpoint::from_sources(vec![demo::source()]).await,
            ModelRef::Path(path) => Checkpoint::open(path).await,
        }
    }
}
