//! Synthetic models: published sizes, the stated types, plausible weights, and the files of the golden logits.

use firelight::checkpoint::{Checkpoint, Source};
use firelight::dtype::DType;
use firelight::synth;
use pollster::block_on;
use serde_json::Value;
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

/// The file of a shape and its types, truncated after `limit` bytes.
fn file(shape: &str, types: &str, limit: usize) -> Vec<u8> {
    struct Limited(Vec<u8>, usize);
    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.1 - self.0.len());
            self.0.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Limited(Vec::new(), limit);
    let written = synth::write(shape, types, &mut out);
    assert!(written.is_ok() || out.0.len() == limit, "{shape} {types}: {written:?}");
    out.0
}

fn whole(shape: &str, types: &str) -> Checkpoint {
    block_on(Checkpoint::from_sources(vec![Source::bytes(shape, file(shape, types, usize::MAX))])).unwrap()
}

/// The tensor table of a model that is too large for a test.
fn head(shape: &str, types: &str) -> Checkpoint {
    let mut bytes = file(shape, types, 8 << 20);
    bytes.resize(64 << 20, 0);
    let read = move |range: std::ops::Range<u64>| -> firelight::checkpoint::ReadFuture {
        Box::pin(std::future::ready(Ok(bytes[range.start as usize..range.end as usize].to_vec())))
    };
    block_on(Checkpoint::from_sources(vec![Source::new(shape, 1 << 50, read)])).unwrap()
}

#[test]
fn published_models_have_their_published_sizes() {
    for (shape, parameters) in [
        ("smollm2-135m", 134_515_008),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.1-8b", 8_030_261_248),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-30b-a3b", 30_532_122_624u64),
    ] {
        let model = head(shape, "Q4_K_M");
        let weights = model.tensors.values().filter(|t| t.name != "rope_freqs.weight");
        assert_eq!(weights.map(|t| t.dims.iter().product::<u64>()).sum::<u64>(), parameters, "{shape}");
        assert_eq!(model.metadata.get_str("general.name").unwrap(), Some(shape));
        let vocab = model.tensor("token_embd.weight").unwrap().dims[1];
        assert_eq!(model.metadata.get_strings("tokenizer.ggml.tokens").unwrap().unwrap().len() as u64, vocab);
    }
}

#[test]
fn tensors_have_the_stated_types() {
    use DType::*;
    for (shape, types, tensor, dtype) in [
        ("tiny-llama", "F16", "token_embd.weight", F16),
        ("tiny-llama", "BF16", "output.weight", BF16),
        ("tiny-llama", "F16", "blk.0.attn_norm.weight", F32),
        ("tiny-llama3", "Q4_0", "rope_freqs.weight", F32),
        ("tiny-qwen2", "Q8_0", "blk.1.attn_q.bias", F32),
        ("tiny-qwen2", "Q8_0", "blk.1.attn_q.weight", Q8_0),
        ("tiny-qwen3", "MXFP4", "blk.1.attn_k_norm.weight", F32),
        ("tiny-qwen3moe", "IQ4_XS", "blk.0.ffn_gate_inp.weight", F32),
        ("tiny-qwen3moe", "IQ4_XS", "blk.0.ffn_down_exps.weight", IQ4XS),
        // Rows that are not whole blocks.
        ("tiny-odd", "Q4_K", "blk.0.ffn_down.weight", F16),
        ("smollm2-135m", "Q3_K", "token_embd.weight", IQ4NL),
        ("smollm2-135m", "Q4_K", "token_embd.weight", Q5_0),
        ("smollm2-135m", "Q5_K", "token_embd.weight", Q5_1),
        ("smollm2-135m", "Q6_K", "token_embd.weight", Q8_0),
        ("smollm2-135m", "IQ2_XXS", "token_embd.weight", IQ4NL),
        ("smollm2-135m", "TQ1_0", "token_embd.weight", Q4_0),
        ("smollm2-135m", "TQ1_0", "blk.0.ffn_down.weight", TQ1_0),
        ("smollm2-135m", "Q6_K", "blk.0.ffn_down.weight", Q6K),
        // The mix: the head, and the layers whose value and down projections get more bits.
        ("llama-3.1-8b", "Q4_K_M", "output.weight", Q6K),
        ("llama-3.1-8b", "Q4_K_M", "token_embd.weight", Q4K),
        ("llama-3.2-1b", "Q4_K_M", "token_embd.weight", Q6K),
        ("llama-3.1-8b", "Q4_K_M", "blk.3.ffn_down.weight", Q6K),
        ("llama-3.1-8b", "Q4_K_M", "blk.4.ffn_down.weight", Q4K),
        ("llama-3.1-8b", "Q4_K_M", "blk.6.attn_v.weight", Q6K),
        ("llama-3.1-8b", "Q4_K_M", "blk.31.attn_v.weight", Q6K),
        ("llama-3.1-8b", "Q4_K_M", "blk.31.ffn_up.weight", Q4K),
        ("tiny-mixtral", "Q4_K_M", "blk.0.attn_v.weight", Q8_0),
        ("tiny-mixtral", "Q4_K_M", "blk.1.attn_output.weight", Q5K),
    ] {
        assert_eq!(head(shape, types).tensor(tensor).unwrap().dtype, dtype, "{shape} {types} {tensor}");
    }
}

