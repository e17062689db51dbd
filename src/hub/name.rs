//! Names of models on a hub: `org/repo`, `org/repo:Q4_K_M`, `org/repo:file.gguf`, and URLs of pages and files.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use ureq::http::Uri;

use crate::{Error, Result};

/// A repository, and optionally a file, folder or quantization in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Name {
    /// `org/repo`.
    pub repo: String,
    /// A file's path, a folder's path with a `/` at its end, or a quantization such as `Q4_K_M`.
    pub wanted: Option<String>,
}

/// Hosts of Hugging Face's pages.
const HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];
/// Schemes that mean the first host.
const SCHEMES: [&str; 4] = ["hf://", "huggingface://", "hf:", "huggingface:"];
/// First path segments of pages that are not models.
const ELSEWHERE: [&str; 12] = [
    "api",
    "blog",
    "buckets",
    "collections",
    "datasets",
    "docs",
    "join",
    "login",
    "models",
    "organizations",
    "papers",
    "spaces",
];
/// The only supported branch.
const BRANCH: &str = "main";
/// Characters that are valid in a pasted address, but not in a URI.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`');

impl Name {
    /// Parses a name, or a URL on Hugging Face or on the hub in `HF_ENDPOINT`.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is neither; the message says why, and shows examples.
    pub fn parse(text: &str) -> Result<Self> {
        Self::at(text, &super::endpoint())
    }

    fn at(text: &str, endpoint: &str) -> Result<Self> {
        let text = trimmed(text);
        let name = match plain(text) {
            Some(name) => Ok(name),
            None => address(text, endpoint),
        };
        name.and_then(checked).map_err(|why| {
            Error::Usage(format!(
                "{text:?} {why}. Give ORG/REPO, ORG/REPO:QUANT, ORG/REPO:FILE.gguf, or the address of a model's page"
            ))
        })
    }

    /// Whether a text is a URL, of a model or not, rather than a path.
    pub fn is_address(text: &str) -> bool {
        let text = trimmed(text).to_ascii_lowercase();
        let host = text.split(['/', ':', '?']).next().unwrap_or_default();
        let host = host.strip_prefix("www.").unwrap_or(host);
        text.contains("://") || HOSTS.contains(&host) || SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Whether the name refers to a folder of the repository.
    pub(super) fn is_folder(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.ends_with('/'))
    }
}

/// Removes what is often copied along with a URL.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || "\"'`<>“”‘’«»\u{feff}\u{200b}".contains(c))
}

/// Parses `org/repo` or `org/repo:wanted`, without percent-decoding.
fn plain(text: &str) -> Option<Name> {
    let (repo, wanted) = match text.split_once(':') {
        Some((repo, wanted)) => (repo, Some(wanted.to_string())),
        None => (text, None),
    };
    let (org, _) = repo.split_once('/').filter(|(org, name)| is_part(org) && is_part(name))?;
    let host = org.strip_prefix("www.").unwrap_or(org);
    let is_host = HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known));
    (!is_host).then(|| Name { repo: repo.to_string(), wanted })
}

/// Whether a text is a valid user or repository name.
fn is_part(part: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !part.is_empty() && part.len() <= 96 && part.chars().all(known) && !part.starts_with('.')
}

fn checked(name: Name) -> Result<Name, String> {
    let (org, repo) = name.repo.split_once('/').unwrap_or_default();
    if ELSEWHERE.iter().any(|word| org.eq_ignore_ascii_case(word)) {
        return Err(format!("is in {org}, where there are no models"));
    }
    if !is_part(org) || !is_part(repo) {
        return Err("is not a model name".into());
    }
    let is_path = |wanted: &String| {
        !wanted.is_empty()
            && !wanted.starts_with('/')
            && !wanted.contains('\\')
            && !wanted.split('/').any(|p| p == "..")
    };
    match name.wanted.as_ref().is_none_or(is_path) {
        // Ollama's name of the default.
        true => Ok(Name { wanted: name.wanted.filter(|wanted| !wanted.eq_ignore_ascii_case("latest")), ..name }),
        false => Err("names no file".into()),
    }
}

