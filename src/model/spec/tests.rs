//! Descriptions of every tiny shape's spec, and specs of malformed or unusual files, without a graph or a GPU.

use super::*;
use crate::checkpoint::{GgufWriter, Metadata, Source};
use crate::dtype::DType;
use crate::graph::Op;
use crate::model::arch::{self, Arch, NormKind};
use crate::model::decoder::{Recording, record};
use crate::synth;
use pollster::block_on;

/// A file of these tensors, all ones.
fn file(metadata: &Metadata, tensors: &[(String, Vec<u64>)]) -> Checkpoint {
    let mut writer = GgufWriter::new(metadata.clone()).unwrap();
    tensors.iter().for_each(|(name, dims)| writer.tensor(name.clone(), dims, DType::F32).unwrap());
    let mut bytes = Vec::new();
    let ones = |n: u64| 1f32.to_le_bytes().repeat(n as usize / 4);
    writer.write(&mut bytes, |info, out| out.write_all(&ones(info.bytes()))).unwrap();
    block_on(Checkpoint::from_sources(vec![Source::bytes("test", bytes)])).unwrap()
}

fn shape(name: &str) -> Checkpoint {
    changed(name, |_, _| {})
}

/// The keys and tensors of a shape, changed.
fn changed(name: &str, change: impl FnOnce(&mut Metadata, &mut Vec<(String, Vec<u64>)>)) -> Checkpoint {
    let (mut metadata, mut tensors) = synth::header(name).unwrap();
    change(&mut metadata, &mut tensors);
    file(&metadata, &tensors)
}

fn read(checkpoint: &Checkpoint) -> Result<ModelSpec> {
    block_on(ModelSpec::read(checkpoint))
}

fn refusal(checkpoint: &Checkpoint) -> String {
    read(checkpoint).unwrap_err().to_string()
}

/// The lines of `firelight info` about layers.
fn lines(spec: &ModelSpec) -> Vec<String> {
    spec.layer_kinds().into_iter().map(|(layers, kind)| format!("{layers}: {kind}")).collect()
}

