//! Hugging Face folders.
use super::{Checkpoint, Source};
use crate::{Error, Result};
use std::path::Path;
pub(super) const CONFIG: &str = "config.json";
pub(super) fn files(path: &Path) -> Result<Vec<Source>> {
    Err(Error::Usage(format!("{} is a folder", path.display())))
}
pub(super) async fn open(_: Vec<Source>) -> Result<Checkpoint> {
    Err(Error::Usage("is a folder".into()))
}
