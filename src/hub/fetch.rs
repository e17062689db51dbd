//! Fetching over HTTP: a text, a range, and whole files in parallel ranges.
//!
//! A file grows beside its final place. What came is noted after each chunk, so that a try that was killed goes on where
//! it was; only a file whose hash is right gets its final name.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::Sibling;
use crate::{Error, Result};

/// Bytes asked for at once.
const CHUNK: u64 = 8 << 20;
/// Ranges asked for at the same time.
const CONNECTIONS: usize = 4;
/// How often a range is tried, and how long is waited before the second time; each further wait is twice as long.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// How far a download is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes that are here.
    pub done: u64,
    /// Bytes that there are.
    pub total: u64,
    /// Whether they are being checked, no longer fetched.
    pub checking: bool,
}

/// Who asks.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    token: Option<String>,
}

/// Why a range did not come, and whether it is worth another try.
struct Refusal {
    error: Error,
    again: bool,
}

impl Client {
    pub fn new(token: Option<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .user_agent(concat!("firelight/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_recv_body(Some(Duration::from_secs(900)))
            .build();
        Client { agent: config.into(), token }
    }

    fn get(&self, url: &str, range: Option<&Range<u64>>) -> Result<ureq::http::Response<ureq::Body>, Refusal> {
        let mut request = self.agent.get(url);
        if let Some(range) = range {
            request = request.header("Range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let refusal = |message: String, again| Refusal { error: Error::network(message), again };
        let response = request.call().map_err(|e| Refusal {
            error: Error::network(format!("{} cannot be reached: {e}", host(url))).caused_by(e),
            again: true,
        })?;
        let status = response.status().as_u16();
        let message = match status {
            200..300 => return Ok(response),
            401 | 403 if self.token.is_none() => format!(
                "{url}: the hub wants to know who asks (HTTP {status}). If the model exists and is gated, accept its terms \
                 on its page, make a token there, and set HF_TOKEN"
            ),
            401 | 403 => format!(
                "{url}: the hub refuses your token (HTTP {status}); accept the model's terms on its page, or make a new \
                 HF_TOKEN"
            ),
            404 => format!("{url}: there is no such model or file (HTTP 404); is its name spelt right?"),
            429 => {
                format!("{url}: the hub says that it was asked too often (HTTP 429); try again later, or set HF_TOKEN")
            }
            status => format!("{url}: HTTP {status}"),
        };
        Err(refusal(message, status == 429 || status >= 500))
    }

    /// A small text.
    pub fn text(&self, url: &str, limit: u64) -> Result<String> {
        let response = patiently(|| self.get(url, None))?;
        let read = response.into_body().with_config().limit(limit).read_to_string();
        read.map_err(|e| interrupted(url, e))
    }

    /// A range of a file, in memory.
    pub fn range(&self, url: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        patiently(|| {
            let response = self.get(url, Some(&range))?;
            if response.status().as_u16() != 206 {
                let message = format!("{} cannot give parts of a file, so its header cannot be read", host(url));
                return Err(Refusal { error: Error::network(message), again: false });
            }
            let mut bytes = Vec::new();
            let read = response.into_body().into_reader().take(range.end - range.start).read_to_end(&mut bytes);
            match read {
                Ok(n) if n as u64 == range.end - range.start => Ok(bytes),
                _ => Err(Refusal { error: Error::network(format!("{url}: the answer broke off")), again: true }),
            }
        })
    }

    /// Fetches a file to `blob`. Another process that fetches the same one is waited for.
    pub fn download(
        &self,
        url: &str,
        file: &Sibling,
        blob: &Path,
        progress: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<()> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |e| Error::io(format!("cannot write {path}"), e)
        };
        let folder = blob.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let part = blob.with_added_extension("firelight");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&part).map_err(failed(&part))?;
        lock.lock().map_err(failed(&part))?;
        if blob.exists() {
            // The other process was done while this one waited.
            let _ = fs::remove_file(&part);
            return Ok(());
        }
        let bytes = file.bytes();
        check_space(folder, bytes.saturating_sub(Journal::read(&part, bytes).done() * CHUNK))?;
        let whole = self.first_chunk_or_whole(url, &part, bytes, progress)?;
        if !whole {
            self.chunks(url, &part, bytes, progress)?;
        }
        verify(&part, file, progress)?;
        lock.sync_all().map_err(failed(&part))?;
        fs::rename(&part, blob).map_err(failed(blob))?;
        let _ = fs::remove_file(journal_path(&part));
        Ok(())
    }

    /// Asks for the first range. A server that knows no ranges sends everything: then that is taken as it comes.
    fn first_chunk_or_whole(
        &self,
        url: &str,
        part: &Path,
        bytes: u64,
        progress: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<bool> {
        let probe = 0..bytes.clamp(1, 2);
        let response = patiently(|| self.get(url, (bytes > 0).then_some(&probe)))?;
        if response.status().as_u16() == 206 {
            let total = response.headers().get("content-range").and_then(|v| v.to_str().ok());
            let total = total.and_then(|v| v.rsplit('/').next()).and_then(|v| v.parse::<u64>().ok());
            return match total {
                Some(total) if total != bytes => Err(changed(url, bytes, total)),
                _ => Ok(false),
            };
        }
        let mut out = File::create(part).map_err(|e| disk(part, e))?;
        let _ = fs::remove_file(journal_path(part));
        let mut reader = response.into_body().into_reader();
        let (mut buffer, mut done) = (vec![0; 1 << 18], 0);
        loop {
            let n = reader.read(&mut buffer).map_err(|e| interrupted(url, e))?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).map_err(|e| disk(part, e))?;
            done += n as u64;
            progress(Step { done, total: bytes, checking: false })?;
        }
        match done == bytes {
            true => Ok(true),
            false => Err(changed(url, bytes, done)),
        }
    }

    /// Fetches the chunks that are missing, several at a time.
    fn chunks(&self, url: &str, part: &Path, bytes: u64, progress: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        let mut journal = Journal::read(part, bytes);
        let chunks = |i: u64| i * CHUNK..((i + 1) * CHUNK).min(bytes);
        let missing: Vec<u64> = (0..bytes.div_ceil(CHUNK)).filter(|i| !journal.chunks.contains(i)).collect();
        let file = OpenOptions::new().write(true).open(part).map_err(|e| disk(part, e))?;
        file.set_len(bytes).map_err(|e| disk(part, e))?;
        let queue = Mutex::new(missing.into_iter());
        let (tell, told) = mpsc::channel::<(u64, Result<u64>)>();
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                let (tell, queue) = (tell.clone(), &queue);
                scope.spawn(move || {
                    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
                    while let Some(i) = next() {
                        let done = self.chunk(url, part, chunks(i), &|n| tell.send((i, Ok(n))).is_ok());
                        if let Err(error) = done {
                            // Whoever listens ends everything; the others notice that nobody listens.
                            let _ = tell.send((i, Err(error)));
                            return;
                        }
                    }
                });
            }
            drop(tell);
            let mut growing: HashMap<u64, u64> = HashMap::new();
            let mut landed: u64 = journal.chunks.iter().map(|i| chunks(*i).end - chunks(*i).start).sum();
            for (i, news) in told {
                let size = chunks(i).end - chunks(i).start;
                match news? {
                    n if n == size => {
                        growing.remove(&i);
                        landed += size;
                        journal.chunks.push(i);
                        journal.write(part)?;
                    }
                    n => drop(growing.insert(i, n)),
                }
                progress(Step { done: landed + growing.values().sum::<u64>(), total: bytes, checking: false })?;
            }
            Ok(())
        })
    }

    /// Fetches one range into its place. `tell` is told how much of it is there; it says whether anybody listens.
    fn chunk(&self, url: &str, part: &Path, range: Range<u64>, tell: &dyn Fn(u64) -> bool) -> Result<()> {
        let size = range.end - range.start;
        patiently(|| {
            let fatal = |error| Refusal { error, again: false };
            let response = self.get(url, Some(&range))?;
            if response.status().as_u16() != 206 {
                return Err(fatal(Error::network(format!("{} stopped giving parts of the file", host(url)))));
            }
            let mut out = OpenOptions::new().write(true).open(part).map_err(|e| fatal(disk(part, e)))?;
            out.seek(SeekFrom::Start(range.start)).map_err(|e| fatal(disk(part, e)))?;
            let mut reader = response.into_body().into_reader().take(size);
            let (mut buffer, mut done) = (vec![0; 1 << 18], 0);
            while done < size {
                let n = match reader.read(&mut buffer) {
                    Ok(n) if n > 0 => n,
                    _ => {
                        return Err(Refusal {
                            error: Error::network(format!("{url}: the answer broke off")),
                            again: true,
                        });
                    }
                };
                out.write_all(&buffer[..n]).map_err(|e| fatal(disk(part, e)))?;
                done += n as u64;
                if !tell(done) {
                    return Err(fatal(Error::network("given up")));
                }
            }
            Ok(())
        })
    }
}