#[test]
fn every_shape_is_understood() {
    let mut architectures = BTreeSet::new();
    for (name, kinds) in SHAPES {
        let spec = read(&shape(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(lines(&spec), *kinds, "{name}");

        architectures.insert(spec.arch.name);
    }
    let tiny = synth::SHAPES.iter().map(|shape| shape.name).filter(|name| name.starts_with("tiny"));
    let missing: Vec<_> = tiny.filter(|name| !SHAPES.iter().any(|(known, _)| known == name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(architectures, arch::ALL.iter().map(|arch| arch.name).collect());
}

const SHAPES: &[(&str, &[&str])] = &[
    ("tiny-llama", &["0-1: attention, 8 heads of 32, 4 KV heads; SwiGLU of 512; RMSNorm before"]),
    ("tiny-llama3", &["0-1: attention, 8 heads of 32, 2 KV heads; SwiGLU of 512; RMSNorm before"]),
    ("tiny-mistral", &["0-1: attention, 8 heads of 64, 2 KV heads; SwiGLU of 512; RMSNorm before"]),
    ("tiny-qwen2", &["0-1: attention, 4 heads of 64, 1 KV head, biases; SwiGLU of 768; RMSNorm before"]),
    ("tiny-qwen3", &["0-1: attention, 4 heads of 128, 2 KV heads, QK norm; SwiGLU of 512; RMSNorm before"]),
    (
        "tiny-qwen3moe",
        &["0-1: attention, 4 heads of 128, 1 KV head, QK norm; MoE, 4 of 8 experts of 256; RMSNorm before"],
    ),
    ("tiny-mixtral", &["0-1: attention, 8 heads of 32, 4 KV heads; MoE, 2 of 8 experts of 512; RMSNorm before"]),
    ("tiny-window", &["0-1: attention, 8 heads of 32, 4 KV heads, window of 24; SwiGLU of 512; RMSNorm before"]),
    (
        "tiny-gemma2",
        &[
            "0, 2: attention, 4 heads of 64, 2 KV heads, window of 20, softcap; GeGLU of 512; RMSNorm before and after",
            "1: attention, 4 heads of 64, 2 KV heads, softcap; GeGLU of 512; RMSNorm before and after",
        ],
    ),
    (
        "tiny-gemma3",
        &[
            "0-4, 6: attention, 4 heads of 64, 1 KV head, window of 20, QK norm; GeGLU of 512; RMSNorm before and \
             after",
            "5: attention, 4 heads of 64, 1 KV head, QK norm; GeGLU of 512; RMSNorm before and after",
        ],
    ),
    ("tiny-phi3", &["0-1: attention, 4 heads of 64, 2 KV heads, window of 150; SwiGLU of 512; RMSNorm before"]),
    ("tiny-olmo2", &["0-1: attention, 8 heads of 32, 4 KV heads, QK norm; SwiGLU of 512; RMSNorm after"]),
    (
        "tiny-smollm3",
        &[
            "0-2, 4: attention, 8 heads of 32, 4 KV heads; SwiGLU of 512; RMSNorm before",
            "3: attention, 8 heads of 32, 4 KV heads, NoPE; SwiGLU of 512; RMSNorm before",
        ],
    ),
    ("tiny-granite", &["0-1: attention, 8 heads of 32, 4 KV heads; SwiGLU of 512; RMSNorm before"]),
    (
        "tiny-mistral3",
        &["0-1: attention, 8 heads of 32, 4 KV heads, temperature tuning; SwiGLU of 512; RMSNorm before"],
    ),
    (
        "tiny-llama4",
        &[
            "0, 2, 4: attention, 4 heads of 64, 2 KV heads, chunks of 48, QK norm; SwiGLU of 512; RMSNorm before",
            "1: attention, 4 heads of 64, 2 KV heads, chunks of 48, QK norm; MoE, 1 of 8 experts of 256 + shared \
             expert of 256; RMSNorm before",
            "3: attention, 4 heads of 64, 2 KV heads, NoPE, temperature tuning, QK norm; MoE, 1 of 8 experts of 256 \
             + shared expert of 256; RMSNorm before",
        ],
    ),
    (
        "tiny-gpt-oss",
        &[
            "0, 2: attention, 8 heads of 64, 2 KV heads, window of 20, biases, sinks; MoE, 4 of 8 experts of 256; \
             RMSNorm before",
            "1: attention, 8 heads of 64, 2 KV heads, biases, sinks; MoE, 4 of 8 experts of 256; RMSNorm before",
        ],
    ),
    (
        "tiny-qwen35",
        &[
            "0-1, 3-4: gated delta net, 8 heads of 32, 4 key heads; SwiGLU of 512; RMSNorm before",
            "2: attention, 4 heads of 64, 2 KV heads, QK norm, gated; SwiGLU of 512; RMSNorm before",
        ],
    ),
    (
        "tiny-qwen35moe",
        &[
            "0, 2: gated delta net, 4 heads of 64, 4 key heads; MoE, 3 of 8 experts of 256 + shared expert of 256; \
             RMSNorm before",
            "1: attention, 4 heads of 64, 2 KV heads, QK norm, gated; MoE, 3 of 8 experts of 256 + shared expert of \
             256; RMSNorm before",
        ],
    ),
    (
        "tiny-qwen3next",
        &[
            "0-1: gated delta net, 6 heads of 32, 2 key heads; MoE, 3 of 8 experts of 256 + shared expert of 256; \
             RMSNorm before",
            "2: attention, 4 heads of 64, 2 KV heads, QK norm, gated; MoE, 3 of 8 experts of 256 + shared expert of \
             256; RMSNorm before",
        ],
    ),
    (
        "tiny-lfm2",
        &[
            "0, 2, 4: gated short convolution over 3; SwiGLU of 512; RMSNorm before",
            "1, 3: attention, 4 heads of 64, 2 KV heads, QK norm; SwiGLU of 512; RMSNorm before",
        ],
    ),
    (
        "tiny-gemma4",
        &[
            "0, 2: attention, 4 heads of 64, 2 KV heads, window of 20, QK norm; GeGLU of 512; RMSNorm before and \
             after; per-layer embedding",
            "1, 3: attention, 4 heads of 320, 2 KV heads, QK norm; GeGLU of 512; RMSNorm before and after; per-layer \
             embedding",
            "4, 6: attention, 4 heads of 64, 2 KV heads, window of 20, QK norm, KV cache of layer 2; GeGLU of 1024; \
             RMSNorm before and after; per-layer embedding",
            "5, 7: attention, 4 heads of 320, 2 KV heads, QK norm, KV cache of layer 3; GeGLU of 1024; RMSNorm \
             before and after; per-layer embedding",
        ],
    ),
    (
        "tiny-gemma4moe",
        &[
            "0-1: attention, 4 heads of 64, 2 KV heads, window of 20, QK norm; MoE, 2 of 8 experts of 256 + GeGLU of \
             512; RMSNorm before and after",
            "2: attention, 4 heads of 128, 1 KV head, QK norm, keys as values; MoE, 2 of 8 experts of 256 + GeGLU \
             of 512; RMSNorm before and after",
        ],
    ),
    (
        "tiny-starcoder2",
        &["0-1: attention, 8 heads of 32, 2 KV heads, window of 24, biases; GELU of 512; LayerNorm before"],
    ),
    ("tiny-odd", &["0-1: attention, 6 heads of 8, 3 KV heads; SwiGLU of 300; RMSNorm before"]),
    (
        "tiny-deepseek2",
        &[
            "0: MLA, 4 heads of 64, latent 64 + 32; SwiGLU of 512; RMSNorm before",
            "1: MLA, 4 heads of 64, latent 64 + 32; MoE, 3 of 8 experts of 256 + shared expert of 256; RMSNorm before",
        ],
    ),
    (
        "tiny-deepseek3",
        &[
            "0: MLA, 4 heads of 64, latent 128 + 16; SwiGLU of 512; RMSNorm before",
            "1: MLA, 4 heads of 64, latent 128 + 16; MoE, 3 of 16 experts of 128 + shared expert of 128; RMSNorm \
             before",
        ],
    ),
    (
        "tiny-glm4-flash",
        &[
            "0: MLA, 4 heads of 64, latent 96 + 32; SwiGLU of 512; RMSNorm before",
            "1: MLA, 4 heads of 64, latent 96 + 32; MoE, 2 of 8 experts of 256 + shared expert of 256; RMSNorm before",
        ],
    ),
];

#[test]
fn layers_are_listed_shortly() {
    use describe::numbers;
    assert_eq!(numbers(&[0, 1, 2, 3, 5]), "0-3, 5");
    assert_eq!(numbers(&[7]), "7");
    assert_eq!(numbers(&[0, 2, 4, 6, 8, 10]), "0, 2, 4, ..., 10");
}

/// Multipliers of logits: Granite's key divides, others multiply.
#[test]
fn logit_scales_multiply_or_divide() {
    let scale = |name: &str, key: &str| {
        let checkpoint = changed(name, |metadata, _| drop(metadata.insert(key, 4.0f32)));
        let OutputHead::Logits { scale, .. } = read(&checkpoint).unwrap().head;
        scale.scale
    };
    assert_eq!(scale("tiny-granite", "granite.logit_scale"), 0.25);
    assert_eq!(scale("tiny-llama", "llama.logit_scale"), 4.0);
}

/// `ssm_a` alone makes no delta net.
#[test]
fn mamba_is_refused_by_name() {
    let ssm = |parts: &[(&str, u64)]| -> Vec<(String, Vec<u64>)> {
        parts.iter().map(|(part, n)| (format!("blk.0.{part}"), vec![*n])).collect()
    };
    let mamba2 = [("ssm_in.weight", 4), ("ssm_a", 8), ("ssm_d", 8), ("ssm_dt.bias", 8), ("ssm_norm.weight", 8)];
    let mamba = [("ssm_in.weight", 4), ("ssm_a", 8), ("ssm_d", 8), ("ssm_x.weight", 8), ("ssm_dt.weight", 8)];
    for (parts, says) in [(mamba2, "have Mamba-2 layers"), (mamba, "have Mamba layers")] {
        // As a model that could have delta nets, as one that could not, and of an unknown architecture.
        for name in ["tiny-qwen35", "tiny-llama"] {
            let error = refusal(&changed(name, |_, tensors| {
                tensors.retain(|(name, _)| !name.starts_with("blk.0.ssm") && !name.starts_with("blk.0.attn_qkv"));
                tensors.extend(ssm(&parts));
            }));
            assert!(error.contains(says), "{name}: {error}");
        }
        let unknown = changed("tiny-llama", |metadata, tensors| {
            metadata.insert("general.architecture", "hybrid");
            tensors.extend(ssm(&parts));
        });
        let error = refusal(&unknown);
        assert!(error.contains("\"hybrid\" is not supported") && error.contains(says), "{error}");
    }
}

/// Tensors that no part reads, and parts whose tensors are not there.
#[test]
fn every_tensor_is_read() {
    let with = |name: &str, dims: &[u64]| {
        refusal(&changed("tiny-qwen3", |_, tensors| tensors.push((name.into(), dims.to_vec()))))
    };
    for name in ["odd.weight", "blk.1.odd.weight", "blk.1.attn_norm.bias", "blk.0.ffn_gate_inp_shexp.weight"] {
        assert!(with(name, &[256]).contains(&format!("not understood: {name}")), "{name}");
    }
    // A layer has one mixer; a second one is an error, not ignored.
    let both = changed("tiny-lfm2", |metadata, tensors| {
        tensors.push(("blk.0.attn_q.weight".into(), vec![256, 256]));
        metadata.insert("lfm2.attention.head_count_kv", 2u32);
    });
    assert!(refusal(&both).contains("not understood: blk.0.attn_q.weight"), "{}", refusal(&both));
    let without = |name: &str| refusal(&changed("tiny-qwen3", |_, all| all.retain(|(other, _)| other != name)));
    for name in ["blk.1.attn_q.weight", "blk.0.ffn_up.weight", "blk.1.attn_norm.weight", "output_norm.weight"] {
        assert!(without(name).contains(name), "{}", without(name));
    }
}

/// The architecture decides between RMSNorm and LayerNorm, not the presence of a bias.
#[test]
fn layer_norms_need_no_bias() {
    let checkpoint = changed("tiny-starcoder2", |_, tensors| tensors.retain(|(name, _)| !name.ends_with("_norm.bias")));
    let norm = read(&checkpoint).unwrap().output_norm;
    assert_eq!((norm.kind, norm.bias), (NormKind::Layer, None));
    assert_eq!(read(&shape("tiny-llama")).unwrap().output_norm.kind, NormKind::Rms);
}

/// Biases of fused matrices are parts of one vector.
#[test]
fn biases_are_fused_like_their_matrices() {
    let checkpoint = changed("tiny-phi3", |_, tensors| {
        let biases: Vec<_> = ["attn_qkv", "ffn_up"].map(|part| format!("blk.0.{part}.bias")).into();
        let rows =
            |name: &str| tensors.iter().find(|(other, _)| other == &name.replace("bias", "weight")).unwrap().1[1];
        let biases: Vec<_> = biases.iter().map(|name| (name.clone(), vec![rows(name)])).collect();
        tensors.extend(biases);
    });
    let spec = read(&checkpoint).unwrap();
    let attention = spec.attentions().next().unwrap();
    let KvSource::Own { k, v: Some(v), .. } = &attention.kv else { panic!("{attention:?}") };
    let rows = |linear: &LinearSpec| {
        let bias = linear.bias.as_ref().unwrap();
        assert_eq!(
            (linear.weight.tensor.rows.clone(), &bias.tensor.name[..]),
            (bias.tensor.rows.clone(), "blk.0.attn_qkv.bias")
        );
        bias.tensor.rows.clone()
    };
    assert_eq!([rows(&attention.q), rows(k), rows(v)], [0..256, 256..384, 384..512]);
    let Some(Ffn::Dense(dense)) = &spec.layers[0].ffn else { panic!("{:?}", spec.layers[0].ffn) };
    assert_eq!(dense.up.bias.as_ref().unwrap().tensor.rows, 512..1024);
}

/// Llama 4 Maverick has no norm after RoPE: a key says so, or else its 128 experts.
#[test]
fn maverick_has_no_norm_after_rope() {
    let normed = |experts: Option<u64>, key: Option<bool>| {
        let checkpoint = changed("tiny-llama4", |metadata, tensors| {
            key.map(|key| metadata.insert("llama4.attention.qk_norm", key));
            let Some(experts) = experts else { return };
            metadata.insert("llama4.expert_count", experts as u32);
            for (_, dims) in tensors.iter_mut().filter(|(name, _)| name.ends_with("_exps.weight")) {
                dims[2] = experts;
            }
            for (_, dims) in tensors.iter_mut().filter(|(name, _)| name.ends_with("ffn_gate_inp.weight")) {
                dims[1] = experts;
            }
        });
        read(&checkpoint).unwrap().attentions().all(|attention| attention.norm_after_rope.is_some())
    };
    let cases = [(None, None), (Some(128), None), (None, Some(false)), (Some(128), Some(true))];
    assert_eq!(cases.map(|(experts, key)| normed(experts, key)), [true, false, false, true]);
}

/// Only a layer with a KV cache can share it.
#[test]
fn shared_caches_exist() {
    let checkpoint =
        changed("tiny-qwen35", |metadata, _| drop(metadata.insert("qwen35.attention.shared_kv_layers", 3u32)));
    let error = refusal(&checkpoint);
    assert!(error.contains("of layer 1, which has none"), "{error}");
}

/// Layers without a mixer or a feed-forward network, where keys say so.
#[test]
fn branches_may_be_missing() {
    let checkpoint = changed("tiny-llama", |metadata, tensors| {
        metadata.insert("llama.attention.head_count_kv", vec![4u32, 0]);
        metadata.insert("llama.feed_forward_length", vec![0u32, 512]);
        tensors.retain(|(name, _)| !name.starts_with("blk.0.ffn") && !name.starts_with("blk.1.attn"));
    });
    let spec = read(&checkpoint).unwrap();
    let want = ["0: attention, 8 heads of 32, 4 KV heads; RMSNorm before", "1: SwiGLU of 512; RMSNorm before"];
    assert_eq!(lines(&spec), want);
    let graph = record(&spec, RECORDING).graph;
    let count = |is: fn(&Op) -> bool| graph.nodes.iter().filter(|node| is(node)).count();
    assert_eq!((count(|op| matches!(op, Op::Attention(..))), count(|op| matches!(op, Op::Glu(..)))), (1, 1));
}

const RECORDING: Recording = Recording { context: 64, sliding: false, resident_experts: None, output_head: true };

/// Cohere's block is data: LayerNorm without biases, one norm for both branches, NoPE in global layers, logits
/// multiplied.
#[test]
fn parallel_blocks_share_a_norm() {
    const COHERE: Arch = Arch {
        norm: NormKind::Layer,
        parallel: true,
        nope_interval: 4,
        local: arch::LocalAttention { global_interval: 4, ..arch::ALL[0].local },
        ..arch::ALL[0]
    };
    let checkpoint = changed("tiny-smollm3", |metadata, tensors| {
        // tiny-smollm3 has five layers; the keys of "llama" are those of the row above.
        let keys: Vec<_> = metadata.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        for (key, value) in keys.iter().filter(|(key, _)| key.starts_with("smollm3.")) {
            metadata.insert(key.replace("smollm3", "llama"), value.clone());
        }
        metadata.insert("llama.attention.sliding_window", 16u32);
        metadata.insert("llama.logit_scale", 0.0625f32);
        tensors.retain(|(name, _)| !name.ends_with("ffn_norm.weight"));
    });
    let read_tensors = Mutex::new(BTreeSet::new());
    let spec = block_on(ModelSpec::read_as(&checkpoint, &COHERE, &read_tensors)).unwrap();
    let local = "attention, 8 heads of 32, 4 KV heads, window of 16; SwiGLU of 512; one LayerNorm for both branches";
    let global = "attention, 8 heads of 32, 4 KV heads, NoPE; SwiGLU of 512; one LayerNorm for both branches";
    assert_eq!(lines(&spec), [format!("0-2, 4: {local}"), format!("3: {global}")]);
    let OutputHead::Logits { scale, .. } = &spec.head;
    assert_eq!(scale.scale, 0.0625);
    // Of each layer one norm is recorded; both branches read it.
    let graph = record(&spec, RECORDING).graph;
    let norms: Vec<_> = graph.nodes.iter().filter(|node| matches!(node, Op::LayerNorm(..))).collect();
    assert_eq!(norms.len(), 5 + 1);
    assert!(norms[..5].iter().all(|norm| graph.readers(norm.outputs()[0]) == 5), "q, k, v, gate and up");
}

/// Mixers side by side are summed (Falcon-H1).
#[test]
fn mixers_side_by_side_are_summed() {
    let mut spec = read(&shape("tiny-llama")).unwrap();
    let count = |spec: &ModelSpec| {
        let graph = record(spec, RECORDING).graph;
        let sums = graph.nodes.iter().filter(|node| matches!(node, Op::Add(..))).count();
        (sums, graph.nodes.iter().filter(|node| matches!(node, Op::Attention(..))).count())
    };
    assert_eq!(count(&spec), (4, 2));
    let mixers = &mut spec.layers[0].mixers;
    mixers.push(mixers[0].clone());
    assert_eq!(count(&spec), (5, 3));
}
