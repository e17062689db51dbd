//! `serve`: the arguments of the server; what it does is in `crate::server`.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::value_parser;
use firelight::demo;
use firelight::gpu::GpuOptions;
use firelight::session::SessionOptions;
use pollster::block_on;

use super::Result;
use super::args::{DeviceArgs, EngineArgs, OfflineArg};
use super::hub;
use super::term::{self, Failure};
use crate::server::{Guard, Registry, Setup, serve};

/// Where the key is, if not among the arguments (which every user of the machine can read).
const KEY_VARIABLE: &str = "FIRELIGHT_API_KEY";

const EXAMPLES: &str = "\
A model is called by its file's name without the ending. One is loaded at a time: the first at once, another when it is
asked for. Clients find OpenAI's API at /v1, Ollama's at /api, Anthropic's at /v1/messages; also /health and /metrics.

Examples:
  firelight serve
  firelight serve qwen3-0.6b-q4_0.gguf
  OPENAI_BASE_URL=http://127.0.0.1:11435/v1 OPENAI_API_KEY=none python my_program.py
  OLLAMA_HOST=127.0.0.1:11435 ollama run qwen3-0.6b-q4_0
  firelight serve model.gguf --host 0.0.0.0 --api-key SECRET";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// GGUF files (any one of a split model), Hugging Face folders, names on the hub, or `demo`, the built-in model,
    /// which is the default
    #[arg(value_name = "MODEL", default_value = demo::NAME, hide_default_value = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    offline: OfflineArg,
    /// The port; 0 for any that is free
    #[arg(long, default_value_t = 11435)]
    port: u16,
    /// The address to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Answer only who has this key; by default that of the environment variable FIRELIGHT_API_KEY
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Answer everyone who can reach the address
    #[arg(long, conflicts_with = "api_key")]
    insecure: bool,
    /// A name, besides localhost and addresses, by which clients call the server; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// An origin whose pages may ask, such as http://localhost:3000, or * for all; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Answers at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// Requests that may wait; further ones are told to come back later
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Minutes after which an idle model is unloaded; 0 for never
    #[arg(long, value_name = "MINUTES", default_value_t = 5)]
    keep_alive: u64,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: Args) -> Result {
    let given = args.api_key.or_else(|| std::env::var(KEY_VARIABLE).ok().filter(|_| !args.insecure));
    let key = given.filter(|key| !key.is_empty());
    if !args.host.is_loopback() && key.is_none() && !args.insecure {
        let message = format!(
            "at {} everyone who can reach this machine could use the model: give them an --api-key KEY (or \
             {KEY_VARIABLE}), or say --insecure",
            args.host
        );
        return Err(Failure::usage(message));
    }
    let guard = Guard { key, hosts: args.allow_host, origins: args.allow_origin };
    let find = |name: &PathBuf| block_on(hub::find(name, args.offline.offline));
    let registry = Registry::open(&args.models.iter().map(find).collect::<Result<Vec<_>>>()?)?;
    let setup = Setup {
        gpu: GpuOptions { device: args.device.device, tier: args.device.tier, ..Default::default() },
        options: SessionOptions { sequences: args.parallel, ..args.engine.options() },
        queue: args.queue,
        keep_alive: (args.keep_alive > 0).then(|| Duration::from_secs(60 * args.keep_alive)),
    };
    let names: Vec<String> = registry.entries().iter().map(|entry| term::printable(&entry.name)).collect();
    let listening = |address: SocketAddr| {
        // A closed stdout is nobody to tell.
        let _ = writeln!(io::stdout(), "serving {} at http://{address}", names.join(", "));
        let _ = io::stdout().flush();
    };
    Ok(serve(SocketAddr::new(args.host, args.port), guard, registry, setup, listening)?)
}
