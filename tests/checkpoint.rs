//! Opening models: real files, split files, folders, and every way a file can be wrong.

use firelight::checkpoint::{Checkpoint, Source, Value};
use pollster::block_on;
use std::path::PathBuf;

fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FIRELIGHT_SHARED").map(PathBuf::from);
    let path = root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
    println!("left out: {} is missing", path.display());
    None
}

#[test]
fn a_real_model() {
    let Some(path) = shared("data/models/stories260K.gguf") else { return };
    let model = block_on(Checkpoint::open(&path)).unwrap();
    for (key, v) in model.metadata.iter() {
        println!("{key} {:.80}", format!("{v:?}"));
    }
    for t in model.tensors.values() {
        println!("{t:?}");
    }
    for v in ["deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "starcoder"] {
        let model =
            block_on(Checkpoint::open(&shared(&format!("data/tokenizers/ggml-vocab-{v}.gguf")).unwrap())).unwrap();
        println!(
            "{v} {} {} {:?} {:?} {:?}",
            model.metadata.len(),
            model.tensors.len(),
            model.metadata.get_str("general.architecture"),
            model.metadata.get_strings("tokenizer.ggml.tokens").unwrap().unwrap().len(),
            model.metadata.get_strings("tokenizer.ggml.merges").unwrap().map(|m| m.len())
        );
    }
}
