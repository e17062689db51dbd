//! `doctor`: checks what Firelight needs on this machine, and says what to do about what is missing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, process};

use firelight::engine::ModelRef;
use firelight::gpu::{self, Gpu, NO_ADAPTER, Tuning};
use firelight::graph::Attention;
use firelight::hub;
use firelight::plan::tune::{self, Trial, TuneSizes};
use firelight::session::SessionOptions;
use firelight::tokenizer::Special;

use super::Result;
use super::args::{self, DeviceArgs};
use super::term::{self, Failure, Spinner};

#[derive(clap::Args)]
#[command(after_help = "The exit code is 1 if a check finds a FAULT, and 0 otherwise.")]
pub struct DoctorArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

/// Free bytes below which a download is unlikely to succeed.
const LITTLE_SPACE: u64 = 2 << 30;
/// How far the logits of prefill and decode may differ, relative to their root mean square: a key in f16 is rounded.
const TOLERANCE: f32 = 2e-2;
/// The text of the model check, which fills more than one page of the KV cache.
const TEXT: &str = "Once upon a time there was a machine without a driver. It computed everything on its processor, \
                    slowly, and waited. One day somebody installed a driver, and from then on each answer came in a \
                    moment.";

/// The result of a check.
pub(super) enum Outcome {
    Fine(String),
    /// Worth knowing; everything works.
    Note(String),
    /// Something does not work; the text says what to do.
    Fault(String),
}

use Outcome::{Fault, Fine, Note};

impl Outcome {
    /// The mark before the text, and the text.
    pub(super) fn shown(self) -> (&'static str, String) {
        match self {
            Fine(text) => ("ok", text),
            Note(text) => ("note", text),
            Fault(text) => ("FAULT", text),
        }
    }
}

/// Prints results, and counts faults.
#[derive(Default)]
struct Report {
    faults: usize,
}

impl Report {
    fn add(&mut self, name: &str, outcome: Outcome) -> Result {
        let (mark, text) = outcome.shown();
        self.faults += usize::from(mark == "FAULT");
        Ok(writeln!(io::stdout(), "{mark:<6} {name:<12} {}", term::printable(&text))?)
    }
}

pub async fn run(args: DoctorArgs) -> Result {
    let mut report = Report::default();
    report.add("version", Fine(format!("Firelight {}", env!("CARGO_PKG_VERSION"))))?;
    if let Some(gpu) = device(&args.device, &mut report).await? {
        report.add("kernels", kernels(&gpu).await)?;
        report.add("model", model(&gpu).await)?;
    }
    report.add("cache", cache())?;
    report.add("downloads", downloads())?;
    report.add("disk", disk())?;
    match report.faults {
        0 => Ok(writeln!(io::stdout(), "\nEverything works.")?),
        1 => Err(Failure::usage("1 check failed: the line marked FAULT says what to do")),
        n => Err(Failure::usage(format!("{n} checks failed: the lines marked FAULT say what to do"))),
    }
}

