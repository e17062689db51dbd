//! The command-line program. One file a command; `args` holds the options that several share, `term` all that is
//! written to and read from a terminal.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 called wrongly, 130 interrupted.
//! Nothing here computes: it reads arguments, calls the library, and prints.

mod args;
mod bench;
mod bench_ops;
mod chat;
#[cfg(feature = "chat")]
mod chat_window;
mod devices;
#[cfg(target_os = "linux")]
mod drivers;
pub mod hub;
mod info;
mod input;
mod output;
mod plan;
mod profile;
mod quantize;
mod run;
mod score;
#[cfg(feature = "server")]
mod serve;
mod shaders;
mod synth;
mod term;
mod text;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use term::Failure;
#[cfg(feature = "server")]
pub use term::{note, say_software};
#[cfg(feature = "server")]
pub use text::{date, today};

/// What a command returns.
type Result<T = ()> = std::result::Result<T, Failure>;

const EXAMPLES: &str = "\
Examples:
  firelight run                                     talk to the small model in the box
  firelight run model.gguf                          talk to a model
  firelight run model.gguf \"Why is the sky blue?\"   one answer
  firelight run model.gguf --raw \"Once upon a time\" continue a text
  firelight serve model.gguf                        answer other programs
  firelight info model.gguf                         what is in a file, and what it needs
  firelight devices                                 which GPUs there are
  firelight bench model.gguf                        how fast it is

`firelight help COMMAND` tells more about each.
The environment variables WGPU_BACKEND (vulkan, metal, dx12, gl) and WGPU_ADAPTER_NAME choose a \
GPU too.";

/// Run open-weight language models (GGUF) on any GPU.
#[derive(Parser)]
#[command(name = "firelight", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    /// Tell what happens on the way; twice: in detail
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 900)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Talk to a model, ask it one thing, or let it continue a text
    Run(run::Args),
    /// Open the chat window
    #[cfg(feature = "chat")]
    Chat(chat_window::Args),
    /// Serve models to programs that speak OpenAI's, Ollama's or Anthropic's API
    #[cfg(feature = "server")]
    Serve(serve::Args),
    /// Fetch a model from the hub
    Pull(hub::PullArgs),
    /// List the models that were fetched
    List(hub::ListArgs),
    /// Remove a model that was fetched
    Rm(hub::RmArgs),
    /// Show what is in a model file, its licence, and what it needs
    #[command(visible_alias = "show")]
    Info(info::Args),
    /// List the GPUs, their tiers and limits, or measure what suits one
    Devices(devices::Args),
    /// Measure how fast a model runs
    Bench(bench::Args),
    /// Show what a model's step dispatches, and where its bytes are
    Plan(plan::Args),
    /// Write the logits of given tokens to a NumPy file
    Logits(score::LogitsArgs),
    /// Measure how well a model predicts a text
    Perplexity(score::PerplexityArgs),
    /// Write a smaller copy of a model
    Quantize(quantize::Args),
    /// Print a text's token ids as a JSON array
    Tokenize(text::TokenizeArgs),
    /// Print the prompt that a chat template makes of messages
    Template(text::TemplateArgs),
    /// Write every shader variant and its translations to a folder
    Shaders(shaders::Args),
    /// Write a random but valid model of a known shape, for tests and measurements
    Synth(synth::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    drivers::prepare();
    term::install_panic_message();
    term::catch_interrupts();
    let cli = Cli::parse();
    term::install_log(cli.verbose);
    match pollster::block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command) -> Result {
    match command {
        Command::Run(args) => run::run(args).await,
        #[cfg(feature = "chat")]
        Command::Chat(args) => chat_window::run(args).await,
        #[cfg(feature = "server")]
        Command::Serve(args) => serve::run(args),
        Command::Pull(args) => hub::pull(args).await,
        Command::List(args) => hub::list(args),
        Command::Rm(args) => hub::rm(args),
        Command::Info(args) => info::run(args).await,
        Command::Devices(args) => devices::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Plan(args) => plan::run(args).await,
        Command::Logits(args) => score::logits(args).await,
        Command::Perplexity(args) => score::perplexity(args).await,
        Command::Quantize(args) => quantize::run(args).await,
        Command::Tokenize(args) => text::tokenize(args).await,
        Command::Template(args) => text::template(args).await,
        Command::Shaders(args) => shaders::run(args),
        Command::Synth(args) => synth::run(args),
    }
}

/// Ends the program as clap does when it was called wrongly: the message, the usage of `command`, exit code 2.
fn wrong_call(command: &str, message: &str) -> ! {
    let mut cli = Cli::command();
    cli.build();
    match cli.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::MissingRequiredArgument, message).exit(),
        None => cli.error(ErrorKind::MissingRequiredArgument, message).exit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
