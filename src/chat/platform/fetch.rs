//! Models of the hub: search, whether they fit, download, delete. Connections are opened on threads, so that the window
//! stays responsive.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use super::{Chosen, Fetched};
use crate::chat::catalogue::{FitAnswer, ModelOffer};
use crate::chat::facts;
use crate::chat::protocol::{Fit, Place};
use crate::gpu::Caps;
use crate::hub::{self, DownloadProgress, FoundRepo, Hub, Name};
use crate::{Error, Gpu, Result};

/// Whether this platform can download models.
pub const FETCHES: bool = true;

/// A download in progress. Dropping it cancels it; the downloaded part is kept, and the next attempt resumes.
pub struct FetchHandle {
    _alive: Arc<()>,
}

/// Downloads the model `name` (`ORG/REPO`, `ORG/REPO:QUANT` or `ORG/REPO:FILE`) for the adapter `device`. `tell`
/// receives its progress and result.
pub fn fetch(ctx: &egui::Context, name: &str, device: Option<&str>, tell: mpsc::Sender<Chosen>) -> FetchHandle {
    let alive = Arc::new(());
    let (ctx, name, device) = (ctx.clone(), name.to_string(), device.map(str::to_string));
    let wanted = Arc::downgrade(&alive);
    thread::spawn(move || {
        let say = |chosen| {
            // The window may be gone.
            let _ = tell.send(chosen);
            ctx.request_repaint_after(Duration::from_millis(100));
        };
        let named = Name::parse(name.trim()).and_then(|name| Ok((name, Hub::from_env(false)?)));
        let done = named.and_then(|(name, hub)| get(&hub, &name, caps(device.as_deref()), &wanted, &say));
        if wanted.strong_count() > 0 {
            say(Chosen::Fetched(done.map_err(|e| e.to_string())));
        }
    });
    FetchHandle { _alive: alive }
}

/// Searches the hub; `tell` receives what it has.
pub fn search(ctx: &egui::Context, text: &str, tell: mpsc::Sender<Chosen>) {
    let (ctx, text) = (ctx.clone(), text.to_string());
    thread::spawn(move || {
        let found = Hub::from_env(false).and_then(|hub| find(&hub, &text)).map_err(|e| e.to_string());
        let _ = tell.send(Chosen::Searched(text, found));
        ctx.request_repaint();
    });
}

fn find(hub: &Hub, text: &str) -> Result<Vec<ModelOffer>> {
    let offer = |repo: FoundRepo| ModelOffer {
        name: repo.id.clone(),
        about: format!("{} downloads", repo.downloads),
        licence: repo.license().map(str::to_string),
        wanted: repo.id,
        ..ModelOffer::default()
    };
    Ok(hub.search(text)?.into_iter().map(offer).collect())
}

/// Reads a model's header on the hub; `tell` receives whether it fits the adapter `device`.
pub fn ask_fit(ctx: &egui::Context, name: &str, device: Option<&str>, tell: mpsc::Sender<Chosen>) {
    let (ctx, name, device) = (ctx.clone(), name.to_string(), device.map(str::to_string));
    thread::spawn(move || {
        let hub = Hub::from_env(false);
        let answer = hub.and_then(|hub| fit(&hub, &Name::parse(&name)?, caps(device.as_deref())));
        let answer = answer.unwrap_or_else(|e| FitAnswer::Failed(e.to_string()));
        let _ = tell.send(Chosen::Fit(name, answer));
        ctx.request_repaint();
    });
}

fn fit(hub: &Hub, name: &Name, caps: Option<Caps>) -> Result<FitAnswer> {
    let listing = hub.listing(&name.repo)?;
    let pick = hub::pick(hub, &name.repo, &listing, name.wanted.as_deref(), caps.as_ref());
    let offer = match pollster::block_on(pick) {
        Ok(picked) => picked.offer,
        Err(Error::DoesNotFit { message, needed, .. }) => {
            return Ok(FitAnswer::Known(name.to_string(), needed, Fit::No(message)));
        }
        Err(error) => return Err(error),
    };
    let sources = offer.files.iter().map(|file| hub.source(&name.repo, &listing, file)).collect();
    let place = Place::File(offer.name.clone());
    let facts = pollster::block_on(facts::read(&place, sources, caps.as_ref()))?;
    Ok(FitAnswer::Known(place.to_string(), offer.bytes(), facts.fit))
}

