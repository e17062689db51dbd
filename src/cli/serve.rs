//! `serve`: the server's arguments. The server itself is `crate::server`.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::value_parser;
use firelight::demo;
use pollster::block_on;

use super::Result;
use super::args::{DeviceArgs, EngineArgs, OfflineArg};
use super::hub;
use super::term::{self, Failure};
use crate::server::{Auth, Registry, Setup, serve};

/// The environment variable with the API key: every user of a machine can read a program's arguments.
const KEY_VARIABLE: &str = "FIRELIGHT_API_KEY";

const EXAMPLES: &str = "\
A model's name is its file name without the extension. One model is loaded at a time: the first at startup, another when \
a request names it. OpenAI's API is at /v1, Ollama's at /api, Anthropic's at /v1/messages; /health and /metrics exist, too.

Examples:
  firelight serve
  firelight serve qwen3-0.6b-q4_0.gguf
  OPENAI_BASE_URL=http://127.0.0.1:11435/v1 OPENAI_API_KEY=none python my_program.py
  OLLAMA_HOST=127.0.0.1:11435 ollama run qwen3-0.6b-q4_0
  firelight serve model.gguf --host 0.0.0.0 --api-key SECRET";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// GGUF files (any part of a split model), Hugging Face folders, names on the hub, or `demo`, the built-in model
    /// and default
    #[arg(value_name = "MODEL", default_value = demo::NAME, hide_default_value = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    offline: OfflineArg,
    /// Port to listen on; 0 for any free port
    #[arg(long, default_value_t = 11435)]
    port: u16,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Require this API key; the default is the environment variable FIRELIGHT_API_KEY
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Listen on a public address without an API key
    #[arg(long, conflicts_with = "api_key")]
    insecure: bool,
    /// Host name that clients may use, in addition to localhost and IP addresses; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Origin whose web pages may call the server, e.g. http://localhost:3000, or * for all; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Number of requests to answer concurrently
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// Number of requests that may wait; more are rejected with 429
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Minutes until an idle model is unloaded; 0 for never
    #[arg(long, value_name = "MINUTES", default_value_t = 5)]
    keep_alive: u64,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: ServeArgs) -> Result {
    let given = args.api_key.or_else(|| std::env::var(KEY_VARIABLE).ok().filter(|_| !args.insecure));
    let key = given.filter(|key| !key.is_empty());
    if !args.host.is_loopback() && key.is_none() && !args.insecure {
        let message = format!(
            "{} can be reached from other machines: require a key with --api-key KEY or {KEY_VARIABLE}, or allow access \
             without one with --insecure",
            args.host
        );
        return Err(Failure::usage(message));
    }
    let auth = Auth { key, hosts: args.allow_host, origins: args.allow_origin };
    let find = |name: &PathBuf| block_on(hub::find(name, args.offline.offline));
    let registry = Registry::open(&args.models.iter().map(find).collect::<Result<Vec<_>>>()?)?;
    let setup = Setup {
        gpu: args.device.options(),
        session: args.engine.options().sequences(args.parallel),
        queue: args.queue,
        keep_alive: (args.keep_alive > 0).then(|| Duration::from_secs(60 * args.keep_alive)),
        on_device: term::say_software,
        on_warning: term::note,
    };
    let names: Vec<String> = registry.entries().iter().map(|entry| term::printable(&entry.name)).collect();
    let listening = |address: SocketAddr| {
        // Stdout may be closed.
        let _ = writeln!(io::stdout(), "serving {} at http://{address}", names.join(", "));
        let _ = io::stdout().flush();
    };
    Ok(serve(SocketAddr::new(args.host, args.port), auth, registry, setup, listening)?)
}
