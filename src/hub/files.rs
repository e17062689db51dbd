//! A repository's files, and the models among them.

use serde::Deserialize;

use crate::checkpoint::split_name;

/// The files of a repository at a revision.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct RepoFiles {
    /// The commit.
    pub sha: String,
    /// Its files.
    pub siblings: Vec<RepoFile>,
    /// The model card's metadata.
    #[serde(default, rename = "cardData")]
    pub card: Option<ModelCard>,
}

/// A repository that a search found.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct FoundRepo {
    /// `org/name`.
    pub id: String,
    /// How often it was downloaded in the last month.
    #[serde(default)]
    pub downloads: u64,
    /// Tags, among them the licence.
    #[serde(default)]
    tags: Vec<String>,
}

impl FoundRepo {
    /// The licence's short name, if the repository states one.
    pub fn license(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix("license:"))
    }
}

/// The model card's metadata.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ModelCard {
    /// The licence.
    #[serde(default)]
    pub license: Option<serde_json::Value>,
}

/// A file of a repository.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct RepoFile {
    /// Its path within the repository.
    #[serde(rename = "rfilename")]
    pub name: String,
    /// Bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// Git's hash of the file.
    #[serde(default, rename = "blobId")]
    pub blob: Option<String>,
    /// Size and hash of a large file.
    #[serde(default)]
    pub lfs: Option<Lfs>,
}

/// Size and hash of a large file.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Lfs {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl RepoFile {
    /// Size in bytes, 0 if unknown.
    pub fn bytes(&self) -> u64 {
        self.lfs.as_ref().map(|lfs| lfs.size).or(self.size).unwrap_or(0)
    }
}

/// A model in a repository: a file, or the parts of a split one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Offer {
    /// The first file's path.
    pub name: String,
    /// The quantization in its name, in capitals; empty if there is none.
    pub quant: String,
    /// All files, in order.
    pub files: Vec<RepoFile>,
}

impl Offer {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(RepoFile::bytes).sum()
    }
}

/// The GGUF models among the files, largest first, without projectors and importance matrices.
pub fn offers(files: &[RepoFile]) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut gguf: Vec<&RepoFile> = files.iter().filter(|f| is_model(&f.name)).collect();
    gguf.sort_by(|a, b| a.name.cmp(&b.name));
    for file in gguf {
        let (stem, number) = split(&file.name);
        match offers.last_mut() {
            Some(last) if number > 1 && split(&last.name).0 == stem => last.files.push(file.clone()),
            _ => offers.push(Offer { name: file.name.clone(), quant: quant(stem), files: vec![file.clone()] }),
        }
    }
    offers.sort_by_key(|offer| std::cmp::Reverse(offer.bytes()));
    offers
}

fn is_model(name: &str) -> bool {
    let lower = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    lower.ends_with(".gguf") && !lower.contains("mmproj") && !lower.contains("imatrix")
}

/// The name without extension and part number, and the part number (1 if there is none).
pub(super) fn split(name: &str) -> (&str, u32) {
    match split_name(name) {
        Some((prefix, number, _)) => (prefix, number),
        None => (name.rsplit_once('.').map_or(name, |(stem, _)| stem), 1),
    }
}

/// The models that match `wanted`: all in a folder (with a slash at its end), or the best matches by path, then by file
/// name, then by the end of the name (`UD-Q4_K_XL`), then by quantization.
pub(super) fn meant<T>(models: Vec<T>, name: impl Fn(&T) -> &str, wanted: &str) -> Vec<T> {
    // Any part of a split model refers to the whole.
    let wanted = match split_name(wanted) {
        Some((prefix, _, count)) => &format!("{prefix}-{:05}-of-{count:05}.gguf", 1),
        None => wanted,
    };
    let rank = |model: &T| fit(name(model), wanted);
    let best = models.iter().filter_map(rank).min();
    models.into_iter().filter(|model| best.is_some() && rank(model) == best).collect()
}