/// Parses the URL of a repository, of a page in it, or of a file.
fn address(text: &str, endpoint: &str) -> Result<Name, String> {
    let text = with_scheme(text)?;
    let uri: Uri = utf8_percent_encode(&text, UNSAFE).to_string().parse().map_err(|_| "is not an address")?;
    let path = path_on_hub(&uri, endpoint)?;
    let path = decoded(path)?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let [org, repo, rest @ ..] = parts.as_slice() else {
        return Err("names no repository (names without ORG/, such as Ollama's llama3.2, are not on the hub)".into());
    };
    if ELSEWHERE.contains(org) {
        return Err(format!("is an address in {org}, where there are no models"));
    }
    let (repo, wanted) = match repo.split_once(':') {
        Some((repo, tag)) => (repo, Some([&[tag], rest].concat().join("/"))),
        None => (*repo, in_repository(rest)?),
    };
    let (repo, revision) = repo.split_once('@').unwrap_or((repo, BRANCH));
    check_revision(revision)?;
    let repo = repo.strip_suffix(".git").unwrap_or(repo);
    let wanted = match (wanted, shown(uri.query().unwrap_or_default())?) {
        (Some(path), Some(shown)) if !path.ends_with('/') && path != shown => {
            return Err(format!("names two files, {path} and {shown}"));
        }
        (wanted, shown) => shown.or(wanted),
    };
    Ok(Name { repo: format!("{org}/{repo}"), wanted })
}

/// Completes a URL whose scheme or host is missing or abbreviated.
fn with_scheme(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("https://") || lower.starts_with("http://") {
        return Ok(text.to_string());
    }
    if let Some(scheme) = SCHEMES.iter().find(|scheme| lower.starts_with(*scheme)) {
        return Ok(format!("https://{}/{}", HOSTS[0], &text[scheme.len()..]));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("is a {scheme} address, but models are downloaded over https"));
    }
    // The form for `git clone`.
    if let Some(path) = text.strip_prefix("git@") {
        return Ok(format!("https://{}", path.replacen(':', "/", 1)));
    }
    // A host has a dot or a port; the first segment of a repository's path has neither.
    let first = text.split('/').next().unwrap_or_default();
    match text.contains('/') && first.contains(['.', ':']) {
        true => Ok(format!("https://{text}")),
        false => Ok(format!("https://{}/{text}", HOSTS[0])),
    }
}

/// The path of a URL on the hub.
fn path_on_hub<'a>(uri: &'a Uri, endpoint: &str) -> Result<&'a str, String> {
    let host = |uri: &Uri| uri.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let own = host(uri);
    let own = own.strip_prefix("www.").unwrap_or(&own);
    if HOSTS.contains(&own) {
        return Ok(uri.path());
    }
    let endpoint: Uri = endpoint.parse().unwrap_or_default();
    let here = host(&endpoint);
    match here.strip_prefix("www.").unwrap_or(&here) == own && endpoint.port_u16() == uri.port_u16() {
        true => Ok(uri.path().strip_prefix(endpoint.path().trim_end_matches('/')).unwrap_or(uri.path())),
        false => Err(format!(
            "is an address at {own}, not on Hugging Face; if {own} is a mirror of it, set HF_ENDPOINT=https://{own}"
        )),
    }
}

/// The file or folder (with a slash at its end) in a URL after `org/repo`, if there is one.
fn in_repository(path: &[&str]) -> Result<Option<String>, String> {
    match path {
        [] | ["discussions" | "activity" | "community", ..] => Ok(None),
        [page @ ("tree" | "blob" | "resolve" | "raw" | "blame" | "commits"), revision, file @ ..] => {
            check_revision(revision)?;
            let file = file.join("/");
            Ok(match *page == "tree" && !file.ends_with(".gguf") {
                _ if file.is_empty() => None,
                true => Some(file + "/"),
                false => Some(file),
            })
        }
        [.., file] if file.ends_with(".gguf") => Ok(Some(path.join("/"))),
        _ => Err(format!("leads to {:?}, which is neither a model's page nor a GGUF file", path.join("/"))),
    }
}

fn check_revision(revision: &str) -> Result<(), String> {
    match revision {
        BRANCH => Ok(()),
        other => Err(format!("names the revision {other}, but only {BRANCH} is supported")),
    }
}

/// The file in the query of a repository's page.
fn shown(query: &str) -> Result<Option<String>, String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("show_file_info="));
    value.filter(|value| !value.is_empty()).map(|value| decoded(&value.replace('+', " "))).transpose()
}

