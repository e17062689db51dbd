//! `pull`, `list` and `rm`, and how the command line resolves a model's name.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use firelight::Error;
use firelight::demo;
use firelight::engine::ModelRef;
use firelight::gpu::{Gpu, GpuOptions, Tuning};
use firelight::hub::{self, DownloadProgress, Hub, Name, RepoFile};
use firelight::model::load::Progress;

use super::Result;
use super::suggest::similar;
use super::term::{self, Failure};

#[derive(clap::Args)]
#[command(after_help = "\
Without a quantization, the largest file that fits this GPU is taken. Models are kept where Hugging Face's own tools keep \
them (HF_HOME, HF_HUB_CACHE). HF_TOKEN opens gated models, HF_ENDPOINT names another hub. A pull that was interrupted \
resumes.

Examples:
  firelight pull Qwen/Qwen3-0.6B-GGUF
  firelight pull bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M")]
pub struct PullArgs {
    /// ORG/REPO, ORG/REPO:QUANT, ORG/REPO:FILE.gguf, or the URL of a page or file on Hugging Face
    name: String,
}

#[derive(clap::Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct RmArgs {
    /// The model as `firelight list` prints it: ORG/REPO, ORG/REPO:QUANT or ORG/REPO:FILE.gguf
    name: String,
    /// Remove every model of the repository that the name matches
    #[arg(long)]
    all: bool,
}

/// Resolves a model's name: `demo`, a path, or a name on the hub. Downloads the model unless it is cached or `offline`
/// is set.
pub async fn find(name: &Path, offline: bool) -> Result<ModelRef> {
    if name == Path::new(demo::NAME) {
        return Ok(ModelRef::BuiltIn);
    }
    if name.exists() {
        return Ok(ModelRef::Path(name.to_path_buf()));
    }
    let text = name.to_string_lossy();
    let is_address = Name::is_address(&text);
    let file_like =
        text.ends_with(".gguf") && !text.contains([':', '?']) || name.is_absolute() || text.starts_with('.');
    let file_like = file_like && !is_address;
    match Name::parse(&text) {
        Ok(name) if !file_like => {
            let hub = Hub::from_env(offline)?;
            match hub.kept(&name)? {
                Some(kept) => Ok(ModelRef::Path(kept.path)),
                None => Ok(ModelRef::Path(fetch(&hub, &name).await.map_err(name_downloaded)?)),
            }
        }
        Err(error) if is_address => Err(error.into()),
        _ => Err(no_such(&text)),
    }
}

/// Adds to the error of a broken or missing connection what works without it.
fn name_downloaded(failure: Failure) -> Failure {
    match failure {
        Failure::Error(Error::Network { message, source: source @ Some(_) }) => {
            let message = format!("{message}. `firelight list` shows the models that are downloaded");
            Failure::Error(Error::Network { message, source })
        }
        failure => failure,
    }
}

fn no_such(name: &str) -> Failure {
    let demo = demo::NAME;
    Failure::usage(match (name.contains(' '), meant(name)) {
        (true, _) => {
            format!("{name:?}: no such file. To send this to the built-in model: firelight run {demo} {name:?}")
        }
        (false, Some(meant)) => format!("{name}: no such file. Did you mean {meant}?"),
        (false, None) => format!(
            "{name}: no such file. Give a GGUF file, a Hugging Face folder, the name of a model on Hugging Face (ORG/REPO, \
             ORG/REPO:QUANT, or its page's address), or `{demo}`, the built-in model"
        ),
    })
}