/// Whether a model is in the cache of downloads, and so can be deleted.
pub fn is_download(place: &Place) -> bool {
    let Place::File(path) = place else { return false };
    hub::cache::folder().is_ok_and(|cache| Path::new(path).starts_with(cache))
}

/// Deletes a downloaded model. Returns the number of bytes freed.
///
/// # Errors
/// If a file cannot be removed.
pub fn delete(place: &Place) -> Result<u64> {
    let Place::File(path) = place else { return Ok(0) };
    delete_from(&hub::cache::folder()?, Path::new(path))
}

fn delete_from(cache: &Path, path: &Path) -> Result<u64> {
    match hub::cache::list(cache).iter().find(|kept| kept.path == path) {
        Some(kept) => hub::cache::remove(cache, kept),
        None => Ok(0),
    }
}

/// The model at a path that the user typed.
///
/// # Errors
/// If nothing is there.
pub fn typed(path: &str) -> Result<Place> {
    let home = std::env::home_dir().unwrap_or_default();
    let full = match path.strip_prefix('~') {
        Some(rest) => home.join(rest.trim_start_matches(['/', '\\'])),
        None => PathBuf::from(path),
    };
    match full.exists() {
        true => Ok(Place::File(full.display().to_string())),
        false => Err(Error::Usage(format!("{}: no such file", full.display()))),
    }
}

/// The adapter's capabilities, if there is one.
fn caps(device: Option<&str>) -> Option<Caps> {
    let cards = pollster::block_on(Gpu::list());
    let number = device.and_then(|d| d.parse::<usize>().ok());
    let usable = || cards.iter().find(|card| card.unusable.is_none());
    number.and_then(|n| cards.get(n)).or_else(usable).map(|card| card.caps.clone())
}