/// Percent-decodes a text.
fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(|text| text.into_owned()).map_err(|_| "contains percent-encoded bytes that are not UTF-8".to_string())
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

    const HUB: &str = "https://huggingface.co";

    #[test]
    fn names_are_read_as_people_write_them() {
        for (text, repo, wanted) in [
            ("Qwen/Qwen3-0.6B-GGUF", "Qwen/Qwen3-0.6B-GGUF", None),
            ("Qwen/Qwen3-0.6B-GGUF:Q8_0", "Qwen/Qwen3-0.6B-GGUF", Some("Q8_0")),
            ("a/b:latest", "a/b", None),
            ("a/b:sub/x.gguf", "a/b", Some("sub/x.gguf")),
            ("  'a/b:Q4_0'\n", "a/b", Some("Q4_0")),
            ("\u{feff}a/b", "a/b", None),
            // Plain names are not percent-decoded.
            ("a/b:50%20.gguf", "a/b", Some("50%20.gguf")),
            ("a/b:x#1?.gguf", "a/b", Some("x#1?.gguf")),
            ("a/b:x..gguf", "a/b", Some("x..gguf")),
            ("a/b/sub/x.gguf", "a/b", Some("sub/x.gguf")),
            ("a/b@main:Q4_0", "a/b", Some("Q4_0")),
            ("hf:a/b:Q4_0", "a/b", Some("Q4_0")),
            ("HF://a/b/sub/x.gguf", "a/b", Some("sub/x.gguf")),
            ("huggingface://a/b", "a/b", None),
        ] {
            let name = Name::at(text, HUB).unwrap();
            assert_eq!((name.repo.as_str(), name.wanted.as_deref()), (repo, wanted), "{text}");
        }
    }

    #[test]
    fn addresses_are_read_as_addresses() {
        for (text, wanted) in [
            ("hf.co/a/b:q4_k_m", Some("q4_k_m")),
            ("hf.co/a/b:latest", None),
            ("HF.co/a/b:LATEST", None),
            ("hf.co/a/b:sub/x.gguf", Some("sub/x.gguf")),
            ("https://huggingface.co/a/b/", None),
            ("HTTPS://WWW.HuggingFace.co./a/b", None),
            ("http://www.hf.co:80//a//b//", None),
            ("https://user:secret@huggingface.co:443/a/b.git", None),
            ("git@hf.co:a/b", None),
            ("<https://huggingface.co/a/b>", None),
            ("https://huggingface.co/a/b?library=gguf&local-app=ollama#usage", None),
            ("https://huggingface.co/a/b#how-to?use=it", None),
            ("https://huggingface.co/a/b:Q8_0?library=x", Some("Q8_0")),
            ("https://huggingface.co/a/b%3AQ8_0", Some("Q8_0")),
            ("https://huggingface.co/a/b/tree/main", None),
            ("https://huggingface.co/a/b/tree/main/", None),
            ("https://huggingface.co/a/b/tree/main/BF16/", Some("BF16/")),
            ("https://huggingface.co/a/b/discussions/3", None),
            ("https://huggingface.co/a/b/commits/main", None),
            ("https://huggingface.co/a/b/blob/main/sub/x.gguf", Some("sub/x.gguf")),
            ("huggingface.co/a/b/blob/main/x.gguf", Some("x.gguf")),
            ("https://huggingface.co/a/b/raw/main/x.gguf", Some("x.gguf")),
            ("https://huggingface.co/a/b/resolve/main/x.gguf?download=true", Some("x.gguf")),
            ("https://huggingface.co/a/b/resolve/main/my%20x%2DQ4.gguf", Some("my x-Q4.gguf")),
            ("https://huggingface.co/a/b/resolve/main/sub%2Fx.gguf", Some("sub/x.gguf")),
            ("https://huggingface.co/a/b/blob/main/my x é^.gguf", Some("my x é^.gguf")),
            ("https://huggingface.co/a/b/blob/main/%C3%A9.gguf", Some("é.gguf")),
            ("https://huggingface.co/a/b?show_file_info=x-Q4.gguf", Some("x-Q4.gguf")),
            ("https://huggingface.co/a/b/tree/main?show_file_info=x%2DQ4.gguf", Some("x-Q4.gguf")),
            ("https://huggingface.co/a/b/tree/main/sub?x=y&show_file_info=sub%2Fx+y.gguf#top", Some("sub/x y.gguf")),
            ("https://huggingface.co/a/b?show_file_info=", None),
            ("a/b?show_file_info=x.gguf", Some("x.gguf")),
            ("a/b/tree/main", None),
        ] {
            let name = Name::at(text, HUB).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((name.repo.as_str(), name.wanted.as_deref()), ("a/b", wanted), "{text}");
        }
    }

    #[test]
    fn addresses_are_told_from_paths() {
        for text in
            ["https://x/a", "<HF.co/a/b/blob/main/x.gguf>", "www.huggingface.co/a/b", "hf:a/b", "Hf://a/b/x.gguf"]
        {
            assert!(Name::is_address(text), "{text}");
        }
        for text in ["a/b", "a/b:x.gguf", "./hf.co/x", "C:\\models\\x.gguf", "hf", "/hf.co/a/b"] {
            assert!(!Name::is_address(text), "{text}");
        }
    }

    #[test]
    fn a_mirror_is_known_by_its_endpoint() {
        let at = |text: &str, endpoint: &str| Name::at(text, endpoint).map(|name| name.to_string());
        assert_eq!(at("https://hf-mirror.com/a/b:Q8_0", "https://hf-mirror.com").unwrap(), "a/b:Q8_0");
        assert_eq!(at("http://127.0.0.1:81/hub/a/b/tree/main", "http://127.0.0.1:81/hub/").unwrap(), "a/b");
        assert_eq!(at("hf.co/a/b", "http://127.0.0.1:81").unwrap(), "a/b");
        let error = at("https://hf-mirror.com/a/b", HUB).unwrap_err().to_string();
        assert!(error.contains("HF_ENDPOINT=https://hf-mirror.com"), "{error}");
        assert!(at("http://127.0.0.1:82/a/b", "http://127.0.0.1:81").is_err());
    }

    #[test]
    fn what_names_no_model_is_refused_with_the_reason() {
        for (text, words) in [
            ("demo", "names no repository"),
            ("llama3.2:1b", "Ollama"),
            ("a/", "names no repository"),
            ("/a", "names no repository"),
            ("a/b/c", "\"c\""),
            ("../b", "HF_ENDPOINT"),
            ("a/b:", "no file"),
            ("a/b:../x", "no file"),
            ("a/b:/etc/passwd", "no file"),
            ("a/b:x\\y", "no file"),
            ("hf.co/a/b/resolve/main/%2e%2e/x.gguf", "no file"),
            ("a b/c", "not a model name"),
            ("", "names no repository"),
            ("https://huggingface.co", "names no repository"),
            ("https://huggingface.co/a", "names no repository"),
            ("https://huggingface.co/datasets/a/b", "datasets"),
            ("datasets/b", "datasets"),
            ("hf://spaces/a/b", "spaces"),
            ("https://huggingface.co/a/b/tree/v2", "revision v2"),
            ("https://huggingface.co/a/b/resolve/0123abc/x.gguf", "revision 0123abc"),
            ("https://huggingface.co/a/b/blob/refs%2Fpr%2F1/x.gguf", "revision refs"),
            ("a/b@v2:Q4_0", "revision v2"),
            ("https://huggingface.co/a/b/blob/main/x.gguf?show_file_info=y.gguf", "two files"),
            ("https://huggingface.co/a/b/settings", "\"settings\""),
            ("https://huggingface.co/a/b/blob/main/%ff.gguf", "UTF-8"),
            ("https://ollama.com/library/llama3.2", "ollama.com"),
            ("registry.ollama.ai/library/llama3.2:1b", "registry.ollama.ai"),
            ("https://huggingface.co.evil.example/a/b", "huggingface.co.evil.example"),
            ("https://huggingface.co@evil.example/a/b", "evil.example"),
            ("ollama://library/llama3.2", "ollama"),
            ("file:///tmp/x.gguf", "file"),
        ] {
            let error = Name::at(text, HUB).unwrap_err().to_string();
            assert!(error.contains("ORG/REPO") && error.contains(words), "{text}: {error}");
        }
    }
}
