//! `chat`: opens the chat window. All of it is the library's `chat`.

use std::path::PathBuf;

use super::Result;
use super::term::Failure;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// A GGUF file (any one of a split model) or a Hugging Face folder; by default the model that was open last
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
}

/// Opens the window, and returns when it is closed.
pub fn run(args: Args) -> Result {
    firelight::chat::open(args.model).map_err(Failure::usage)
}
