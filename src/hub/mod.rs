//! Downloads models from a hub (Hugging Face, or the server in `HF_ENDPOINT`): lists a repository's files, picks one
//! that fits, downloads it, and finds it in the cache. No other module opens connections.
//!
//! The calls block, for native front ends.

pub mod cache;
mod fetch;
mod files;
mod name;
mod pick;

pub use cache::CachedModel;
pub use fetch::DownloadProgress;
pub use files::{FoundRepo, Offer, RepoFile, RepoFiles, offers};
pub use name::Name;
pub use pick::{PickedModel, pick};

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::checkpoint::Source;
use crate::{Error, Result};
use fetch::Client;

/// Characters that are percent-encoded in paths.
const IN_PATHS: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// Maximum size of a repository's listing.
const LISTING_BYTES: u64 = 64 << 20;

/// An environment variable that is set and not empty.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|v| v.trim().to_string()).filter(|v| !v.is_empty())
}

/// The hub's address, from the environment.
fn endpoint() -> String {
    var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into())
}

/// A hub and the cache folder of its models.
pub struct Hub {
    client: Client,
    endpoint: String,
    cache: PathBuf,
    offline: bool,
}

impl Hub {
    /// Configures the hub from the environment variables of Hugging Face's tools: `HF_ENDPOINT`, `HF_TOKEN` (or the
    /// file that their login writes), `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// If no cache folder can be determined.
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

    /// The hub at an address, without a token, with its models cached in a folder.
    pub fn at(endpoint: &str, cache: PathBuf) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_string();
        Hub { client: Client::new(None), endpoint, cache, offline: false }
    }

    /// The cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Finds a cached model by name; the largest one if the name is only a repository.
    ///
    /// # Errors
    /// [`Error::Usage`] if the name is ambiguous; [`Error::Network`] if the model is not cached and the hub is offline,
    /// which lists the cached files of the repository.
    pub fn kept(&self, name: &Name) -> Result<Option<CachedModel>> {
        let mut found = cache::find(&self.cache, name);
        match (found.len(), &name.wanted) {
            (0, _) if self.offline => Err(Error::network(self.not_kept(name))),
            (2.., Some(wanted)) if !name.is_folder() => {
                let names: Vec<&str> = found.iter().map(|kept| kept.name.as_str()).collect();
                Err(Error::Usage(format!(
                    "{wanted:?} matches {}: give the whole path of one file",
                    names.join(" and ")
                )))
            }
            _ => Ok((!found.is_empty()).then(|| found.remove(0))),
        }
    }

    fn not_kept(&self, name: &Name) -> String {
        let others = cache::find(&self.cache, &Name { wanted: None, ..name.clone() });
        let others: Vec<String> = others.iter().map(CachedModel::to_string).collect();
        let rest = match others.is_empty() {
            true => "`firelight list` shows the cached models".to_string(),
            false => format!("cached are {}", others.join(", ")),
        };
        format!("{name} is not cached, and nothing is downloaded while offline; {rest}")
    }

    /// Lists a repository's files.
    ///
    /// # Errors
    /// [`Error::Network`] if the hub cannot be reached, the repository does not exist, or it needs a token.
    pub fn listing(&self, repo: &str) -> Result<RepoFiles> {
        self.online(repo)?;
        let url = format!("{}/api/models/{repo}/revision/main?blobs=true", self.endpoint);
        let text = self.client.text(&url, LISTING_BYTES)?;
        let mut listing: RepoFiles = serde_json::from_str(&text)
            .map_err(|e| Error::network(format!("{url} is not a model hub: {e}")).caused_by(e))?;
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
        if !plain(&listing.sha) {
            return Err(Error::network(format!("the response of {url} has no commit")));
        }
        // Names become paths, so names that would leave the cache folder are ignored.
        let part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
        listing.siblings.retain(|f| f.name.split('/').all(part) && f.hash().is_some_and(|hash| plain(&hash)));
        Ok(listing)
    }

    /// Searches the hub for repositories with GGUF files, the most downloaded first.
    ///
    /// # Errors
    /// As [`Hub::listing`].
    pub fn search(&self, text: &str) -> Result<Vec<FoundRepo>> {
        if self.offline {
            return Err(Error::network("the hub cannot be searched while offline"));
        }
        let text = utf8_percent_encode(text, NON_ALPHANUMERIC);
        let query = format!("search={text}&filter=gguf&sort=downloads&direction=-1&limit=12");
        let url = format!("{}/api/models?{query}", self.endpoint);
        let answer = self.client.text(&url, LISTING_BYTES)?;
        serde_json::from_str(&answer).map_err(|e| Error::network(format!("{url} is not a model hub: {e}")).caused_by(e))
    }

    fn online(&self, what: &str) -> Result<()> {
        match self.offline {
            true => Err(Error::network(format!("{what} is not cached, and nothing is downloaded while offline"))),
            false => Ok(()),
        }
    }

    fn url(&self, repo: &str, commit: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{commit}/{}", self.endpoint, utf8_percent_encode(file, &IN_PATHS))
    }

    /// A file on the hub, read by range requests: for headers.
    pub fn source(&self, repo: &str, listing: &RepoFiles, file: &RepoFile) -> Source {
        let (client, url) = (self.client.clone(), self.url(repo, &listing.sha, &file.name));
        Source::new(file.name.clone(), file.bytes(), move |range| {
            Box::pin(std::future::ready(client.range(&url, range)))
        })
    }

    /// Downloads files of a repository that are not cached yet. Returns the path of the first one. `progress` receives
    /// byte counts over all files; an error that it returns ends the download.
    ///
    /// # Errors
    /// [`Error::Network`]; [`Error::Io`] if the disk is full; [`Error::Format`] if a file fails its hash. The next call
    /// resumes the download.
    pub fn fetch(
        &self,
        repo: &str,
        listing: &RepoFiles,
        files: &[RepoFile],
        progress: &mut dyn FnMut(DownloadProgress) -> Result<()>,
    ) -> Result<PathBuf> {
        let place = cache::Repo::new(&self.cache, repo);
        let total = files.iter().map(RepoFile::bytes).sum();
        let (mut before, mut first) = (0, None);
        for file in files {
            let hash = file.hash().ok_or_else(|| Error::network(format!("{} has no hash", file.name)))?;
            let blob = place.blob(&hash);
            if !blob.exists() {
                self.online(&file.name)?;
                let url = self.url(repo, &listing.sha, &file.name);
                let mut report =
                    |step: DownloadProgress| progress(DownloadProgress { done: before + step.done, total, ..step });
                self.client.download(&url, file, &blob, &mut report)?;
            }
            let path = place.name(&listing.sha, &file.name, &hash)?;
            first.get_or_insert(path);
            before += file.bytes();
        }
        first.ok_or_else(|| Error::Usage(format!("{repo} has no such file")))
    }
}

impl RepoFile {
    /// The hash that identifies the file in the cache: SHA-256 for large files, git's for others.
    fn hash(&self) -> Option<String> {
        self.lfs.as_ref().map(|lfs| lfs.sha256.clone()).or_else(|| self.blob.clone())
    }
}