/// How well a file matches `wanted`: 0 is best.
fn fit(file: &str, wanted: &str) -> Option<usize> {
    let exact = file == wanted;
    let (lower, wanted) = (file.to_lowercase(), wanted.to_lowercase());
    if wanted.ends_with('/') {
        return lower.starts_with(&wanted).then_some(0);
    }
    let base = lower.rsplit('/').next().unwrap_or(&lower);
    let stem = split(&lower).0;
    let ends = stem.strip_suffix(&wanted).is_some_and(|rest| rest.ends_with(['-', '_', '.', '/']));
    let fits = [exact, lower == wanted, base == wanted, ends, quant(stem).eq_ignore_ascii_case(&wanted)];
    fits.iter().position(|fits| *fits)
}

/// The last run of letters, digits and underscores that looks like a quantization.
fn quant(stem: &str) -> String {
    let upper = stem.rsplit('/').next().unwrap_or(stem).to_uppercase();
    let looks = |word: &&str| {
        let digits = |prefix: &str| {
            word.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('_'))
        };
        digits("Q")
            || digits("IQ")
            || digits("TQ")
            || ["MXFP4", "BF16", "F16", "F32", "FP16"].contains(word)
            || word.starts_with("MXFP4_")
    };
    upper.split(['-', '.']).rfind(looks).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> RepoFile {
        RepoFile { name: name.into(), size: Some(size), blob: None, lfs: None }
    }

    #[test]
    fn files_make_models() {
        let files = [
            file("README.md", 1),
            file("mmproj-model-f16.gguf", 900),
            file("Model-1B-Q4_K_M.gguf", 700),
            file("Model-1B.Q8_0.gguf", 1200),
            file("BF16/Model-1B-BF16-00002-of-00002.gguf", 1000),
            file("BF16/Model-1B-BF16-00001-of-00002.gguf", 1500),
            file("model-1b-UD-IQ2_XXS.gguf", 300),
            file("plain.gguf", 5),
        ];
        let offers = offers(&files);
        let facts: Vec<_> = offers.iter().map(|o| (o.quant.as_str(), o.files.len(), o.bytes())).collect();
        assert_eq!(facts, [("BF16", 2, 2500), ("Q8_0", 1, 1200), ("Q4_K_M", 1, 700), ("IQ2_XXS", 1, 300), ("", 1, 5)]);
        assert!(offers[0].files[0].name.contains("00001"));
    }

    #[test]
    fn the_file_that_is_named_is_meant() {
        let files = [
            "deep/x-Q4_0.gguf",
            "x-Q4_0.gguf",
            "X-q4_0.gguf",
            "deep/y-UD-Q4_K_XL.gguf",
            "y-Q4_K_XL.gguf",
            "z-00001-of-00002.gguf",
            "Q8_0",
        ];
        let found = |wanted: &str| meant(files.to_vec(), |file| file, wanted);
        assert_eq!(found("x-Q4_0.gguf"), ["x-Q4_0.gguf"]);
        assert_eq!(found("X-Q4_0.GGUF"), ["x-Q4_0.gguf", "X-q4_0.gguf"]);
        assert_eq!(found("deep/X-Q4_0.gguf"), ["deep/x-Q4_0.gguf"]);
        assert_eq!(found("y-ud-q4_k_xl.gguf"), ["deep/y-UD-Q4_K_XL.gguf"]);
        assert_eq!(found("UD-Q4_K_XL"), ["deep/y-UD-Q4_K_XL.gguf"]);
        assert_eq!(found("q4_0").len(), 3);
        assert_eq!(found("z-00002-of-00002.gguf"), ["z-00001-of-00002.gguf"]);
        assert_eq!(found("z-00002-of-00003.gguf"), [""; 0]);
        assert_eq!(found("deep/"), ["deep/x-Q4_0.gguf", "deep/y-UD-Q4_K_XL.gguf"]);
        assert_eq!(found("4_0"), [""; 0]);
    }
}
