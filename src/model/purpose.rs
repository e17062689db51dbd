//! Recognizes files that hold no language model (a projector, an adapter, an importance matrix, a vocabulary, an
//! encoder) by `general.type` or by architecture, and explains what they are for.

use crate::checkpoint::{Checkpoint, Metadata};
use crate::{Error, Result};

/// Architectures that compute embeddings, or rank texts.
const ENCODERS: &[&str] = &[
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llama-embed",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "t5encoder",
];

/// Architectures of draft models for speculative decoding.
const DRAFTS: &[&str] = &["dflash", "eagle3", "gemma4-assistant"];

const PROJECTOR: &str = "this file is a projector (mmproj): it turns images or sound into input for a language model, \
    but holds no language model; open the language model's GGUF file";
const ADAPTER: &str = "this file is an adapter (LoRA) for another model, and Firelight does not apply adapters yet; \
    open a model into which the adapter was merged, or the base model without it";
const CONTROL_VECTOR: &str = "this file is a control vector for another model, and Firelight does not apply them; open \
    the model itself";
const IMATRIX: &str = "this file is an importance matrix (imatrix) for quantization tools, without weights; open the \
    model that it was measured on";
const VOCABULARY: &str = "this file holds a vocabulary without weights: `tokenize` and `template` can use it; to run a \
    model, open a file with weights";
const ENCODER: &str = "this file is an encoder: it computes embeddings or ranks texts, but does not generate text; \
    Firelight runs generative language models";
const DRAFT: &str = "this file is a draft model for speculative decoding, which Firelight does not support yet; open \
    the larger model";

/// Refuses a file that holds no language model.
///
/// # Errors
/// [`Error::Unsupported`], with the file's purpose and the file to open instead.
pub fn check(checkpoint: &Checkpoint) -> Result<()> {
    match other_purpose(checkpoint)? {
        Some(purpose) => Err(Error::Unsupported(purpose.into())),
        None => Ok(()),
    }
}

fn other_purpose(checkpoint: &Checkpoint) -> Result<Option<&'static str>> {
    let Checkpoint { metadata, tensors, .. } = checkpoint;
    let architecture = metadata.get_str("general.architecture")?.unwrap_or_default();
    let of_type = match metadata.get_str("general.type")?.unwrap_or_default() {
        "mmproj" => Some(PROJECTOR),
        "adapter" => Some(ADAPTER),
        "imatrix" => Some(IMATRIX),
        "vocab" => Some(VOCABULARY),
        // Older files have no type.
        _ if metadata.get("adapter.type").is_some() => Some(ADAPTER),
        _ => None,
    };
    let of_architecture = match architecture {
        "clip" => Some(PROJECTOR),
        "controlvector" => Some(CONTROL_VECTOR),
        name if ENCODERS.contains(&name) => Some(ENCODER),
        name if DRAFTS.contains(&name) => Some(DRAFT),
        _ => None,
    };
    let of_content = || {
        let predicts_only = metadata.get(&format!("{architecture}.nextn_predict_layers")).is_some()
            && !tensors.keys().any(|name| name.starts_with("blk.0."));
        match () {
            () if tensors.is_empty() => Some(VOCABULARY),
            () if reads_both_ways(metadata, architecture) => Some(ENCODER),
            () if predicts_only => Some(DRAFT),
            () => None,
        }
    };
    Ok(of_type.or(of_architecture).or_else(of_content))
}

/// Whether attention is bidirectional.
fn reads_both_ways(metadata: &Metadata, architecture: &str) -> bool {
    metadata.get_bool(&format!("{architecture}.attention.causal")).ok().flatten() == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{GgufValue, GgufWriter, Source};
    use crate::dtype::DType;
    use pollster::block_on;

    fn refusal(keys: &[(&str, GgufValue)], tensors: &[&str]) -> Option<&'static str> {
        let mut metadata = Metadata::new();
        keys.iter().for_each(|(key, value)| drop(metadata.insert(*key, value.clone())));
        let mut writer = GgufWriter::new(metadata).unwrap();
        tensors.iter().for_each(|name| writer.tensor(*name, &[4], DType::F32).unwrap());
        let mut file = Vec::new();
        writer.write(&mut file, |_, out| out.write_all(&[0; 16])).unwrap();
        let checkpoint = block_on(Checkpoint::from_sources(vec![Source::bytes("test", file)])).unwrap();
        other_purpose(&checkpoint).unwrap()
    }

    #[test]
    fn files_say_what_they_are_for() {
        let arch = |name: &str| ("general.architecture", GgufValue::from(name));
        let kind = |name: &str| ("general.type", GgufValue::from(name));
        let weights = &["blk.0.attn_q.weight"][..];
        for (keys, tensors, purpose) in [
            (vec![arch("clip"), kind("mmproj")], &["v.patch_embd.weight"][..], Some(PROJECTOR)),
            (vec![arch("clip")], &["v.patch_embd.weight"], Some(PROJECTOR)),
            (vec![arch("llama"), kind("adapter")], &["blk.0.attn_q.weight.lora_a"], Some(ADAPTER)),
            (vec![arch("llama"), ("adapter.type", "lora".into())], &["blk.0.attn_q.weight.lora_a"], Some(ADAPTER)),
            (vec![kind("imatrix")], &["blk.0.attn_q.weight.in_sum2"], Some(IMATRIX)),
            (vec![arch("controlvector")], &["direction.1"], Some(CONTROL_VECTOR)),
            (vec![arch("llama"), kind("vocab")], &[], Some(VOCABULARY)),
            (vec![arch("llama"), kind("model")], &[], Some(VOCABULARY)),
            (vec![arch("nomic-bert"), kind("model")], weights, Some(ENCODER)),
            (vec![arch("qwen2"), ("qwen2.attention.causal", false.into())], weights, Some(ENCODER)),
            (vec![arch("qwen2"), ("qwen2.attention.causal", true.into())], weights, None),
            (vec![arch("eagle3")], weights, Some(DRAFT)),
            (
                vec![arch("qwen35"), ("qwen35.nextn_predict_layers", 1u32.into())],
                &["blk.9.nextn.eh_proj.weight"],
                Some(DRAFT),
            ),
            (vec![arch("qwen35"), ("qwen35.nextn_predict_layers", 1u32.into())], weights, None),
            (vec![arch("llama"), kind("model")], weights, None),
            (vec![arch("llama")], weights, None),
        ] {
            assert_eq!(refusal(&keys, tensors), purpose, "{keys:?}");
        }
    }
}
