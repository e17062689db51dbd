//! HTTP downloads: a text, a range, and whole files in parallel ranges.
//!
//! A file is written next to its final path, and a journal records each complete chunk, so that an interrupted download
//! resumes. Only a file with the right hash is renamed to its final path. (The `hf-hub` crate does not resume or
//! check.)

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

use super::files::RepoFile;
use crate::{Error, Result};

/// Bytes per range request.
const CHUNK: u64 = 8 << 20;
/// Concurrent range requests.
const CONNECTIONS: usize = 4;
/// Attempts per range, and the delay before the second one; each further delay doubles.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// The progress of a download in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DownloadProgress {
    /// Bytes that are downloaded.
    pub done: u64,
    /// Bytes in total.
    pub total: u64,
    /// The download is complete and is being checked.
    pub checking: bool,
}

/// An HTTP client with an optional token.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    token: Option<String>,
}

/// Why a request failed, and whether to retry it.
struct FetchFailure {
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

    fn get(&self, url: &str, range: Option<&Range<u64>>) -> Result<ureq::http::Response<ureq::Body>, FetchFailure> {
        let mut request = self.agent.get(url);
        if let Some(range) = range {
            request = request.header("Range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let refusal = |message: String, again| FetchFailure { error: Error::network(message), again };
        let response = request.call().map_err(|e| FetchFailure {
            error: Error::network(format!("{} cannot be reached (is there a network?): {e}", host(url))).caused_by(e),
            again: true,
        })?;
        let status = response.status().as_u16();
        let message = match status {
            200..300 => return Ok(response),
            401 | 403 if self.token.is_none() => format!(
                "{url}: the hub requires a login (HTTP {status}). If the model exists and is gated, accept its terms \
                 on its page, create a token there, and set HF_TOKEN"
            ),
            401 | 403 => format!(
                "{url}: the hub refuses your token (HTTP {status}); accept the model's terms on its page, or create a new \
                 HF_TOKEN"
            ),
            404 => format!("{url}: there is no such model or file (HTTP 404); check the spelling of its name"),
            429 => {
                format!("{url}: the hub reports too many requests (HTTP 429); try again later, or set HF_TOKEN")
            }
            status => format!("{url}: HTTP {status}"),
        };
        Err(refusal(message, status == 429 || status >= 500))
    }

    /// Downloads a text of at most `limit` bytes.
    pub fn text(&self, url: &str, limit: u64) -> Result<String> {
        let response = patiently(|| self.get(url, None))?;
        let read = response.into_body().with_config().limit(limit).read_to_string();
        read.map_err(|e| interrupted(url, e))
    }

    /// Downloads a range of a file.
    pub fn range(&self, url: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        patiently(|| {
            let response = self.get(url, Some(&range))?;
            if response.status().as_u16() != 206 {
                let message =
                    format!("{} does not support range requests, so the file's header cannot be read", host(url));
                return Err(FetchFailure { error: Error::network(message), again: false });
            }
            let mut bytes = Vec::new();
            let read = response.into_body().into_reader().take(range.end - range.start).read_to_end(&mut bytes);
            match read {
                Ok(n) if n as u64 == range.end - range.start => Ok(bytes),
                _ => Err(FetchFailure { error: Error::network(format!("{url}: the response broke off")), again: true }),
            }
        })
    }

    /// Downloads a file to `blob`. Waits if another process downloads the same file.
    pub fn download(
        &self,
        url: &str,
        file: &RepoFile,
        blob: &Path,
        progress: &mut dyn FnMut(DownloadProgress) -> Result<()>,
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
            // The other process has finished the file.
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

    /// Requests the first range. A server without range support sends the whole file, which is then streamed.
    fn first_chunk_or_whole(
        &self,
        url: &str,
        part: &Path,
        bytes: u64,
        progress: &mut dyn FnMut(DownloadProgress) -> Result<()>,
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
            progress(DownloadProgress { done, total: bytes, checking: false })?;
        }
        match done == bytes {
            true => Ok(true),
            false => Err(changed(url, bytes, done)),
        }
    }

    /// Downloads the missing chunks, several at a time.
    fn chunks(
        &self,
        url: &str,
        part: &Path,
        bytes: u64,
        progress: &mut dyn FnMut(DownloadProgress) -> Result<()>,
    ) -> Result<()> {
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
                            // The callback ended the download; the other threads notice the closed channel.
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
                progress(DownloadProgress {
                    done: landed + growing.values().sum::<u64>(),
                    total: bytes,
                    checking: false,
                })?;
            }
            Ok(())
        })
    }

    /// Downloads one range to its offset. `tell` receives its progress and returns whether to go on.
    fn chunk(&self, url: &str, part: &Path, range: Range<u64>, tell: &dyn Fn(u64) -> bool) -> Result<()> {
        let size = range.end - range.start;
        patiently(|| {
            let fatal = |error| FetchFailure { error, again: false };
            let response = self.get(url, Some(&range))?;
            if response.status().as_u16() != 206 {
                return Err(fatal(Error::network(format!("{} stopped answering range requests", host(url)))));
            }
            let mut out = OpenOptions::new().write(true).open(part).map_err(|e| fatal(disk(part, e)))?;
            out.seek(SeekFrom::Start(range.start)).map_err(|e| fatal(disk(part, e)))?;
            let mut reader = response.into_body().into_reader().take(size);
            let (mut buffer, mut done) = (vec![0; 1 << 18], 0);
            while done < size {
                let n = match reader.read(&mut buffer) {
                    Ok(n) if n > 0 => n,
                    _ => {
                        return Err(FetchFailure {
                            error: Error::network(format!("{url}: the response broke off")),
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

/// Retries until success, a fatal error, or the last attempt.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, FetchFailure>) -> Result<T> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match attempt() {
            Err(FetchFailure { again: true, .. }) => thread::sleep(wait),
            done => return done.map_err(|refusal| refusal.error),
        }
        wait *= 2;
    }
    attempt().map_err(|refusal| refusal.error)
}

fn interrupted(url: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::network(format!("{url}: the response broke off: {cause}")).caused_by(cause)
}

fn host(url: &str) -> &str {
    url.split('/').nth(2).unwrap_or(url)
}

fn changed(url: &str, promised: u64, got: u64) -> Error {
    Error::network(format!(
        "{url} has {got} bytes instead of {promised}: it has just changed, or was truncated; try again"
    ))
}

fn disk(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot write {} (the downloaded part is kept)", path.display()), error)
}

/// Fails if the disk is known to have less than `bytes` free.
fn check_space(folder: &Path, bytes: u64) -> Result<()> {
    match fs4::available_space(folder) {
        Ok(free) if free < bytes => Err(Error::Limit(format!(
            "{:.1} GB are to come, {} has room for {:.1} GB: remove something (`firelight list` shows what is kept), or set \
             HF_HUB_CACHE to another disk",
            bytes as f64 / 1e9,
            folder.display(),
            free as f64 / 1e9
        ))),
        // If the free space is unknown, writing may fail later.
        _ => Ok(()),
    }
}

/// The complete chunks of a file.
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
    /// Reads the journal of a file of this size; empty if there is none or it does not match.
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

/// Checks size and hash. Removes a damaged file, because the damaged part is unknown.
fn verify(part: &Path, file: &RepoFile, progress: &mut dyn FnMut(DownloadProgress) -> Result<()>) -> Result<()> {
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
        progress(DownloadProgress { done, total: file.bytes(), checking: true })?;
    }
    let got: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if got.eq_ignore_ascii_case(&lfs.sha256) {
        return Ok(());
    }
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(journal_path(part));
    let name = &file.name;
    Err(Error::format(format!(
        "{name} is damaged: its SHA-256 is {got}, not {}. It was removed; try again",
        lfs.sha256
    )))
}
