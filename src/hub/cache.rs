//! The cache folder of models. It is shared with Hugging Face's tools, so that no model is stored twice. Its layout:
//! <https://huggingface.co/docs/hub/local-cache>.
//!
//! `models--ORG--REPO/blobs/HASH` are the files, `snapshots/COMMIT/NAME` links to them, `refs/main` names the commit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{RepoFile, meant, offers, split};
use super::name::Name;
use crate::{Error, Result};

/// The cache folder: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
///
/// # Errors
/// If none of the variables is set, and there is no home folder.
pub fn folder() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || var("HOME").or_else(|| var("USERPROFILE"));
    let found = var("HF_HUB_CACHE")
        .or_else(|| var("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| var("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| home().map(|home| home.join(".cache/huggingface/hub")));
    found.ok_or_else(|| Error::Usage("there is no home folder for the model cache: set HF_HOME".into()))
}

/// A repository's folder.
#[derive(Clone, Debug)]
pub struct Repo {
    path: PathBuf,
}

/// A cached model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CachedModel {
    /// `org/repo`.
    pub repo: String,
    /// Path within the repository.
    pub name: String,
    /// Path of the file.
    pub path: PathBuf,
    /// Bytes.
    pub bytes: u64,
}

impl std::fmt::Display for CachedModel {
    /// The name that finds it again.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.is_empty() {
            true => f.write_str(&self.repo),
            false => write!(f, "{}:{}", self.repo, self.name),
        }
    }
}

impl Repo {
    /// The folder of `repo` (`org/name`) below `cache`.
    pub fn new(cache: &Path, repo: &str) -> Self {
        Repo { path: cache.join(format!("models--{}", repo.replace('/', "--"))) }
    }

    /// Path of the file with this hash, which need not exist.
    pub fn blob(&self, hash: &str) -> PathBuf {
        self.path.join("blobs").join(hash)
    }

    /// The commit that was downloaded last.
    pub fn commit(&self) -> Option<String> {
        let commit = fs::read_to_string(self.path.join("refs/main")).ok()?.trim().to_string();
        (!commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric())).then_some(commit)
    }

    /// The folder of a commit's links.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.path.join("snapshots").join(commit)
    }

    /// Links a blob under its name in a commit, and records the commit as the last one. Moves the file where links are
    /// not allowed.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn name(&self, commit: &str, name: &str, hash: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(name);
        let link = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            if !path.exists() {
                // A dangling link may remain from a blob that was removed.
                let _ = fs::remove_file(&path);
                let up = "../".repeat(2 + name.matches('/').count());
                match link(&format!("{up}blobs/{hash}"), &path) {
                    // Another process created it first.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(_) => fs::rename(self.blob(hash), &path)?,
                    Ok(()) => {}
                }
            }
            fs::create_dir_all(self.path.join("refs"))?;
            fs::write(self.path.join("refs/main"), commit)
        };
        link().map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
        Ok(path)
    }
}

#[cfg(unix)]
fn link(target: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn link(target: &str, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), path)
}

/// All cached models: GGUF files (the first file of a split model), and folders with a `config.json` and weights.
pub fn list(cache: &Path) -> Vec<CachedModel> {
    let mut all = Vec::new();
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let folder = entry.file_name().to_string_lossy().into_owned();
        let Some(repo) = folder.strip_prefix("models--").map(|name| name.replacen("--", "/", 1)) else { continue };
        let place = Repo { path: entry.path() };
        let Some(commit) = place.commit() else { continue };
        let mut files = Vec::new();
        walk(&place.snapshot(&commit), "", &mut files);
        files.sort();
        let bytes = |name: &str| fs::metadata(place.snapshot(&commit).join(name)).map_or(0, |m| m.len());
        let siblings: Vec<RepoFile> = files
            .iter()
            .map(|name| RepoFile { name: name.clone(), size: Some(bytes(name)), blob: None, lfs: None })
            .collect();
        for offer in offers(&siblings) {
            let path = place.snapshot(&commit).join(&offer.name);
            all.push(CachedModel { repo: repo.clone(), bytes: offer.bytes(), name: offer.name, path });
        }
        if files.iter().any(|f| f == "config.json") && files.iter().any(|f| f.ends_with(".safetensors")) {
            let bytes = siblings.iter().map(RepoFile::bytes).sum();
            all.push(CachedModel { repo: repo.clone(), name: String::new(), path: place.snapshot(&commit), bytes });
        }
    }
    all.sort_by(|a, b| (&a.repo, &a.name).cmp(&(&b.repo, &b.name)));
    all
}

