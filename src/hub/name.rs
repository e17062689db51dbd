//! Names of models on a hub: `org/repo`, `org/repo:Q4_K_M`, `org/repo:file.gguf`, and the page's address.

use crate::{Error, Result};

/// A repository, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `org/repo`.
    pub repo: String,
    /// A file's name or a quantization's, such as `Q4_K_M`.
    pub wanted: Option<String>,
}

/// Prefixes under which people paste names.
const PREFIXES: [&str; 5] =
    ["https://huggingface.co/", "http://huggingface.co/", "huggingface.co/", "https://hf.co/", "hf.co/"];

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is none; the message shows what names look like.
    pub fn parse(text: &str) -> Result<Self> {
        let name = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        let (repo, wanted) = match name.split_once(':') {
            Some((repo, wanted)) => (repo, Some(wanted)),
            None => page(name.trim_end_matches('/')),
        };
        let part = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part.len() <= 96 && part.chars().all(known) && !part.starts_with('.')
        };
        let good = repo.split_once('/').is_some_and(|(org, repo)| part(org) && part(repo));
        if !good || wanted.is_some_and(|w| w.is_empty() || w.contains("..") || w.contains('\\') || w.starts_with('/')) {
            return Err(Error::Usage(format!(
                "{text:?} is no model's name: ORG/REPO is wanted, ORG/REPO:Q4_K_M, or ORG/REPO:FILE.gguf"
            )));
        }
        Ok(Name { repo: repo.to_string(), wanted: wanted.map(str::to_string) })
    }
}

/// A page's address may go on behind the repository: `/blob/main/FILE`, `/resolve/main/FILE?download=true`,
/// `/tree/main`.
fn page(name: &str) -> (&str, Option<&str>) {
    let Some(end) = name.match_indices('/').nth(1).map(|(at, _)| at) else { return (name, None) };
    let rest = name[end + 1..].split('?').next().unwrap_or_default();
    let file = ["blob/main/", "resolve/main/"].iter().find_map(|prefix| rest.strip_prefix(prefix));
    match (file, rest) {
        (Some(file), _) => (&name[..end], Some(file)),
        (None, "tree/main") => (&name[..end], None),
        _ => (name, None),
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.wanted {
            Some(wanted) => write!(f, "{}:{wanted}", self.repo),
            None => f.write_str(&self.repo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for (text, repo, wanted) in [
            ("Qwen/Qwen3-0.6B-GGUF", "Qwen/Qwen3-0.6B-GGUF", None),
            ("Qwen/Qwen3-0.6B-GGUF:Q8_0", "Qwen/Qwen3-0.6B-GGUF", Some("Q8_0")),
            ("hf.co/Qwen/Qwen3-0.6B-GGUF:q4_k_m", "Qwen/Qwen3-0.6B-GGUF", Some("q4_k_m")),
            ("https://huggingface.co/a/b/", "a/b", None),
            ("https://huggingface.co/a/b/tree/main", "a/b", None),
            ("https://huggingface.co/a/b/blob/main/sub/x.gguf", "a/b", Some("sub/x.gguf")),
            ("https://huggingface.co/a/b/resolve/main/x.gguf?download=true", "a/b", Some("x.gguf")),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!((name.repo.as_str(), name.wanted.as_deref()), (repo, wanted), "{text}");
        }
        for text in ["demo", "a/", "/a", "a/b/c", "../b", "a/b:", "a/b:../x", "a b/c", "a/b:/etc/passwd"] {
            assert!(Name::parse(text).unwrap_err().to_string().contains("ORG/REPO"), "{text}");
        }
    }
}
