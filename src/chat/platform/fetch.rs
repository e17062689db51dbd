//! Downloads a model from the hub, on a thread, so that the window stays responsive.

use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use super::{Chosen, Fetched};
use crate::chat::protocol::Place;
use crate::gpu::Caps;
use crate::hub::{self, DownloadProgress, Hub, Name};
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
        assert!(std::fs::read(path).expect("the file") == **file);
        let steps = steps.borrow();
        assert_eq!((steps[0].name.as_str(), steps[0].total), ("tiny-Q8_0.gguf", 20_000_000));
        assert!(steps.last().expect("a step").checking);
        // Without a network, the cached model is found.
        let note = |_| {};
        let gone = Hub::at("http://127.0.0.1:1", folder.path().to_path_buf());
        assert!(get(&gone, &name("some/Tiny"), None, &Arc::downgrade(&alive), &note).is_ok());
        assert!(get(&gone, &name("some/Other"), None, &Arc::downgrade(&alive), &note).is_err());
    }
}