/// The likely meaning of a mistyped name: `demo`, a downloaded model, or a GGUF file in the same folder.
fn meant(name: &str) -> Option<String> {
    let cached = hub::cache::folder().map(|cache| hub::cache::list(&cache)).unwrap_or_default();
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let read = if folder == Path::new("") { Path::new(".") } else { folder };
    let files = fs::read_dir(read).into_iter().flatten().flatten().map(|file| folder.join(file.file_name()));
    let files = files.filter(|file| file.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")));
    let names = [demo::NAME.to_string()].into_iter().chain(cached.iter().map(ToString::to_string));
    let names: Vec<String> = names.chain(files.map(|file| file.display().to_string())).collect();
    let lower = name.to_lowercase();
    let part = || names.iter().find(|known| name.len() > 3 && known.to_lowercase().contains(&lower)).cloned();
    similar(name, names.iter().map(String::as_str)).first().map(ToString::to_string).or_else(part)
}

pub async fn pull(args: PullArgs) -> Result {
    let (name, hub) = (Name::parse(&args.name)?, Hub::from_env(false)?);
    let path = fetch(&hub, &name).await?;
    Ok(writeln!(io::stdout(), "{}", path.display())?)
}

/// Downloads the files that a name refers to, and prints which and why.
async fn fetch(hub: &Hub, name: &Name) -> Result<PathBuf> {
    let listing = hub.listing(&name.repo)?;
    // A file of a folder means the whole folder, as a part of a split model means all parts.
    let is_there = |wanted: &String| listing.siblings.iter().any(|file| file.name == *wanted);
    let (files, what) = match hub::offers(&listing.siblings).is_empty() && name.wanted.as_ref().is_none_or(is_there) {
        true => (folder(&name.repo, &listing.siblings)?, "a Hugging Face folder".to_string()),
        false => {
            // A download needs no GPU.
            let gpu = Gpu::open(&GpuOptions::default().tuning(Tuning::Off)).await.ok();
            let caps = gpu.as_ref().map(Gpu::caps);
            let choice = hub::pick(hub, &name.repo, &listing, name.wanted.as_deref(), caps).await?;
            (choice.offer.files, format!("{} ({})", choice.offer.name, choice.why))
        }
    };
    let bytes: u64 = files.iter().map(RepoFile::bytes).sum();
    term::note(&format!("fetching {} from {}: {what}", term::bytes(bytes), name.repo));
    if let Some(licence) = listing.card.as_ref().and_then(|card| card.license.as_ref()).and_then(|l| l.as_str()) {
        term::note(&format!("licence: {licence}"));
    }
    let is_folder = files.iter().any(|file| file.name == "config.json");
    let first = hub.fetch(&name.repo, &listing, &files, &mut bar())?;
    let folder = || first.parent().map_or_else(|| first.clone(), Path::to_path_buf);
    Ok(if is_folder { folder() } else { first })
}

/// The files of a Hugging Face model: config, tokenizer, chat template, weights.
fn folder(repo: &str, files: &[RepoFile]) -> Result<Vec<RepoFile>> {
    const SMALL: [&str; 6] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
    ];
    let is_weight =
        |f: &RepoFile| f.name.ends_with(".safetensors") && !f.name.contains('/') && f.name.starts_with("model");
    let has = |name: &str| files.iter().any(|f| f.name == name);
    if !has("config.json") || !has("tokenizer.json") || !files.iter().any(is_weight) {
        return Err(Failure::usage(format!(
            "{repo} has no GGUF file, and no config.json with tokenizer.json and safetensors; search the \
             hub for the model's name with GGUF behind it"
        )));
    }
    Ok(files.iter().filter(|f| SMALL.contains(&f.name.as_str()) || is_weight(f)).cloned().collect())
}

/// A progress bar for the download, then one for its verification.
fn bar() -> impl FnMut(DownloadProgress) -> firelight::Result<()> {
    let (mut fetching, mut checking) = (term::bytes_bar("fetching"), term::bytes_bar("checking"));
    move |DownloadProgress { done, total, checking: check, .. }| {
        let bar: &mut dyn FnMut(Progress) = if check { &mut checking } else { &mut fetching };
        bar(Progress { done, total });
        Ok(())
    }
}

pub fn list(args: ListArgs) -> Result {
    let cache = hub::cache::folder()?;
    let kept = hub::cache::list(&cache);
    if args.json {
        let one = |k: &hub::CachedModel| serde_json::json!({ "repo": k.repo, "file": k.name, "path": k.path, "bytes": k.bytes });
        let all: Vec<_> = kept.iter().map(one).collect();
        return Ok(writeln!(io::stdout(), "{:#}", serde_json::Value::Array(all))?);
    }
    if kept.is_empty() {
        term::note(&format!("no models in {}; `firelight pull ORG/REPO` downloads one", cache.display()));
        return Ok(());
    }
    let row = |k: &hub::CachedModel| vec![term::printable(&k.to_string()), term::bytes(k.bytes)];
    let rows: Vec<_> = kept.iter().map(row).collect();
    Ok(write!(io::stdout(), "{}", term::table(&["<model", "size"], &rows))?)
}

pub fn rm(args: RmArgs) -> Result {
    let (name, cache) = (Name::parse(&args.name)?, hub::cache::folder()?);
    let found = hub::cache::find(&cache, &name);
    match found.len() {
        0 => return Err(Failure::usage(format!("{name} is not downloaded; `firelight list` shows what is"))),
        2.. if !args.all => {
            let names = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!("{name} matches {names}: name one, or add --all")));
        }
        _ => {}
    }
    for kept in &found {
        let free = hub::cache::remove(&cache, kept)?;
        term::note(&format!("removed {kept} ({})", term::bytes(free)));
    }
    Ok(())
}