#[test]
fn weights_have_the_intended_deviation_in_every_type() {
    for dtype in DType::ALL {
        let model = whole("tiny-llama3", dtype.name());
        let tensor = model.tensor("blk.0.ffn_gate.weight").unwrap();
        assert_eq!((tensor.dtype, &tensor.dims[..]), (dtype, &[256, 512][..]));
        let bytes = block_on(model.read(tensor, 0..tensor.bytes())).unwrap();
        let mut weights = vec![0.0; 256 * 512];
        dtype.dequantize(&bytes, &mut weights);
        let mean = weights.iter().sum::<f32>() / weights.len() as f32;
        let std = (weights.iter().map(|w| (w - mean).powi(2)).sum::<f32>() / weights.len() as f32).sqrt();
        // The gain is 1.5, the row length 256.
        assert!(mean.abs() < 0.01 && (std / (1.5 / 16.0) - 1.0).abs() < 0.1, "{dtype:?}: mean {mean}, std {std}");
    }
}

#[test]
fn rows_of_a_large_vocabulary_differ() {
    for types in ["F16", "Q4_0"] {
        // The embedding comes first in the file, and has more weights than the generator's pool.
        let limit = 60 << 20;
        let bytes = file("smollm2-135m", types, limit);
        let model = head("smollm2-135m", types);
        let tensor = model.tensor("token_embd.weight").unwrap();
        let span = &tensor.parts[0];
        let (start, row) = (span.offset as usize, tensor.row_bytes() as usize);
        let rows: HashSet<&[u8]> = bytes[start..start + span.bytes as usize].chunks(row).collect();
        assert_eq!(rows.len(), 49152, "{types}");
    }
}

#[test]
fn hf_folders_contain_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    // A row of the checkpoint's tensor, and the row of the GGUF tensor that must equal it.
    for (shape, hf_name, hf_row, gguf_name, gguf_row) in [
        ("tiny-llama", "model.embed_tokens.weight", 271, "token_embd.weight", 271),
        ("tiny-llama", "model.layers.1.self_attn.q_proj.weight", 1, "blk.1.attn_q.weight", 2),
        ("tiny-llama", "model.layers.1.self_attn.q_proj.weight", 16, "blk.1.attn_q.weight", 1),
        ("tiny-llama", "model.layers.1.self_attn.k_proj.weight", 32 + 17, "blk.1.attn_k.weight", 32 + 3),
        ("tiny-llama", "model.layers.1.self_attn.v_proj.weight", 16, "blk.1.attn_v.weight", 16),
        ("tiny-qwen3", "model.layers.0.self_attn.q_proj.weight", 16, "blk.0.attn_q.weight", 16),
        ("tiny-mixtral", "model.layers.0.block_sparse_moe.experts.3.w2.weight", 5, "blk.0.ffn_down_exps.weight", 773),
        ("tiny-qwen3moe", "model.layers.1.mlp.experts.7.up_proj.weight", 9, "blk.1.ffn_up_exps.weight", 1801),
    ] {
        let folder = dir.path().join(shape);
        synth::write_hf(shape, "BF16", &folder).unwrap();
        let ours = whole(shape, "BF16");
        let tensor = ours.tensor(gguf_name).unwrap();
        let row = tensor.row_bytes();
        let want = block_on(ours.read(tensor, gguf_row * row..(gguf_row + 1) * row)).unwrap();
        let file = std::fs::read(folder.join("model.safetensors")).unwrap();
        let data = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&file[8..data]).unwrap();
        assert_eq!(header[hf_name]["shape"][1], tensor.dims[0]);
        let at = data + header[hf_name]["data_offsets"][0].as_u64().unwrap() as usize + hf_row * row as usize;
        assert_eq!(file[at..at + row as usize], want, "{shape} {hf_name}");
    }
    assert!(synth::write_hf("tiny-llama", "Q4_0", dir.path()).unwrap_err().to_string().contains("GGUF"));
}

