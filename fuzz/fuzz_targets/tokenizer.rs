//! Untrusted vocabularies and texts: encoding returns an error or valid ids, streaming decodes to the same text as
//! decoding at once, and nothing panics.
//!
//! The first byte of the input selects the tokenizer model, the pre-tokenizer and the unknown token. The rest has the
//! tokens, one per line, an empty line, the merges, an empty line, and the text to encode.

#![no_main]

use firelight::checkpoint::Metadata;
use firelight::tokenizer::{Special, Tokenizer};
use libfuzzer_sys::fuzz_target;

const PRE: [&str; 8] = ["default", "llama-bpe", "qwen2", "gpt-4o", "deepseek-llm", "deepseek-v3", "falcon", "tekken"];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let rest = String::from_utf8_lossy(rest);
    let mut parts = rest.splitn(3, "\n\n");
    let lines = |part: Option<&str>| part.unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let (tokens, merges, text) = (lines(parts.next()), lines(parts.next()), parts.next().unwrap_or_default());
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", ["llama", "gpt2", "gemma4"][choice as usize % 3]);
    metadata.insert("tokenizer.ggml.pre", PRE[choice as usize / 3 % 8]);
    metadata.insert("tokenizer.ggml.scores", tokens.iter().map(|t| -(t.len() as f32)).collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.token_type", tokens.iter().map(|t| t.len() as i32 % 7).collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.unknown_token_id", choice as u32 / 24);
    metadata.insert("tokenizer.ggml.tokens", tokens);
    metadata.insert("tokenizer.ggml.merges", merges);
    let Ok(tokenizer) = Tokenizer::from_metadata(&metadata) else { return };
    for special in [Special::NONE, Special::ALL] {
        let Ok(ids) = tokenizer.encode(text, special) else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        let mut stream = tokenizer.stream();
        let streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids));
    }
});
