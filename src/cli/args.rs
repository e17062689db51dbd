//! Options that several commands share, and the devices, models and sessions that they open.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::value_parser;
use firelight::checkpoint::Checkpoint;
use firelight::engine::{Engine, EngineOptions, ModelRef, Report, Status};
use firelight::gpu::{Gpu, GpuOptions, Tier};
use firelight::model::Model;
use firelight::ops::KvType;
use firelight::sampler::Sampling;
use firelight::session::{Session, SessionOptions};

use super::Result;
use super::hub;
use super::term::{self, Spinner};
use super::tty::Quiet;

/// Which GPU, and which kernels.
#[derive(clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Part of a GPU's name, or its index in `firelight devices`; the default is the best GPU
    #[arg(long, value_name = "NAME|INDEX")]
    pub device: Option<String>,
    /// Kernel tier: a lower one than the GPU supports, or one that trades precision for speed (int8: 8-bit activations;
    /// f16, cooperative: 16-bit prefill)
    #[arg(long, value_parser = tier())]
    pub tier: Option<Tier>,
}

fn tier() -> impl TypedValueParser<Value = Tier> {
    PossibleValuesParser::new(Tier::ALL.map(Tier::name)).try_map(|name| Tier::from_name(&name).ok_or("no such tier"))
}

impl DeviceArgs {
    /// Opens the device.
    pub async fn open(&self) -> Result<Gpu> {
        let gpu = Gpu::open(&self.options()).await?;
        let card = gpu.adapter();
        tracing::info!("{} ({}), {} tier. {}", card.name, card.backend, card.caps.tier, card.why_not_higher);
        if self.device.is_none() {
            term::say_software(card);
        }
        Ok(gpu)
    }

    /// How the device is opened.
    pub fn options(&self) -> GpuOptions {
        GpuOptions::default().device(self.device.clone()).tier(self.tier)
    }

    /// Like `open`, but selects an exact tier unless the arguments name one.
    pub async fn open_exact(&self) -> Result<Gpu> {
        let gpu = self.open().await?;
        let exact = gpu.caps().exact_tier();
        Ok(if self.tier.is_none() { gpu.in_tier(exact) } else { gpu })
    }
}

/// Context, KV cache and memory.
#[derive(clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Context size in tokens, for prompt and answer together; the default is the model's, up to 4096
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// KV cache type: f16, or q8_0 for half the memory; the default is f16 if a usable context fits
    #[arg(long, value_name = "TYPE", value_parser = kv())]
    pub kv: Option<KvType>,
    /// Limit GPU memory, e.g. 6GiB; MoE experts that do not fit are offloaded and streamed from the file
    #[arg(long, value_name = "SIZE", value_parser = term::parse_bytes)]
    pub memory: Option<u64>,
    /// Decode steps in flight before the first result is read
    #[arg(long, value_name = "K", value_parser = value_parser!(u32).range(1..=64))]
    pub run_ahead: Option<u32>,
}

fn kv() -> impl TypedValueParser<Value = KvType> {
    PossibleValuesParser::new(KvType::ALL.map(KvType::name))
        .try_map(|name| KvType::from_name(&name).ok_or("no such type"))
}

impl EngineArgs {
    /// The session's options.
    pub fn options(&self) -> SessionOptions {
        let default = SessionOptions::default();
        let run_ahead = self.run_ahead.unwrap_or(default.run_ahead);
        default.context(self.context).memory(self.memory).kv(self.kv).run_ahead(run_ahead)
    }
}

/// Sampling parameters and stop conditions.
#[derive(clap::Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Always take the most likely token
    #[arg(long, conflicts_with = "temperature")]
    greedy: bool,
    /// Sampling temperature: lower is more predictable; 0 is greedy
    #[arg(long, visible_alias = "temp", value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Sample from the K most likely tokens; 0 for all
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Nucleus sampling: sample from the most likely tokens whose probabilities add up to P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Sample from tokens that are at least P times as likely as the most likely one
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Penalty on tokens that occurred before; 1 disables it
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,
    /// Subtract X from a token's logit for each time that it was generated
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Subtract X from a token's logit if it was generated
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Random seed; the same seed gives the same text; random by default
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Add BIAS to the logit of token ID; may be repeated
    #[arg(long, value_name = "ID=BIAS", value_parser = logit_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Print each token's log-probability and its N most likely alternatives to stderr
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=100))]
    logprobs: Option<u32>,
    /// Stop before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Stop after N tokens
    #[arg(long, short = 'n', value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
}

fn logit_bias(text: &str) -> std::result::Result<(u32, f32), String> {
    let parsed = text.split_once('=').and_then(|(id, bias)| Some((id.trim().parse().ok()?, bias.trim().parse().ok()?)));
    parsed.ok_or_else(|| "expected ID=BIAS, e.g. 42=-1.5".to_string())
}