#[test]
fn hf_folders_open_as_the_same_models() {
    let dir = tempfile::tempdir().unwrap();
    // Delta nets store heads in another order and under other names; the golden logits test them.
    let same = |s: &&synth::Shape| s.name.starts_with("tiny") && !s.hf_class.is_empty() && s.delta_net.is_none();
    for shape in synth::SHAPES.iter().filter(same) {
        let folder = dir.path().join(shape.name);
        synth::write_hf(shape.name, "F32", &folder).unwrap();
        let (theirs, ours) = (block_on(Checkpoint::open(&folder)).unwrap(), whole(shape.name, "F32"));
        for (key, value) in ours.metadata.iter().filter(|(key, _)| key.starts_with(shape.arch)) {
            // The translation of a folder may have other integer widths, and may omit optional keys.
            let Some(other) = theirs.metadata.get(key) else { continue };
            assert_eq!(format!("{other:?}"), format!("{value:?}"), "{} {key}", shape.name);
        }
        let weights = || ours.tensors.values().filter(|t| !t.name.starts_with("rope_f"));
        // Rows are permuted, or the stored values are smaller by one.
        let moved = |name: &str| {
            let rows = ["attn_q.weight", "attn_k.weight"].iter().any(|end| name.ends_with(end));
            rows || (shape.arch.starts_with("gemma") && name.contains("norm"))
        };
        for tensor in weights() {
            let other = theirs.tensor(&tensor.name).unwrap();
            assert_eq!((&other.dims, other.dtype), (&tensor.dims, tensor.dtype), "{} {}", shape.name, tensor.name);
            if !moved(&tensor.name) {
                let read = |c: &Checkpoint, t| block_on(c.read(t, 0..tensor.bytes())).unwrap();
                assert!(read(&theirs, other) == read(&ours, tensor), "{} {}", shape.name, tensor.name);
            }
        }
        assert_eq!(theirs.tensors.len(), weights().count());
        let Some(factors) = ours.tensors.get("rope_freqs.weight") else { continue };
        let bytes = block_on(ours.read(factors, 0..factors.bytes())).unwrap();
        let factors: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let key = format!("{}.rope.freq_factors", shape.arch);
        let theirs = theirs.metadata.get_f32s(&key).unwrap().unwrap();
        assert!(factors.iter().zip(&theirs).all(|(a, b)| (a / b - 1.0).abs() < 1e-5), "{factors:?} {theirs:?}");
    }
}

#[test]
fn the_golden_files_belong_to_these_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let goldens: Value = serde_json::from_slice(&std::fs::read(folder.join("goldens.json")).unwrap()).unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let (shape, types) = (case["shape"].as_str().unwrap(), case["types"].as_str().unwrap());
        assert_eq!(u64::from(crc32(&file(shape, types, usize::MAX))), case["crc32"], "{shape} {types} has changed");
        for (key, rows, size) in [("short", 40, 4), ("long", 300, 2)] {
            let Some(name) = case[key].as_str() else { continue };
            let bytes = std::fs::metadata(folder.join(name)).unwrap().len();
            assert_eq!(bytes, rows * size * case["vocab"].as_u64().unwrap(), "{name}");
        }
    }
}

/// The checksum of zip files and Python's zlib.
fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] =
        std::array::from_fn(|i| (0..8).fold(i as u32, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 }));
    !bytes.iter().fold(!0, |c, &b| table[((c ^ u32::from(b)) & 0xff) as usize] ^ (c >> 8))
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    for (shape, types, says) in [("gpt-5", "F32", "tiny-llama3"), ("tiny-llama", "Q9_K", "Q4_K_M")] {
        let message = synth::write(shape, types, &mut io::sink()).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}