/// Tries until it works, it is hopeless, or it was tried often enough.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Refusal>) -> Result<T> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match attempt() {
            Err(Refusal { again: true, .. }) => thread::sleep(wait),
            done => return done.map_err(|refusal| refusal.error),
        }
        wait *= 2;
    }
    attempt().map_err(|refusal| refusal.error)
}

fn interrupted(url: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::network(format!("{url}: the answer broke off: {cause}")).caused_by(cause)
}

fn host(url: &str) -> &str {
    url.split('/').nth(2).unwrap_or(url)
}

fn changed(url: &str, promised: u64, got: u64) -> Error {
    Error::network(format!(
        "{url} has {got} bytes, {promised} were promised: it was just changed, or cut short; try again"
    ))
}

fn disk(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot write {} (what came so far is kept)", path.display()), error)
}

/// An error if the disk surely has less room than `bytes`.
fn check_space(folder: &Path, bytes: u64) -> Result<()> {
    match fs4::available_space(folder) {
        Ok(free) if free < bytes => Err(Error::Limit(format!(
            "{:.1} GB are to come, {} has room for {:.1} GB: remove something (`firelight list` shows what is kept), or set \
             HF_HUB_CACHE to another disk",
            bytes as f64 / 1e9,
            folder.display(),
            free as f64 / 1e9
        ))),
        // Where the room is not known, writing will tell.
        _ => Ok(()),
    }
}

