//! The command-line program: one file per command. `args` holds the options that several commands share, `term`
//! messages, progress and Ctrl-C, `tty` the terminal's modes.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted.
//! Commands read arguments, call the library, and print; they compute nothing.

mod answer;
mod args;
mod bench;
mod bench_ops;
mod chat;
#[cfg(feature = "chat")]
mod chat_window;
mod complete;
mod devices;
mod doctor;
#[cfg(target_os = "linux")]
mod drivers;
pub mod hub;
mod info;
mod input;
mod output;
mod plan;
mod profile;
mod quantize;
mod report;
mod run;
mod score;
mod screen;
mod serve;
mod settings;
mod shaders;
mod simulate;
mod suggest;
mod synth;
mod term;
mod text;
mod tty;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use firelight::demo;
use term::Failure;

/// The result of a command.
type Result<T = ()> = std::result::Result<T, Failure>;

const EXAMPLES: &str = "\
Examples:
  firelight run                                     chat with the small built-in model
  firelight run model.gguf                          chat with a model
  firelight run model.gguf \"Why is the sky blue?\"   get one answer
  firelight run model.gguf --raw \"Once upon a time\" complete a text
  firelight serve model.gguf                        start an OpenAI-compatible server
  firelight info model.gguf                         describe a file and its memory needs
  firelight devices                                 list GPUs
  firelight bench model.gguf                        measure speed
  firelight doctor                                  check this machine

`firelight help COMMAND` describes a command.
The environment variables WGPU_BACKEND (vulkan, metal, dx12, gl) and WGPU_ADAPTER_NAME also select a \
GPU.";

/// Run open-weight language models (GGUF) on any GPU.
#[derive(Parser)]
#[command(name = "firelight", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    /// Log what happens; repeat for more detail
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 900)]
    verbose: u8,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Chat with a model, get one answer, or complete a text
    Run(run::RunArgs),
    /// Open the chat window
    #[cfg(feature = "chat")]
    Chat(chat_window::ChatWindowArgs),
    /// Open the chat window, which this build does not have
    #[cfg(not(feature = "chat"))]
    #[command(hide = true)]
    Chat {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        ignored: Vec<std::ffi::OsString>,
    },
    /// Serve models to programs that speak OpenAI's, Ollama's or Anthropic's API
    Serve(serve::ServeArgs),
    /// Download a model from the hub
    Pull(hub::PullArgs),
    /// List downloaded models
    #[command(visible_alias = "ls")]
    List(hub::ListArgs),
    /// Delete a downloaded model
    Rm(hub::RmArgs),
    /// Describe a model file, its licence and its memory needs
    #[command(visible_alias = "show")]
    Info(info::InfoArgs),
    /// List GPUs with their kernel tiers and limits, or autotune one
    Devices(devices::DevicesArgs),
    /// Check driver, GPU, kernels, caches and disk, and say what to fix
    Doctor(doctor::DoctorArgs),
    /// Measure how fast a model runs
    Bench(bench::BenchArgs),
    /// Show the dispatches of a model's step and a map of its memory
    Plan(plan::PlanArgs),
    /// Write the logits of tokens to a NumPy file
    Logits(score::LogitsArgs),
    /// Measure a model's perplexity on a text
    Perplexity(score::PerplexityArgs),
    /// Write a quantized copy of a model
    Quantize(quantize::QuantizeArgs),
    /// Print the token ids of a text as a JSON array
    Tokenize(text::TokenizeArgs),
    /// Render messages with a model's chat template
    Template(text::TemplateArgs),
    /// Write every shader variant and its translations
    Shaders(shaders::ShadersArgs),
    /// Write a random but valid model for tests and benchmarks
    Synth(synth::SynthArgs),
    /// Print a script that completes commands and options in a shell
    Completions(complete::CompletionsArgs),
    /// Print a manual page
    #[command(hide = true)]
    Man(complete::ManArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    drivers::prepare();
    term::install_panic_message();
    term::catch_interrupts();
    let cli = Cli::try_parse().unwrap_or_else(|error| with_suggestions(error).exit());
    term::install_log(cli.verbose);
    match pollster::block_on(run(cli.command, cli.verbose > 0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Commands of other programs, and those that do the same here.
const ELSEWHERE: [(&str, &str); 9] = [
    ("models", "list"),
    ("ps", "list"),
    ("gpus", "devices"),
    ("download", "pull"),
    ("fetch", "pull"),
    ("remove", "rm"),
    ("delete", "rm"),
    ("generate", "run"),
    ("start", "serve"),
];

/// Adds what was probably meant to the error about an unknown command.
fn with_suggestions(mut error: clap::Error) -> clap::Error {
    let typed = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(typed)) => typed.clone(),
        _ => return error,
    };
    let cli = Cli::command();
    let commands = cli.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
    let meant: Vec<String> = match ELSEWHERE.iter().find(|(other, _)| *other == typed) {
        Some((_, ours)) => vec![ours.to_string()],
        None => suggest::similar(&typed, commands).into_iter().map(str::to_string).collect(),
    };
    if typed.contains([' ', '.', '/']) {
        let call = if typed.contains(' ') { format!("{} {typed:?}", demo::NAME) } else { typed };
        let tip = format!("to run a model: firelight run {call}").into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    } else if !meant.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(meant));
    }
    error
}

async fn run(command: CliCommand, verbose: bool) -> Result {
    match command {
        CliCommand::Run(args) => run::run(args, verbose).await,
        #[cfg(feature = "chat")]
        CliCommand::Chat(args) => chat_window::run(args).await,
        #[cfg(not(feature = "chat"))]
        CliCommand::Chat { .. } => Err(Failure::usage(
            "this build has no chat window. `firelight run` chats in the terminal. A build with the window: cargo install \
             firelight --features cli,chat",
        )),
        CliCommand::Serve(args) => serve::run(args),
        CliCommand::Pull(args) => hub::pull(args).await,
        CliCommand::List(args) => hub::list(args),
        CliCommand::Rm(args) => hub::rm(args),
        CliCommand::Info(args) => info::run(args).await,
        CliCommand::Devices(args) => devices::run(args).await,
        CliCommand::Bench(args) => bench::run(args).await,
        CliCommand::Plan(args) => plan::run(args).await,
        CliCommand::Logits(args) => score::logits(args).await,
        CliCommand::Perplexity(args) => score::perplexity(args).await,
        CliCommand::Quantize(args) => quantize::run(args).await,
        CliCommand::Tokenize(args) => text::tokenize(args).await,
        CliCommand::Template(args) => text::template(args).await,
        CliCommand::Shaders(args) => shaders::run(args),
        CliCommand::Synth(args) => synth::run(args),
        CliCommand::Doctor(args) => doctor::run(args).await,
        CliCommand::Completions(args) => complete::completions(args, Cli::command()),
        CliCommand::Man(args) => complete::man(args, Cli::command()),
    }
}

/// Ends the program like clap on a usage error: prints the message and the usage of `command`, and exits with code 2.
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
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
