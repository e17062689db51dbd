//! `completions` and `man`: shell completions and manual pages, made from the definition of the command line.

use std::io::{self, Write};

use clap::Command;
use clap_complete::Shell;

use super::Result;
use super::term::Failure;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  firelight completions bash > ~/.local/share/bash-completion/completions/firelight
  firelight completions zsh > \"${fpath[1]}/_firelight\"
  firelight completions fish > ~/.config/fish/completions/firelight.fish
  firelight completions powershell >> $PROFILE")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub fn completions(args: CompletionsArgs, mut cli: Command) -> Result {
    // clap_complete would panic at a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "firelight", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

#[derive(clap::Args)]
pub struct ManArgs {
    /// The command to describe; by default the program
    command: Option<String>,
}

pub fn man(args: ManArgs, mut cli: Command) -> Result {
    cli.build();
    let command = match &args.command {
        None => cli,
        Some(name) => {
            let found = cli.find_subcommand(name).cloned();
            found.ok_or_else(|| Failure::usage(format!("there is no command {name}")))?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(io::stdout().write_all(&page)?)
}
