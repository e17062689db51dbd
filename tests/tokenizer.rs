//! Token ids against llama.cpp's own, for every vocabulary file; streaming, speed, and broken metadata.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firelight::checkpoint::{Checkpoint, Metadata};
use firelight::tokenizer::{Special, Tokenizer};
use proptest::prelude::*;

/// The shared test data, or `None` (with a note; a failure in CI) where it is missing.
fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("FIRELIGHT_SHARED").map_or_else(beside, PathBuf::from);
    if root.join("data").is_dir() {
        return Some(root.join("data"));
    }
    assert!(std::env::var_os("CI").is_none(), "no test data in {}: set FIRELIGHT_SHARED", root.display());
    eprintln!("left out: no test data in {}", root.display());
    None
}

fn open(path: &Path) -> Tokenizer {
    let checkpoint = pollster::block_on(Checkpoint::open(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Tokenizer::from_checkpoint(&checkpoint).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn vocabulary(name: &str) -> Option<Tokenizer> {
    Some(open(&shared()?.join(format!("tokenizers/ggml-vocab-{name}.gguf"))))
}

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// The vocabulary's `.inp` texts and `.out` ids.
fn cases(name: &str) -> Vec<(String, Vec<u32>)> {
    let Some(data) = shared() else { return Vec::new() };
    let read = |ending: &str| {
        std::fs::read_to_string(data.join(format!("tokenizers/ggml-vocab-{name}.gguf.{ending}"))).unwrap()
    };
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let (texts, lines) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.strip_suffix(SEPARATOR).unwrap_or(&texts).split(SEPARATOR).collect();
    let lines: Vec<Vec<u32>> = lines.lines().map(ids).collect();
    assert_eq!(texts.len(), lines.len(), "{name}");
    texts.into_iter().map(str::to_owned).zip(lines).collect()
}

fn check(name: &str) {
    let Some(tokenizer) = vocabulary(name) else { return };
    let cases = cases(name);
    assert!(cases.len() > 40, "{name}");
    assert_eq!(tokenizer.notices(), [""; 0], "{name}");
    for (text, want) in cases {
        let ids = tokenizer.encode(&text, Special::NONE).unwrap();
        assert_eq!(ids, want, "{name}: {text:?}");
        assert_eq!(tokenizer.decode(&ids), text, "{name}");
    }
}

#[test]
fn llama_spm() {
    check("llama-spm");
}

#[test]
fn llama_bpe() {
    check("llama-bpe");
}

#[test]
fn qwen2() {
    check("qwen2");
}

#[test]
fn gpt_2() {
    check("gpt-2");
}

#[test]
fn phi_3() {
    check("phi-3");
}

#[test]
fn falcon() {
    check("falcon");
}

#[test]
fn starcoder() {
    check("starcoder");
}

#[test]
fn deepseek_llm() {
    check("deepseek-llm");
}
