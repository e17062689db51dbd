//! Converts a `tokenizer.json` to GGUF metadata, for GGUF files that any program can read.
//!
//! Byte-level files contain the pre-tokenizer's regular expression, but GGUF its name: the name is found by splitting a
//! probe text that every known pre-tokenizer splits differently. SentencePiece-like files list merges, but GGUF scores
//! tokens: the scores are derived from the merges' ranks.

use std::collections::HashMap;

use serde_json::Value as Json;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

use super::pre::{self, WordSplitter};
use super::vocab::byte_token;
use crate::checkpoint::{GgufArray, GgufValue};
use crate::{Error, Result};

/// A text that every known pre-tokenizer splits differently.
const PROBE: &str = "Don't SHOUT, it's 1234567 o'clock: CamelCase_names x2=3.14\n\n  \tfn main() {}\r\n über-größe Ελληνικά \
                     日本語のテスト 한국어 12٣٤ … “quoted”!?/path/to//file <|x|> 'LL\u{301}e\u{301} A1b2C3   end a  12  345\u{a0}6 $5 +7 ~8 |9|`0`  ";

/// GGUF's token types.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The `tokenizer.ggml.*` keys of a `tokenizer.json`, for a model with `rows` rows in its embedding.
///
/// # Errors
/// If the file is damaged, or is not a byte-pair vocabulary.
pub fn to_gguf(json: &[u8], rows: usize) -> Result<Vec<(String, GgufValue)>> {
    let failed = |what: &str| Error::format(format!("tokenizer.json: {what}"));
    let file: Json = serde_json::from_slice(json).map_err(|e| failed(&e.to_string()).caused_by(e))?;
    let model = &file["model"];
    if model["type"].as_str().is_some_and(|kind| kind != "BPE") || !model["vocab"].is_object() {
        return Err(Error::Unsupported("tokenizer.json: only byte-pair vocabularies can be converted to GGUF".into()));
    }
    let (tokens, types) = vocabulary(&file, rows)?;
    let merges = merges(&model["merges"]).ok_or_else(|| failed("its merges are malformed"))?;
    let mut keys: Vec<(String, GgufValue)> = Vec::new();
    let mut key = |name: &str, value: GgufValue| keys.push((format!("tokenizer.ggml.{name}"), value));
    if model["byte_fallback"] == true {
        key("model", "llama".into());
        key("scores", GgufValue::Array(GgufArray::F32(scores(&tokens, &types, &merges))));
        key("add_space_prefix", GgufValue::Bool(adds_space(&file)));
    } else {
        key("model", "gpt2".into());
        key("pre", pre_tokenizer_name(json, model["ignore_merges"] == true)?.into());
        let lines = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        key("merges", GgufValue::Array(GgufArray::String(lines)));
    }
    key("tokens", GgufValue::Array(GgufArray::String(tokens)));
    key("token_type", GgufValue::Array(GgufArray::I32(types)));
    Ok(keys)
}

/// Token texts and types by id. Unused rows of the embedding get placeholder names.
fn vocabulary(file: &Json, rows: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let (model, added) = (&file["model"], file["added_tokens"].as_array());
    let added = added.into_iter().flatten().filter_map(|token| {
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        Some((token["content"].as_str()?, token["id"].as_u64()?, kind))
    });
    let fallback = model["byte_fallback"] == true;
    let unknown = model["unk_token"].as_str();
    let kind = |text: &str| match text {
        _ if fallback && byte_token(text).is_some() => BYTE,
        _ if unknown == Some(text) => UNKNOWN,
        _ => NORMAL,
    };
    let vocab = model["vocab"].as_object().into_iter().flatten();
    let vocab = vocab.filter_map(|(text, id)| Some((text.as_str(), id.as_u64()?, kind(text))));
    let (mut tokens, mut types) = (vec![String::new(); rows], vec![UNUSED; rows]);
    for (text, id, kind) in vocab.chain(added) {
        let slot = usize::try_from(id).ok().filter(|id| *id < rows);
        let slot = slot.ok_or_else(|| {
            Error::format(format!("tokenizer.json: token {id} has no row in the embedding, which has {rows}"))
        })?;
        // The unknown token is listed as a special token too, but GGUF has a separate type for it.
        types[slot] = if types[slot] == UNKNOWN { UNKNOWN } else { kind };
        tokens[slot] = text.to_string();
    }
    for (id, (text, kind)) in tokens.iter_mut().zip(&types).enumerate() {
        if *kind == UNUSED {
            *text = format!("[PAD{id}]");
        }
    }
    Ok((tokens, types))
}

/// Merges in order of rank; files write them as `"a b"` or `["a", "b"]`.
fn merges(list: &Json) -> Option<Vec<(&str, &str)>> {
    list.as_array()?.iter().map(merge).collect()
}

fn merge(pair: &Json) -> Option<(&str, &str)> {
    match pair {
        Json::String(text) => text.split_once(' '),
        Json::Array(pair) => Some((pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    }
}

/// Scores for which SentencePiece merges in the order of the ranks.
fn scores(tokens: &[String], types: &[i32], merges: &[(&str, &str)]) -> Vec<f32> {
    let mut rank = HashMap::new();
    for (i, (a, b)) in merges.iter().enumerate() {
        rank.entry(format!("{a}{b}")).or_insert(i);
    }
    let last = merges.len() as f32;
    let score = |(text, kind): (&String, &i32)| match (rank.get(text), *kind) {
        (_, kind) if kind != NORMAL => 0.0,
        (Some(rank), _) => -(*rank as f32),
        // Single characters result from no merge; their scores are not used.
        (None, _) => -last,
    };
    tokens.iter().zip(types).map(score).collect()
}

/// Whether encoding adds a space before the text.
fn adds_space(file: &Json) -> bool {
    let normalizer = file["normalizer"].to_string();
    let pre = file["pre_tokenizer"].to_string();
    normalizer.contains(r#""type":"Prepend""#)
        || pre.contains(r#""type":"Metaspace""#) && !pre.contains(r#""prepend_scheme":"never""#)
}

/// The GGUF name of the file's pre-tokenizer.
fn pre_tokenizer_name(json: &[u8], whole_words: bool) -> Result<&'static str> {
    let text_error = |e: tokenizers::Error| Error::text(format!("tokenizer.json: {e}"));
    let tokenizer = Tokenizer::from_bytes(json).map_err(text_error)?;
    let mut text = PreTokenizedString::from(PROBE);
    if let Some(cutter) = tokenizer.get_pre_tokenizer() {
        cutter.pre_tokenize(&mut text).map_err(text_error)?;
    }
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let words: Vec<&str> = splits.iter().map(|(_, (start, end), _)| &PROBE[*start..*end]).collect();
    for (name, row) in pre::names() {
        if row.whole_words == whole_words && WordSplitter::new(row)?.words(PROBE) == words {
            return Ok(name);
        }
    }
    Err(Error::Unsupported("tokenizer.json: GGUF has no name for its pre-tokenizer; use a GGUF of the model".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_distinguishes_pre_tokenizers() {
        let mut seen: HashMap<(Vec<&str>, bool), &str> = HashMap::new();
        let mut alike = Vec::new();
        for (name, row) in pre::names() {
            let words = WordSplitter::new(row).expect("it compiles").words(PROBE);
            if let Some(other) = seen.insert((words, row.whole_words), name) {
                alike.push((other, name));
            }
        }
        // Two different but equivalent expressions.
        assert_eq!(alike, [("qwen2", "bailingmoe")]);
    }
}
