//! `doctor`: checks what Firelight needs on this machine, and says what to do about what is missing.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use firelight::engine::ModelRef;
use firelight::gpu::{Gpu, Tuning};
use firelight::graph::Attention;
use firelight::hub;
use firelight::plan::tune::{self, TuneSizes};
use firelight::session::SessionOptions;
use firelight::tokenizer::Special;

use super::args::{self, DeviceArgs};
use super::term::{self, Failure, Spinner};
use super::{Result, devices};

#[derive(clap::Args)]
#[command(after_help = "The exit code is 1 if something has to be repaired, and 0 otherwise.")]
pub struct DoctorArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

/// Free bytes below which a download is unlikely to succeed.
const LITTLE_SPACE: u64 = 2 << 30;
/// How far the logits of prefill and decode may differ, relative to their root mean square: a key in f16 is rounded.
const TOLERANCE: f32 = 2e-2;
/// A text for the self-test, which fills more than one page of the KV cache.
const TEXT: &str = "Once upon a time there was a machine without a driver. It computed everything on its processor, slowly, and \
                    waited. One day somebody installed a driver, and from then on each answer came in a moment.";

/// The result of a check.
enum Outcome {
    Fine(String),
    /// Worth knowing; everything works.
    Note(String),
    /// Something does not work; what to do about it.
    Fault(String),
}

use Outcome::{Fault, Fine, Note};

/// Prints results, and counts faults.
#[derive(Default)]
struct Report {
    faults: usize,
}

impl Report {
    fn add(&mut self, name: &str, outcome: Outcome) -> Result {
        let (mark, text) = match &outcome {
            Fine(text) => ("ok", text),
            Note(text) => ("note", text),
            Fault(text) => ("FAULT", text),
        };
        self.faults += usize::from(mark == "FAULT");
        Ok(writeln!(io::stdout(), "{mark:<6} {name:<12} {}", term::printable(text))?)
    }
}

pub async fn run(args: DoctorArgs) -> Result {
    let mut report = Report::default();
    report.add("version", Fine(format!("Firelight {}", env!("CARGO_PKG_VERSION"))))?;
    if let Some(gpu) = device(&args.device, &mut report).await? {
        report.add("kernels", kernels(&gpu).await)?;
        report.add("model", model(&gpu).await)?;
    }
    report.add("models", models())?;
    report.add("disk", disk())?;
    match report.faults {
        0 => Ok(writeln!(io::stdout(), "\nEverything works.")?),
        1 => Err(Failure::usage("1 check failed; what to do is said above")),
        n => Err(Failure::usage(format!("{n} checks failed; what to do is said above"))),
    }
}

/// Adapters, the device, its limits and whether it is tuned.
async fn device(args: &DeviceArgs, report: &mut Report) -> Result<Option<Gpu>> {
    let cards = Gpu::list().await;
    let Some(first) = cards.first() else {
        report.add("adapters", Fault(devices::NO_ADAPTER.into()))?;
        return Ok(None);
    };
    report.add("adapters", Fine(format!("{}; `firelight devices` lists them", cards.len())))?;
    if let Some(why) = first.unusable.as_ref().filter(|_| args.device.is_none()) {
        report.add("adapter", Note(format!("{} cannot be used: {why}", first.name)))?;
    }
    let gpu = match Gpu::open(&args.options().tuning(Tuning::Cached)).await {
        Ok(gpu) => gpu,
        Err(error) => {
            report.add("device", Fault(format!("{error}. Update the graphics driver, or choose another --device.")))?;
            return Ok(None);
        }
    };
    let (card, caps) = (gpu.adapter(), gpu.caps());
    let name = format!("{} ({}, {}), driver {}", card.name, card.backend, card.kind, card.driver);
    report.add("device", match caps.software {
        true => Note(format!(
            "{name}: no GPU, the CPU computes, many times slower. If this machine has a GPU, install its Vulkan driver."
        )),
        false => Fine(name),
    })?;
    let (binding, buffer) = (term::bytes(caps.max_binding), term::bytes(caps.max_buffer));
    report.add("limits", Fine(format!("largest binding {binding}, largest buffer {buffer}")))?;
    report.add(
        "tier",
        match card.why_not_higher.as_str() {
            "" => Fine(format!("{}, the highest exact one", caps.tier)),
            why => Note(format!("{}, because of {why}", caps.tier)),
        },
    )?;
    report.add(
        "tuning",
        match (&card.tuning, caps.software) {
            (Some(_), _) => Fine("the kernels are tuned for this device".into()),
            (None, true) => Fine("not needed: software adapters use the default".into()),
            (None, false) => Note("not yet; the first run does it, or `firelight devices --tune`".into()),
        },
    )?;
    Ok(Some(gpu))
}

