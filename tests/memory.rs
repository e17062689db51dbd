//! Loading needs little host memory: for any model size, only a few chunks are in memory at a time.

mod engine;

use firelight::checkpoint::Source;
use firelight::model::Model;
use firelight::session::{Session, SessionOptions};
use firelight::synth;
use pollster::block_on;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The maximum host memory for loading, without GPU buffers.
const ALLOWED: u64 = 256 << 20;

/// Runs the tests of this process one at a time, because they measure its memory.
static ALONE: Mutex<()> = Mutex::new(());

/// Resident bytes of this process that are not file mappings: anonymous memory, and memory shared with a software GPU.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = |key| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).expect("a field of Linux");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    (kib("RssAnon:") + kib("RssShmem:")) << 10
}

/// Runs `work`. Returns its result and the peak of resident bytes.
fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(resident()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, most.load(Ordering::Relaxed))
    })
}

fn write(shape: &str, path: &Path) -> u64 {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    synth::write(shape, "F16", &mut file).unwrap();
    file.flush().unwrap();
    path.metadata().unwrap().len()
}

/// The peak host memory for loading a model, without the memory in use before and without the weights of a software
/// GPU, which are in host memory, too.
fn overhead(model: &Model) -> u64 {
    let gpu = engine::gpu();
    let options = SessionOptions::default().context(128).chunk(64);
    let before = resident();
    let (session, most) = peak(|| block_on(Session::builder(gpu, model).options(&options).load()).unwrap());
    let weights = if gpu.caps().software { session.plan().dispatch_list().bytes().weights } else { 0 };
    let grown = most - before;
    assert!(grown >= weights, "{} MiB grown is less than {} MiB of weights", grown >> 20, weights >> 20);
    grown - weights
}

#[test]
fn a_large_file_is_loaded_in_little_memory() {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    assert!(write("llama-3.2-1b", &path) > 2 << 30);
    let model = block_on(Model::open(&path)).unwrap();
    let bytes = overhead(&model);
    eprintln!("{} MiB in addition to the weights", bytes >> 20);
    assert!(bytes <= ALLOWED, "loading took {} MiB in addition to the weights", bytes >> 20);
}

/// The measurement detects a source that keeps everything it has read.
#[test]
fn a_wasteful_loader_is_detected() {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let len = write("smollm2-135m", &path);
    let bytes = std::fs::read(&path).unwrap();
    let kept = Mutex::new(Vec::new());
    let read = move |range: std::ops::Range<u64>| -> firelight::checkpoint::ReadFuture {
        let part = bytes[range.start as usize..range.end as usize].to_vec();
        kept.lock().expect("one reader").push(part.clone());
        Box::pin(std::future::ready(Ok(part)))
    };
    let model = block_on(Model::from_sources(vec![Source::new("kept", len, read)])).unwrap();
    let bytes = overhead(&model);
    assert!(bytes > 200 << 20, "{} MiB in addition to the weights, though the source keeps everything", bytes >> 20);
}
