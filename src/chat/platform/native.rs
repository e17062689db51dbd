//! The desktop: the engine on a thread, conversations in the user's data folder, files by path.

use std::any::Any;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use etcetera::BaseStrategy;
use etcetera::base_strategy::choose_native_strategy;

use super::{Chosen, Combine, Link, is_model};
use crate::chat::attach::{AttachedFile, LARGEST};
use crate::chat::engine;
use crate::chat::protocol::{Command, EngineEvent, Place};
use crate::chat::store::preferences;
use crate::checkpoint::{self, Source};
use crate::output::{Content, Output};
use crate::send::BoxFn;
use crate::text::decode;
use crate::{Error, Result, hub};

/// Events come in bursts; this is the minimum interval at which they wake the window. It is longer where drawing takes
/// CPU time from the engine.
const WAKE: Duration = Duration::from_millis(16);
const SOFTWARE_WAKE: Duration = Duration::from_millis(120);

/// A thread that takes commands. Dropping it ends the thread.
pub struct Worker<S> {
    /// Taken on drop, so that the thread sees that the window is gone.
    commands: Option<S>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<S> Worker<S> {
    /// Starts a thread that takes the commands sent to `commands`.
    pub fn start(name: &str, commands: S, run: impl FnOnce() + Send + 'static) -> Self {
        let thread = thread::Builder::new().name(name.into()).spawn(run).ok();
        Worker { commands: Some(commands), thread }
    }

    /// The sender of commands.
    pub fn commands(&self) -> Option<&S> {
        self.commands.as_ref()
    }
}

/// The maximum time that a closing window waits for a thread. A step takes milliseconds, but drivers crash if the
/// program ends while a thread uses them.
const PATIENCE: Duration = Duration::from_secs(5);

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.commands = None;
        let closed = Instant::now();
        let runs = || self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        while runs() && closed.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Starts an engine on a new thread.
pub fn start_engine(ctx: &egui::Context) -> Link {
    let (commands, receiver) = futures_channel::mpsc::unbounded::<Command>();
    let (sender, events) = mpsc::channel();
    let ctx = ctx.clone();
    let engine = Worker::start("firelight engine", commands, move || {
        let software = AtomicBool::new(false);
        let emit: BoxFn<EngineEvent, ()> = Box::new(move |event| {
            if let EngineEvent::Loaded(loaded) = &event {
                software.store(loaded.device.software, Ordering::Relaxed);
            }
            // The window may be gone.
            let _ = sender.send(event);
            ctx.request_repaint_after(if software.load(Ordering::Relaxed) { SOFTWARE_WAKE } else { WAKE });
        });
        let emit = Arc::new(emit);
        let run = AssertUnwindSafe(|| pollster::block_on(engine::run(receiver, emit.clone())));
        if let Err(panic) = panic::catch_unwind(run) {
            emit(EngineEvent::Crashed(message(&*panic)));
        }
    });
    Link::new(
        move |command| {
            if let Some(commands) = engine.commands() {
                // An engine that ended has reported the reason.
                let _ = commands.unbounded_send(command);
            }
        },
        events,
    )
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a bug".into())
}

/// Whether this platform can start programs.
pub const TOOLS: bool = true;

pub use crate::chat::tools::start_tools;

/// The bytes of a model.
///
/// # Errors
/// If it cannot be opened.
pub async fn sources(place: &Place) -> Result<Vec<Source>> {
    match place {
        Place::BuiltIn => Ok(vec![crate::demo::source()]),
        Place::File(path) => checkpoint::sources(Path::new(path)),
    }
}

/// The cached models that Firelight or Hugging Face's tools have downloaded.
pub fn find_models() -> Vec<(Place, u64)> {
    let kept = hub::cache::folder().map(|folder| hub::cache::list(&folder)).unwrap_or_default();
    kept.iter().map(|kept| (Place::File(kept.path.display().to_string()), kept.bytes)).collect()
}

/// Whether a recent model still exists.
pub fn remains(place: &Place) -> bool {
    match place {
        Place::BuiltIn => true,
        Place::File(path) => Path::new(path).exists(),
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A unique number for each call, short enough to type.
pub fn any_seed() -> u64 {
    RandomState::new().hash_one(now()) % 1_000_000_000
}

/// Text files in one folder, which several windows share. A thread writes them in order, each atomically.
pub struct Storage {
    root: PathBuf,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<thread::JoinHandle<()>>,
    failures: mpsc::Receiver<String>,
}

enum Job {
    Write(PathBuf, String, Combine),
    Remove(PathBuf),
    Flush(mpsc::Sender<()>),
}

impl Storage {
    /// The user's data folder: `~/.local/share/firelight` on Linux, the usual one elsewhere.
    pub fn open() -> Self {
        let data = choose_native_strategy().map(|folders| folders.data_dir());
        Self::at(data.unwrap_or_else(|_| std::env::temp_dir()).join("firelight").join("chat"))
    }

    /// In a given folder.
    pub fn at(root: PathBuf) -> Self {
        let (jobs, work) = mpsc::channel();
        let (fail, failures) = mpsc::channel();
        let writer = thread::Builder::new().name("firelight storage".into()).spawn(move || {
            for job in work {
                if let Err(failure) = do_job(job) {
                    let _ = fail.send(failure);
                }
            }
        });
        Storage { root, jobs: Some(jobs), writer: writer.ok(), failures }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.json"))
    }

    fn job(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// The names of all texts.
    pub fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.root).into_iter().flatten().flatten();
        files.filter_map(|f| f.file_name().to_str()?.strip_suffix(".json").map(str::to_string)).collect()
    }

    /// A text, if it exists.
    pub fn read(&self, name: &str) -> Option<String> {
        decode(fs::read(self.path(name)).ok()?, name).ok()
    }

    /// A number that changes with a text; `None` if there is no such text.
    pub fn stamp(&self, name: &str) -> Option<u64> {
        let facts = fs::metadata(self.path(name)).ok()?;
        let time = facts.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((time.as_nanos() as u64).rotate_left(20) ^ facts.len())
    }

    /// Saves a text, in the background. `combine` joins it with the saved one, which another window may have written.
    pub fn write(&self, name: &str, text: String, combine: Combine) {
        self.job(Job::Write(self.path(name), text, combine));
    }

    /// Removes a text, in the background.
    pub fn remove(&self, name: &str) {
        self.job(Job::Remove(self.path(name)));
    }

    /// Waits for all writes.
    pub fn flush(&self) {
        let (tell, told) = mpsc::channel();
        self.job(Job::Flush(tell));
        let _ = told.recv();
    }

    /// Takes the error of the last failed operation.
    pub fn failure(&self) -> Option<String> {
        self.failures.try_recv().ok()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn do_job(job: Job) -> Result<(), String> {
    match job {
        Job::Write(path, text, combine) => {
            save(&path, text, combine).map_err(|e| format!("{} cannot be written: {e}", path.display()))
        }
        Job::Remove(path) => match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(format!("{} cannot be removed: {e}", path.display())),
            _ => Ok(()),
        },
        Job::Flush(tell) => {
            let _ = tell.send(());
            Ok(())
        }
    }
}

/// Combines a text with the saved one and writes it, while no other window does.
fn save(path: &Path, text: String, combine: Combine) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let lock = File::create(folder.join("lock"))?;
    // Some network file systems have no locks. The file is still replaced as a whole.
    let _ = lock.lock();
    let text = match fs::read(path).ok().and_then(|kept| String::from_utf8(kept).ok()) {
        Some(kept) => combine(&kept, text),
        None => text,
    };
    write_whole(path, text.as_bytes())
}

/// Writes a temporary file, syncs it to disk, and renames it: a crash leaves the old file or the new one. The temporary
/// file belongs to this process, in case there are no locks.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.tmp", process::id()));
    let write = || {
        let mut file = private(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// A new file that only this user can read: conversations are private, and servers' settings hold secrets.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A file dialog that ends sooner than this was never shown: there is neither a desktop portal nor zenity. Nobody
/// cancels so quickly.
const UNSEEN: Duration = Duration::from_millis(400);

/// Shows a file dialog for a model; `tell` receives the result.
pub fn choose_model(ctx: &egui::Context, tell: mpsc::Sender<Chosen>) {
    let ctx = ctx.clone();
    thread::spawn(move || {
        let dialog = rfd::FileDialog::new().set_title("Open a model").add_filter("GGUF models", &["gguf"]);
        let begun = Instant::now();
        let chosen = match dialog.pick_file() {
            Some(path) => Chosen::Model(Place::File(path.display().to_string())),
            None if begun.elapsed() < UNSEEN => Chosen::NoDialog(None),
            None => return,
        };
        let _ = tell.send(chosen);
        ctx.request_repaint();
    });
}

/// Shows a file dialog and saves a text.
pub fn save_text(ctx: &egui::Context, name: &str, text: String, tell: mpsc::Sender<Chosen>) {
    let (ctx, name) = (ctx.clone(), name.to_string());
    thread::spawn(move || {
        let begun = Instant::now();
        let chosen = match rfd::FileDialog::new().set_file_name(&name).save_file() {
            Some(path) => Chosen::Saved(save_at(&path.display().to_string(), &text).map_err(|e| e.to_string())),
            None if begun.elapsed() < UNSEEN => {
                let folder = std::env::home_dir().unwrap_or_default();
                Chosen::NoDialog(Some((folder.join(name).display().to_string(), text)))
            }
            None => return,
        };
        let _ = tell.send(chosen);
        ctx.request_repaint();
    });
}

/// Writes a text to a path. Returns the path.
///
/// # Errors
/// If it cannot be written.
pub fn save_at(path: &str, text: &str) -> Result<String> {
    let mut out = Output::create(Path::new(path), Content::Other, None)?;
    out.write_all(text.as_bytes()).map_err(|e| Error::io(format!("cannot write {path}"), e))?;
    out.finish()?;
    Ok(path.to_string())
}

/// The location of a dropped file, if it may be a model: a folder, or a file that says so.
pub fn dropped(file: &egui::DroppedFileHandle) -> Option<Place> {
    let path = file.path();
    (path.is_dir() || is_model(path)).then(|| Place::File(path.display().to_string()))
}

/// Reads a dropped file.
pub fn read_dropped(ctx: &egui::Context, file: &egui::DroppedFileHandle, tell: mpsc::Sender<Chosen>) {
    let (ctx, path) = (ctx.clone(), file.path().to_path_buf());
    thread::spawn(move || attach(&ctx, &path, &tell));
}

/// Shows a file dialog for files to attach.
pub fn choose_files(ctx: &egui::Context, tell: mpsc::Sender<Chosen>) {
    let ctx = ctx.clone();
    thread::spawn(move || {
        let begun = Instant::now();
        match rfd::FileDialog::new().set_title("Attach text files").pick_files() {
            Some(paths) => paths.iter().for_each(|path| attach(&ctx, path, &tell)),
            None if begun.elapsed() < UNSEEN => {
                let why = "No file dialog can be shown here: drop the files on the window.";
                let _ = tell.send(Chosen::Attached(Err(why.into())));
                ctx.request_repaint();
            }
            None => {}
        }
    });
}

fn attach(ctx: &egui::Context, path: &Path, tell: &mpsc::Sender<Chosen>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = || match fs::metadata(path)?.len() {
        large if large > LARGEST => Ok(Err(AttachedFile::too_large(&name, large))),
        _ => fs::read(path).map(Ok),
    };
    let bytes = read().unwrap_or_else(|e: io::Error| Err(format!("{name} cannot be read: {e}.")));
    let _ = tell.send(Chosen::Attached(bytes.map(|bytes| (name, bytes))));
    ctx.request_repaint();
}

/// The smallest size of the window in points.
const SMALLEST: [f32; 2] = [360.0, 420.0];

/// Opens the window and returns when it is closed.
///
/// # Errors
/// If there is no display, or no adapter that can draw.
pub fn open(place: Option<Place>) -> std::result::Result<(), String> {
    let storage = Storage::open();
    let (width, height, maximized) = preferences(&storage).window.unwrap_or((1180.0, 780.0, false));
    let icon = eframe::icon_data::from_png_bytes(include_bytes!("../../../assets/chat/icon.png")).unwrap_or_default();
    let viewport = egui::ViewportBuilder::default()
        .with_title("Firelight")
        .with_app_id("firelight")
        .with_icon(icon)
        .with_inner_size([width.max(SMALLEST[0]), height.max(SMALLEST[1])])
        .with_maximized(maximized)
        .with_min_inner_size(SMALLEST)
        .with_drag_and_drop(true);
    // On a software rasterizer, dithering costs a tenth of a frame, and the window has no gradients.
    let options = eframe::NativeOptions { viewport, dithering: false, ..Default::default() };
    let create = move |cc: &eframe::CreationContext<'_>| -> std::result::Result<Box<dyn eframe::App>, _> {
        Ok(Box::new(crate::chat::App::for_window(cc, storage, place)))
    };
    eframe::run_native("firelight", options, Box::new(create)).map_err(|e| {
        format!("the window cannot be opened: {e}; without a display, `firelight run` talks in the terminal")
    })
}