impl SamplingArgs {
    /// The sampling parameters; the library's defaults fill in the rest.
    pub fn sampling(&self) -> Sampling {
        let default = Sampling::default();
        Sampling::default()
            .temperature(if self.greedy { 0.0 } else { self.temperature.unwrap_or(default.temperature) })
            .top_k(self.top_k.unwrap_or(default.top_k))
            .top_p(self.top_p.unwrap_or(default.top_p))
            .min_p(self.min_p.unwrap_or(default.min_p))
            .repetition_penalty(self.repeat_penalty.unwrap_or(default.repetition_penalty))
            .frequency_penalty(self.frequency_penalty.unwrap_or(default.frequency_penalty))
            .presence_penalty(self.presence_penalty.unwrap_or(default.presence_penalty))
            .seed(self.seed.unwrap_or_else(any_seed))
            .logit_bias(self.logit_bias.clone())
            .logprobs(self.logprobs)
    }
}

/// A random seed, short enough to type.
fn any_seed() -> u64 {
    fastrand::u64(..1_000_000_000)
}

/// Whether the network may be used.
#[derive(clap::Args, Clone, Copy)]
pub struct OfflineArg {
    /// Use no network: do not download missing models
    #[arg(long)]
    pub offline: bool,
}

/// A required model.
#[derive(clap::Args)]
pub struct ModelArg {
    /// A GGUF file (any part of a split model), a Hugging Face folder, ORG/REPO[:QUANT] on the hub, or `demo`
    #[arg(value_name = "MODEL")]
    pub name: PathBuf,
    #[command(flatten)]
    offline: OfflineArg,
}

impl ModelArg {
    /// Locates the model; downloads it if necessary.
    pub async fn place(&self) -> Result<ModelRef> {
        hub::find(&self.name, self.offline.offline).await
    }

    /// Opens the model's files.
    pub async fn open_checkpoint(&self) -> Result<Checkpoint> {
        Ok(self.place().await?.open().await?)
    }

    /// Opens the model.
    pub async fn open(&self) -> Result<Model> {
        open_model(&self.place().await?).await
    }
}

/// Opens a model's header and prints its tokenizer's warnings.
pub async fn open_model(place: &ModelRef) -> Result<Model> {
    let model = Model::from_checkpoint(place.open().await?).await?;
    model.tokenizer.notices().iter().for_each(|n| term::note(n));
    Ok(model)
}

/// Prints a model's other warnings, which concern its chat template: call it where a template is used.
pub fn say_template(model: &Model) {
    let of_tokenizer = model.tokenizer.notices();
    model.notices.iter().filter(|n| !of_tokenizer.contains(n)).for_each(|n| term::note(n));
}

/// Opens a session with a progress bar and prints its warnings.
pub async fn open_session(gpu: &Gpu, model: &Model, options: &SessionOptions) -> Result<Session> {
    let session = Session::builder(gpu, model).options(options).on_progress(term::bytes_bar("loading")).load().await?;
    session.notices().iter().for_each(|n| term::note(n));
    Ok(session)
}

/// Loads a model into an engine and prints its warnings. Meanwhile a bar shows how much of the weights is loaded, and a
/// spinner that kernels are compiled.
pub async fn open_engine(gpu: Gpu, model: Arc<Model>, device: &DeviceArgs, session: SessionOptions) -> Result<Engine> {
    let compiling = || Some(Spinner::begin("compiling kernels".into()));
    // What is shown, until the engine is loaded: after a lost device, nobody would take the spinner away.
    let shown = Arc::new(Mutex::new(Some(None)));
    let (within, mut bar) = (shown.clone(), term::bytes_bar("loading"));
    let report: Report = Box::new(move |status| {
        let show = |spinner| {
            if let Some(shown) = &mut *within.lock().unwrap_or_else(PoisonError::into_inner) {
                *shown = spinner;
            }
        };
        match status {
            Status::Compiling => {
                bar = term::bytes_bar("loading");
                show(compiling());
            }
            Status::Loading(progress) => {
                show(None);
                bar(progress);
                if progress.done >= progress.total {
                    show(compiling());
                }
            }
            Status::Warning(warning) => term::note(&warning),
            _ => {}
        }
    });
    let _quiet = Quiet::begin();
    let options = EngineOptions::default().gpu(device.options()).session(session);
    let loaded = Engine::load(gpu, model, options, report).await;
    drop(shown.lock().unwrap_or_else(PoisonError::into_inner).take());
    let engine = loaded?;
    engine.session()?.notices().iter().for_each(|n| term::note(n));
    Ok(engine)
}
