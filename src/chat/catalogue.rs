//! Models that can be downloaded: the short list of the page and the window, and what a search of the hub found.

use serde::Deserialize;

use super::protocol::Fit;

/// A model on the hub.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelOffer {
    /// Its name for people.
    pub name: String,
    /// A few words about it.
    pub about: String,
    /// The name to download it by: `ORG/REPO` or `ORG/REPO:QUANT`.
    pub wanted: String,
    /// Its size in bytes, if known.
    pub bytes: Option<u64>,
    /// Its licence, if known.
    pub licence: Option<String>,
    /// Whether it fits, once the user asks.
    pub answer: FitAnswer,
}

/// The answer to "Does it fit?".
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FitAnswer {
    /// Nobody asked.
    #[default]
    Unasked,
    /// The header is being read.
    Asking,
    /// The file that would be downloaded, its size in bytes, and whether it fits.
    Known(String, u64, Fit),
    /// The header could not be read.
    Failed(String),
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    about: String,
    source: String,
    bytes: u64,
    license: String,
}

/// The short list, smallest first: the page's `models.json`.
pub fn good_models() -> Vec<ModelOffer> {
    let list: Vec<Entry> = serde_json::from_str(include_str!("../../assets/web/models.json")).unwrap_or_default();
    let offer = |entry: Entry| ModelOffer {
        wanted: entry.source.trim_start_matches("hf:").to_string(),
        name: entry.name,
        about: entry.about,
        bytes: Some(entry.bytes),
        licence: Some(entry.license),
        answer: FitAnswer::Unasked,
    };
    list.into_iter().map(offer).collect()
}

/// The text in the picker's field: a path, a name on the hub, or words to search for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The path of a file or folder.
    Open,
    /// The name or address of a model on the hub.
    Download,
    /// Words to search for.
    Search,
}

/// Tells paths, names on the hub and words apart by their form.
pub fn meaning(text: &str) -> Wanted {
    let is_path = text.starts_with(['/', '.', '~', '\\']) || text.contains('\\');
    let is_file = text.to_lowercase().ends_with(".gguf") && !text.contains(':');
    let drive = text.get(1..3).is_some_and(|rest| rest == ":/");
    let named = text.split_once('/').is_some_and(|(org, repo)| {
        let plain = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        plain(org) && plain(repo)
    });
    match (is_path || is_file || drive, named) {
        (true, _) => Wanted::Open,
        (false, true) => Wanted::Download,
        (false, false) => Wanted::Search,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sound_and_texts_have_a_meaning() {
        let list = good_models();
        assert!(list.len() > 4 && list.iter().all(|m| meaning(&m.wanted) == Wanted::Download), "{list:?}");
        assert!(list.is_sorted_by_key(|m| m.bytes), "the smallest comes first");
        let rows = [
            ("/models/a.gguf", Wanted::Open),
            ("~/a", Wanted::Open),
            ("a.gguf", Wanted::Open),
            (r"C:\a.gguf", Wanted::Open),
            ("C:/a.gguf", Wanted::Open),
            ("models/a.gguf", Wanted::Open),
            ("Qwen/Qwen3-0.6B-GGUF", Wanted::Download),
            ("Qwen/Qwen3-0.6B-GGUF:a.gguf", Wanted::Download),
            ("https://huggingface.co/Qwen/Qwen3-0.6B-GGUF", Wanted::Download),
            ("qwen3", Wanted::Search),
            ("small / fast", Wanted::Search),
        ];
        for (text, means) in rows {
            assert_eq!(meaning(text), means, "{text}");
        }
    }
}