/// Compares matrix products and attention in every configuration that tuning tries with the CPU's results.
async fn kernels(gpu: &Gpu) -> Outcome {
    let _spinner = Spinner::begin("checking kernels".into());
    let sizes = TuneSizes {
        matrix: (256, 512),
        prompts_matrix: (192, 256),
        attention: Attention::full(2, 1, 64),
        rows: 100,
        first: 40,
    };
    let trials = match tune::trials(gpu, gpu.caps(), &sizes).await {
        Ok(trials) => trials,
        Err(error) => return Fault(format!("they do not run: {error}. Update the graphics driver.")),
    };
    let wrong: Vec<_> = trials.iter().filter(|trial| trial.seconds.is_none()).collect();
    if tune::tune_result(&trials).is_none() {
        let what = "every kernel computes wrong results: update the graphics driver, or choose another --device";
        return Fault(what.into());
    }
    match wrong.first() {
        None => Fine(format!("{} configurations compute what the CPU computes", trials.len())),
        Some(first) => Note(format!(
            "{} of {} configurations compute wrong results and are not used (the first in tier {}); a newer graphics \
             driver may be faster",
            wrong.len(),
            trials.len(),
            first.tier
        )),
    }
}

/// Whether prefill and decode of the built-in model, which use different kernels, give the same logits.
async fn model(gpu: &Gpu) -> Outcome {
    match logits_differ(gpu).await {
        Ok(difference) if difference <= TOLERANCE => {
            Fine(format!("the built-in model runs; prefill and decode differ by {difference:.0e}"))
        }
        Ok(difference) => Fault(format!(
            "prefill and decode of the built-in model differ by {difference:.0e}: update the graphics driver, or try --tier \
             baseline"
        )),
        Err(Failure::Error(error)) => Fault(format!("the built-in model does not run: {error}")),
        Err(_) => Fault("the built-in model does not run".into()),
    }
}

/// The largest difference of logits, relative to their root mean square. Numbers that are none differ infinitely.
async fn logits_differ(gpu: &Gpu) -> Result<f32> {
    let model = Arc::new(args::open_model(&ModelRef::BuiltIn).await?);
    let tokens = model.tokenizer.encode(TEXT, Special::PARSE)?;
    let options = SessionOptions::default().logits(16).context(u32::try_from(tokens.len()).ok());
    let mut session = args::open_session(gpu, &model, &options).await?;
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    session.prefill_logits(&tokens, |_, row| prefill.extend_from_slice(row)).await?;
    session.decode_logits(&tokens, |_, row| decode.extend_from_slice(row)).await?;
    let squares: f32 = prefill.iter().map(|x| x * x).sum();
    let rms = (squares / prefill.len() as f32).sqrt();
    let difference = prefill.iter().zip(&decode).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / rms;
    Ok(if prefill.iter().chain(&decode).all(|x| x.is_finite()) && rms > 0.0 { difference } else { f32::INFINITY })
}

/// The models that are downloaded.
fn models() -> Outcome {
    let cache = match hub::cache::folder() {
        Ok(cache) => cache,
        Err(error) => return Fault(error.to_string()),
    };
    let kept = hub::cache::list(&cache);
    let bytes = term::bytes(kept.iter().map(|model| model.bytes).sum());
    match kept.len() {
        0 => Fine(format!("none in {}; `firelight pull ORG/REPO` downloads one", cache.display())),
        1 => Fine(format!("1, {bytes}, in {}", cache.display())),
        n => Fine(format!("{n}, {bytes}, in {}", cache.display())),
    }
}

/// Room for more models.
fn disk() -> Outcome {
    let Ok(cache) = hub::cache::folder() else { return Note("unknown".into()) };
    let exists = cache.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    match fs4::available_space(exists) {
        Ok(free) if free < LITTLE_SPACE => Note(format!(
            "only {} are free in {}: remove models with `firelight rm`, or set HF_HOME to a folder on another disk",
            term::bytes(free),
            exists.display()
        )),
        Ok(free) => Fine(format!("{} are free in {}", term::bytes(free), exists.display())),
        Err(error) => Note(format!("the free space of {} is unknown: {error}", exists.display())),
    }
}