fn get(hub: &Hub, name: &Name, caps: Option<Caps>, wanted: &Weak<()>, say: &dyn Fn(Chosen)) -> Result<Place> {
    if let Some(kept) = hub.kept(name)? {
        return Ok(Place::File(kept.path.display().to_string()));
    }
    let listing = hub.listing(&name.repo)?;
    let pick = hub::pick(hub, &name.repo, &listing, name.wanted.as_deref(), caps.as_ref());
    let offer = pollster::block_on(pick)?.offer;
    let label = offer.name.rsplit('/').next().unwrap_or(&offer.name).to_string();
    let path = hub.fetch(&name.repo, &listing, &offer.files, &mut |DownloadProgress { done, total, checking }| {
        say(Chosen::Fetching(Fetched { name: label.clone(), done, total, checking }));
        match wanted.strong_count() {
            0 => Err(Error::Usage("the fetch was ended".into())),
            _ => Ok(()),
        }
    })?;
    Ok(Place::File(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use sha2::{Digest, Sha256};

    use super::*;

    /// Answers one request: with the listing, or slowly with a range of `file`.
    fn answer(stream: TcpStream, file: &[u8]) -> std::io::Result<()> {
        let (mut range, mut path) = (0..file.len(), String::new());
        for line in BufReader::new(stream.try_clone()?).lines().map_while(|line| line.ok().filter(|l| !l.is_empty())) {
            if let Some(rest) = line.strip_prefix("GET ") {
                path = rest.to_string();
            }
            let bytes = line.to_lowercase();
            if let Some((from, to)) = bytes.strip_prefix("range: bytes=").and_then(|r| r.split_once('-')) {
                range = from.parse().expect("a number")..to.parse::<usize>().expect("a number") + 1;
            }
        }
        let mut out = &stream;
        if path.starts_with("/api/models?search=tiny%20model") {
            let body = r#"[{"id": "some/Tiny", "downloads": 7, "tags": ["gguf", "license:mit"]}]"#;
            return write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
        if path.starts_with("/api/") {
            let sha256: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
            let lfs = serde_json::json!({ "sha256": sha256, "size": file.len() });
            let sibling = serde_json::json!({ "rfilename": "tiny-Q8_0.gguf", "lfs": lfs });
            let body = serde_json::json!({ "sha": "abc", "siblings": [sibling] }).to_string();
            return write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
        let (len, from, to, all) = (range.len(), range.start, range.end - 1, file.len());
        write!(out, "HTTP/1.1 206 Partial\r\nContent-Length: {len}\r\nContent-Range: bytes {from}-{to}/{all}\r\n")?;
        write!(out, "Connection: close\r\n\r\n")?;
        for piece in file[range].chunks(1 << 20) {
            std::thread::sleep(Duration::from_millis(5));
            out.write_all(piece)?;
        }
        Ok(())
    }

    #[test]
    fn a_fetch_can_be_ended_and_goes_on_where_it_was() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let file: Arc<Vec<u8>> = Arc::new((0..20_000_000u32).map(|i| (i % 251) as u8).collect());
        let served = file.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let file = served.clone();
                // The test disconnects in the middle.
                thread::spawn(move || drop(answer(stream, &file)));
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let hub = Hub::at(&endpoint, folder.path().to_path_buf());
        let found = find(&hub, "tiny model").expect("an answer");
        let facts = found.iter().map(|f| (f.wanted.as_str(), f.about.as_str(), f.licence.as_deref()));
        assert_eq!(facts.collect::<Vec<_>>(), [("some/Tiny", "7 downloads", Some("mit"))]);
        let alive = RefCell::new(Some(Arc::new(())));
        let wanted = alive.borrow().as_ref().map(Arc::downgrade).expect("it");
        let end = |chosen| {
            if let Chosen::Fetching(Fetched { done, .. }) = chosen
                && done > 9_000_000
            {
                alive.take();
            }
        };
        let name = |text: &str| Name::parse(text).expect("a name");
        let error = get(&hub, &name("some/Tiny:Q8_0"), None, &wanted, &end).expect_err("it was ended");
        assert!(error.to_string().contains("ended"), "{error}");
        assert!(hub::cache::list(folder.path()).is_empty());

        let alive = Arc::new(());
        let steps = RefCell::new(Vec::new());
        let note = |chosen| {
            if let Chosen::Fetching(step) = chosen {
                steps.borrow_mut().push(step);
            }
        };
        let place = get(&hub, &name("some/Tiny:Q8_0"), None, &Arc::downgrade(&alive), &note).expect("a model");
        let Place::File(path) = place else { panic!("{place:?}") };
        assert!(std::fs::read(&path).expect("the file") == **file);
        let steps = steps.borrow();
        assert_eq!((steps[0].name.as_str(), steps[0].total), ("tiny-Q8_0.gguf", 20_000_000));
        assert!(steps.last().expect("a step").checking);
        // Without a network, the cached model is found.
        let note = |_| {};
        let gone = Hub::at("http://127.0.0.1:1", folder.path().to_path_buf());
        assert!(get(&gone, &name("some/Tiny"), None, &Arc::downgrade(&alive), &note).is_ok());
        assert!(get(&gone, &name("some/Other"), None, &Arc::downgrade(&alive), &note).is_err());
        assert!(matches!(fit(&gone, &name("some/Other"), None), Err(Error::Network { .. })));
        assert_eq!(delete_from(folder.path(), Path::new("/other.gguf")).expect("nothing"), 0);
        assert_eq!(delete_from(folder.path(), Path::new(&path)).expect("it goes"), 20_000_000);
        assert!(hub::cache::list(folder.path()).is_empty());
    }
}
