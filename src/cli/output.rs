//! Output files of commands.

use std::path::Path;

use firelight::engine::ModelRef;
pub use firelight::output::Content;
use firelight::output::Output;

use super::Result;
use super::term;

/// Creates an output file and prints a note if it will replace one. `place` is the model that the command reads.
pub fn create(path: &Path, content: Content, place: Option<&ModelRef>) -> Result<Output> {
    let model = place.and_then(|place| match place {
        ModelRef::BuiltIn => None,
        ModelRef::Path(path) => Some(path.as_path()),
    });
    let output = Output::create(path, content, model)?;
    if output.replaces() {
        term::note(&format!("replacing {}", path.display()));
    }
    Ok(output)
}
