//! `chat`: opens the chat window, which is implemented in the library's `chat` module.

use std::path::PathBuf;

use firelight::chat;
use firelight::engine::ModelRef;

use super::term::Failure;
use super::{Result, args::OfflineArg, hub};

/// Arguments of `chat`.
#[derive(clap::Args)]
pub struct ChatWindowArgs {
    /// The model, as for `firelight run`; the default is the one that was open last
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    offline: OfflineArg,
}

/// Opens the window and returns when it is closed.
pub async fn run(args: ChatWindowArgs) -> Result {
    let place = match args.model {
        Some(name) => Some(match hub::find(&name, args.offline.offline).await? {
            ModelRef::BuiltIn => chat::Place::BuiltIn,
            ModelRef::Path(path) => chat::Place::File(path.display().to_string()),
        }),
        None => None,
    };
    chat::open(place).map_err(Failure::usage)
}