/// The adapters, and the device with its driver, limits, tier and tuning.
async fn device(args: &DeviceArgs, report: &mut Report) -> Result<Option<Gpu>> {
    let cards = Gpu::list().await;
    let Some(first) = cards.first() else {
        report.add("adapters", Fault(NO_ADAPTER.into()))?;
        return Ok(None);
    };
    report.add("adapters", Fine(format!("{} found; `firelight devices` lists them", cards.len())))?;
    if let Some(why) = first.unusable.as_ref().filter(|_| args.device.is_none()) {
        report.add("adapters", Note(format!("{} cannot be used: {why}", first.name)))?;
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
    let slow =
        "it computes on the CPU, many times slower than a GPU. If this machine has a GPU, install its Vulkan driver.";
    report.add("device", if caps.software { Note(format!("{name}: {slow}")) } else { Fine(name) })?;
    let (binding, buffer) = (term::bytes(caps.max_binding), term::bytes(caps.max_buffer));
    report.add("limits", Fine(format!("largest binding {binding}, largest buffer {buffer}")))?;
    let tier = match card.why_not_higher.as_str() {
        "" => Fine(format!("{}, the highest exact one", caps.tier)),
        why => Note(format!("{}, not {why}", caps.tier)),
    };
    report.add("tier", tier)?;
    let tuning = match card.tuning {
        Some(_) => Fine("the kernels are tuned for this device".into()),
        None if caps.software => Fine("not needed on the CPU".into()),
        None => Note("not done yet: the first run does it, or `firelight devices --tune`".into()),
    };
    report.add("tuning", tuning)?;
    Ok(Some(gpu))
}

/// Compares kernels with the CPU's results: in every configuration that tuning would try on a GPU.
pub(super) async fn kernels(gpu: &Gpu) -> Outcome {
    let _spinner = Spinner::begin("checking kernels".into());
    let sizes = TuneSizes {
        matrix: (256, 512),
        prompts_matrix: (192, 256),
        attention: Attention::full(2, 1, 64),
        rows: 100,
        first: 40,
    };
    let trials = match gpu.caps().software {
        true => tune::default_trials(gpu, &sizes).await,
        false => tune::trials(gpu, gpu.caps(), &sizes).await,
    };
    match trials {
        Ok(trials) => judge(&trials),
        Err(error) => Fault(format!("they do not run: {error}. Update the graphics driver.")),
    }
}

fn judge(trials: &[Trial]) -> Outcome {
    let (all, wrong) = (trials.len(), trials.iter().filter(|trial| trial.seconds.is_none()).collect::<Vec<_>>());
    match wrong.first() {
        None => Fine(format!("all {all} configurations give the CPU's results")),
        Some(_) if tune::tune_result(trials).is_none() => {
            Fault("all results are wrong: update the graphics driver, or choose another --device".into())
        }
        Some(first) => Note(format!(
            "{} of {all} configurations give wrong results and are not used (the first in tier {}); a newer graphics \
             driver may be faster",
            wrong.len(),
            first.tier
        )),
    }
}

/// Whether prefill and decode of the built-in model, which use different kernels, give the same logits.
pub(super) async fn model(gpu: &Gpu) -> Outcome {
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

/// The largest difference of logits, relative to their root mean square; infinity if some are NaN or infinite.
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

/// The folder of compiled pipelines and tuning results.
fn cache() -> Outcome {
    let again = "kernels are compiled and tuned again in each run";
    match gpu::cache_folder() {
        None => Note(format!("there is no home folder: {again}")),
        Some(folder) => match check_writable(&folder) {
            Ok(()) => Fine(format!("{} is writable", folder.display())),
            Err(error) => Note(format!("{} is not writable ({error}): {again}", folder.display())),
        },
    }
}

/// The folder of downloaded models.
fn downloads() -> Outcome {
    let folder = match hub::cache::folder() {
        Ok(folder) => folder,
        Err(error) => return Fault(error.to_string()),
    };
    let shown = folder.display();
    if let Err(error) = check_writable(&folder) {
        return Fault(format!("{shown} is not writable ({error}): set HF_HOME to a folder that is"));
    }
    let models = hub::cache::list(&folder);
    let bytes = term::bytes(models.iter().map(|model| model.bytes).sum());
    match models.len() {
        0 => Fine(format!("no models in {shown}; `firelight pull ORG/REPO` downloads one")),
        1 => Fine(format!("1 model, {bytes}, in {shown}")),
        n => Fine(format!("{n} models, {bytes}, in {shown}")),
    }
}

/// Room for more models.
fn disk() -> Outcome {
    let Ok(folder) = hub::cache::folder() else { return Note("unknown".into()) };
    let folder = existing(&folder);
    let shown = folder.display();
    match fs4::available_space(&folder) {
        Ok(free) if free < LITTLE_SPACE => Note(format!(
            "only {} free in {shown}: remove models with `firelight rm`, or set HF_HOME to a folder on another disk",
            term::bytes(free)
        )),
        Ok(free) => Fine(format!("{} free in {shown}", term::bytes(free))),
        Err(error) => Note(format!("the free space of {shown} is unknown: {error}")),
    }
}

/// Writes a file and removes it: in the folder or, if it is missing, where it would be created.
fn check_writable(folder: &Path) -> io::Result<()> {
    let file = existing(folder).join(format!(".firelight-doctor-{}", process::id()));
    fs::write(&file, "")?;
    fs::remove_file(&file)
}

/// The folder, or the nearest one above it that exists.
fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new(".")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use firelight::gpu::{Tier, TuneConfig};

    use super::*;

    #[test]
    fn wrong_kernels_are_a_note_and_only_wrong_kernels_a_fault() {
        let trial = |rows, seconds: Option<f64>| Trial {
            tier: Tier::Baseline,
            layout: TuneConfig::untuned(true),
            attends: false,
            rows,
            error: if seconds.is_some() { 0.0 } else { 1.0 },
            seconds,
        };
        assert!(matches!(judge(&[trial(1, Some(1.0)), trial(9, Some(1.0))]), Fine(_)));
        assert!(matches!(judge(&[trial(1, None), trial(9, Some(1.0))]), Note(text) if text.starts_with("1 of 2 ")));
        assert!(matches!(judge(&[trial(1, Some(1.0)), trial(9, None)]), Fault(_)));
    }

    #[test]
    fn folders_are_checked_before_they_exist() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_writable(&dir.path().join("a/b")).is_ok());
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is left behind");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(existing(&file.join("x")), dir.path());
    }
}