/// Which chunks of a file are there.
#[derive(Serialize, Deserialize)]
struct Journal {
    bytes: u64,
    chunk: u64,
    chunks: Vec<u64>,
}

fn journal_path(part: &Path) -> PathBuf {
    part.with_added_extension("json")
}

impl Journal {
    /// The journal of a file of this size; an empty one if there is none that fits.
    fn read(part: &Path, bytes: u64) -> Self {
        let text = fs::read(journal_path(part)).unwrap_or_default();
        let grown = fs::metadata(part).is_ok_and(|m| m.len() == bytes);
        let fresh = Journal { bytes, chunk: CHUNK, chunks: Vec::new() };
        match serde_json::from_slice::<Journal>(&text) {
            Ok(j) if grown && (j.bytes, j.chunk) == (bytes, CHUNK) && j.chunks.iter().all(|i| i * CHUNK < bytes) => j,
            _ => fresh,
        }
    }

    fn done(&self) -> u64 {
        self.chunks.len() as u64
    }

    fn write(&self, part: &Path) -> Result<()> {
        let (path, text) = (journal_path(part), serde_json::to_vec(self).expect("numbers are JSON"));
        let beside = path.with_added_extension("new");
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).map_err(|e| disk(&path, e))
    }
}

/// Checks size and hash. A file that is wrong is removed: nobody can know which part of it is.
fn verify(part: &Path, file: &Sibling, progress: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
    let Some(lfs) = &file.lfs else { return Ok(()) };
    let mut reader = File::open(part).map_err(|e| disk(part, e))?;
    let (mut hash, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let n = reader.read(&mut buffer).map_err(|e| disk(part, e))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        done += n as u64;
        progress(Step { done, total: file.bytes(), checking: true })?;
    }
    let got: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if got.eq_ignore_ascii_case(&lfs.sha256) {
        return Ok(());
    }
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(journal_path(part));
    let name = &file.name;
    Err(Error::format(format!(
        "{name} came damaged: its SHA-256 is {got}, not {}. It was removed; try again",
        lfs.sha256
    )))
}
