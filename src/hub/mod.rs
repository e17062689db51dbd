//! Models from a hub (Hugging Face, or what `HF_ENDPOINT` names): what there is, which file fits, fetching it, and where
//! it is kept. The only module that opens connections, and only when it is told to.
//!
//! Blocking, for native front ends: a download is threads and a file, not a future.

pub mod cache;
mod fetch;
mod files;
mod name;
mod pick;

pub use cache::Kept;
pub use fetch::Step;
pub use files::{Listing, Offer, Sibling, offers};
pub use name::Name;
pub use pick::{Choice, pick};

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::checkpoint::Source;
use crate::{Error, Result};
use fetch::Client;

/// Characters that a path writes as `%XX`.
const IN_PATHS: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// How long a listing may be.
const LISTING_BYTES: u64 = 64 << 20;

/// What an environment variable says, if it says anything.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|v| v.trim().to_string()).filter(|v| !v.is_empty())
}

/// The address of the hub that the environment names.
fn endpoint() -> String {
    var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into())
}

/// A hub, and the folder where its models are kept.
pub struct Hub {
    client: Client,
    endpoint: String,
    cache: PathBuf,
    offline: bool,
}

impl Hub {
    /// The hub that the environment names, as Hugging Face's own tools read it: `HF_ENDPOINT`, `HF_TOKEN` (or the file
    /// that their login wrote), `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// If there is no folder to keep models in.
    pub fn from_env(offline: bool) -> Result<Self> {
        let cache = cache::folder()?;
        let login = cache.parent().map(|home| home.join("token"));
        let token = var("HF_TOKEN").or_else(|| {
            let text = crate::text::decode(std::fs::read(login?).ok()?, "the token").ok()?;
            Some(text.trim().to_string()).filter(|t| !t.is_empty())
        });
        let offline = offline || var("HF_HUB_OFFLINE").is_some_and(|v| v != "0");
        Ok(Hub { client: Client::new(token), offline, ..Hub::at(&endpoint(), cache) })
    }

    /// The hub at an address, without a token, its models kept in a folder.
    pub fn at(endpoint: &str, cache: PathBuf) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_string();
        Hub { client: Client::new(None), endpoint, cache, offline: false }
    }

    /// Where models are kept.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The kept model that a name means; the largest if it says only the repository.
    ///
    /// # Errors
    /// [`Error::Usage`] if it means several; [`Error::Network`] if it means none, and nothing may be fetched: with what
    /// is kept of the repository.
    pub fn kept(&self, name: &Name) -> Result<Option<Kept>> {
        let mut found = cache::find(&self.cache, name);
        match (found.len(), &name.wanted) {
            (0, _) if self.offline => Err(Error::network(self.not_kept(name))),
            (2.., Some(wanted)) if !name.is_folder() => {
                let names: Vec<&str> = found.iter().map(|kept| kept.name.as_str()).collect();
                Err(Error::Usage(format!(
                    "{wanted:?} is the name of {}: give one file's whole path",
                    names.join(" and ")
                )))
            }
            _ => Ok((!found.is_empty()).then(|| found.remove(0))),
        }
    }

    fn not_kept(&self, name: &Name) -> String {
        let others = cache::find(&self.cache, &Name { wanted: None, ..name.clone() });
        let others: Vec<String> = others.iter().map(Kept::to_string).collect();
        let rest = match others.is_empty() {
            true => "`firelight list` shows what is here".to_string(),
            false => format!("here are {}", others.join(", ")),
        };
        format!("{name} is not kept here, and nothing is fetched while offline; {rest}")
    }

    /// What a repository offers now.
    ///
    /// # Errors
    /// [`Error::Network`] if it cannot be asked, if there is none, or if it wants a token.
    pub fn listing(&self, repo: &str) -> Result<Listing> {
        self.online(repo)?;
        let url = format!("{}/api/models/{repo}/revision/main?blobs=true", self.endpoint);
        let text = self.client.text(&url, LISTING_BYTES)?;
        let mut listing: Listing = serde_json::from_str(&text)
            .map_err(|e| Error::network(format!("{url} does not answer as a model hub does: {e}")).caused_by(e))?;
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
        if !plain(&listing.sha) {
            return Err(Error::network(format!("{url} names no commit")));
        }
        // Names become paths: what would lead out of the cache's folder is not there for us.
        let part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
        listing.siblings.retain(|f| f.name.split('/').all(part) && f.hash().is_some_and(|hash| plain(&hash)));
        Ok(listing)
    }

    fn online(&self, what: &str) -> Result<()> {
        match self.offline {
            true => Err(Error::network(format!("{what} is not kept here, and nothing is fetched while offline"))),
            false => Ok(()),
        }
    }

    fn url(&self, repo: &str, commit: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{commit}/{}", self.endpoint, utf8_percent_encode(file, &IN_PATHS))
    }

    /// A file of a repository, read by range where it lies: for headers.
    pub fn source(&self, repo: &str, listing: &Listing, file: &Sibling) -> Source {
        let (client, url) = (self.client.clone(), self.url(repo, &listing.sha, &file.name));
        Source::new(file.name.clone(), file.bytes(), move |range| {
            Box::pin(std::future::ready(client.range(&url, range)))
        })
    }

    /// Fetches files of a repository that are not kept yet, and gives them their names. Returns the first one's path.
    /// `progress` is told of bytes over all files; an error of its own ends the fetch.
    ///
    /// # Errors
    /// [`Error::Network`], [`Error::Io`] if the disk is full, [`Error::Format`] if a file is not what was promised. What
    /// came so far is kept, and the next try goes on from there.
    pub fn fetch(
        &self,
        repo: &str,
        listing: &Listing,
        files: &[Sibling],
        progress: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<PathBuf> {
        let place = cache::Repo::new(&self.cache, repo);
        let total = files.iter().map(Sibling::bytes).sum();
        let (mut before, mut first) = (0, None);
        for file in files {
            let hash = file.hash().ok_or_else(|| Error::network(format!("{} has no hash", file.name)))?;
            let blob = place.blob(&hash);
            if !blob.exists() {
                self.online(&file.name)?;
                let url = self.url(repo, &listing.sha, &file.name);
                let mut report = |step: Step| progress(Step { done: before + step.done, total, ..step });
                self.client.download(&url, file, &blob, &mut report)?;
            }
            let path = place.name(&listing.sha, &file.name, &hash)?;
            first.get_or_insert(path);
            before += file.bytes();
        }
        first.ok_or_else(|| Error::Usage(format!("{repo} has no such file")))
    }
}

impl Sibling {
    /// Under which hash the file is kept: SHA-256 for large files, git's for others.
    fn hash(&self) -> Option<String> {
        self.lfs.as_ref().map(|lfs| lfs.sha256.clone()).or_else(|| self.blob.clone())
    }
}