/// Paths of the files below `folder`, with `/` between their parts.
fn walk(folder: &Path, prefix: &str, out: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match fs::metadata(entry.path()) {
            Ok(facts) if facts.is_dir() => walk(&entry.path(), &format!("{name}/"), out),
            Ok(_) => out.push(name),
            // A link whose blob is gone.
            Err(_) => {}
        }
    }
}

/// The cached models that match a name, largest first: a file or folder, those of a quantization, or all.
pub fn find(cache: &Path, name: &Name) -> Vec<CachedModel> {
    let mine = list(cache).into_iter().filter(|kept| kept.repo.eq_ignore_ascii_case(&name.repo));
    let mut found: Vec<CachedModel> = match &name.wanted {
        Some(wanted) => {
            let (folders, files): (Vec<CachedModel>, Vec<CachedModel>) = mine.partition(|kept| kept.name.is_empty());
            match meant(files, |kept| &kept.name, wanted) {
                // A file of a Hugging Face folder refers to the folder.
                none if none.is_empty() => {
                    folders.into_iter().filter(|kept| kept.path.join(wanted).is_file()).collect()
                }
                found => found,
            }
        }
        None => mine.collect(),
    };
    found.sort_by_key(|kept| std::cmp::Reverse(kept.bytes));
    found
}

/// Removes a cached model's links in the last commit, and their blobs. Returns the number of bytes freed.
///
/// # Errors
/// If a file cannot be removed.
pub fn remove(cache: &Path, kept: &CachedModel) -> Result<u64> {
    let repo = Repo::new(cache, &kept.repo);
    let Some(commit) = repo.commit() else { return Ok(0) };
    let mut names = Vec::new();
    walk(&repo.snapshot(&commit), "", &mut names);
    let mine = |name: &&String| kept.name.is_empty() || same_model(name, &kept.name);
    let target = |name: &String| fs::canonicalize(repo.snapshot(&commit).join(name)).ok();
    // A link may point to a file outside the cache, or two links to one blob.
    let inside = fs::canonicalize(&repo.path).unwrap_or_default();
    let others: Vec<PathBuf> = names.iter().filter(|name| !mine(name)).filter_map(target).collect();
    let mut free = 0;
    for name in names.iter().filter(mine) {
        let path = repo.snapshot(&commit).join(name);
        let blob = target(name).filter(|blob| blob.starts_with(&inside) && !others.contains(blob));
        free += blob.as_ref().and_then(|blob| fs::metadata(blob).ok()).map_or(0, |m| m.len());
        for path in blob.iter().chain([&path]) {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(format!("cannot remove {}", path.display()), e)),
            }
        }
    }
    let mut left = Vec::new();
    walk(&repo.snapshot(&commit), "", &mut left);
    if left.is_empty() {
        fs::remove_dir_all(&repo.path).map_err(|e| Error::io(format!("cannot remove {}", repo.path.display()), e))?;
    }
    Ok(free)
}

/// Whether two files are the same, or parts of one model.
fn same_model(a: &str, b: &str) -> bool {
    split(a).0 == split(b).0
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Only files of the cache are removed: no file outside it, and no blob with another link.
    #[test]
    fn only_what_is_the_models_own_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cache, mine) = (folder.path().join("hub"), folder.path().join("mine.gguf"));
        let repo = Repo::new(&cache, "a/b");
        fs::create_dir_all(repo.blob("x").parent().expect("it")).expect("a folder");
        fs::write(repo.blob("one"), "GGUF").expect("a file");
        fs::write(repo.blob("two"), "GGUF").expect("a file");
        fs::write(&mine, "GGUF").expect("a file");
        for (name, hash) in [("x.gguf", "one"), ("copy-of-x.gguf", "one"), ("y.gguf", "two")] {
            repo.name("c0", name, hash).expect("a name");
        }
        link(mine.to_str().expect("UTF-8"), &repo.snapshot("c0").join("linked.gguf")).expect("a link");
        let remove = |name: &str| {
            let name = Name { repo: "a/b".into(), wanted: Some(name.into()) };
            let found = find(&cache, &name);
            assert_eq!(found.len(), 1, "{name}");
            super::remove(&cache, &found[0]).expect("it goes")
        };
        assert_eq!((remove("linked.gguf"), mine.exists()), (0, true));
        assert_eq!((remove("x.gguf"), repo.blob("one").exists()), (0, true));
        assert_eq!((remove("copy-of-x.gguf"), repo.blob("one").exists()), (4, false));
        assert_eq!((remove("y.gguf"), cache.join("models--a--b").exists()), (4, false));
    }
}
