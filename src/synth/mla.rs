//! Attention over latent keys (DeepSeek's MLA): its sizes, its tensors and keys, and the shapes of the models that have
//! it.

use super::List;
use super::random::Values;
use super::shape::{Experts, Key, Routing, Shape};
use super::shapes::LLAMA;
use serde_json::Value as Json;

/// Sizes of multi-head latent attention. A query head has `qk_nope_head_dim + qk_rope_head_dim` values.
#[derive(Clone, Copy, Debug)]
pub struct MlaShape {
    /// Rank of the two query matrices; `None`: one full matrix.
    pub q_lora_rank: Option<usize>,
    /// Size of the latent part, from which keys and values are computed.
    pub kv_lora_rank: usize,
    /// Rotated values of a key.
    pub qk_rope_head_dim: usize,
    /// Values of a key head that are not rotated.
    pub qk_nope_head_dim: usize,
    /// Size of a value head.
    pub v_head_dim: usize,
}

/// Like DeepSeek V2: queries of one matrix as in the Lite model, groups as in the large one.
pub const DEEPSEEK2: Shape = Shape {
    name: "tiny-deepseek2",
    arch: "deepseek2",
    hf_class: "DeepseekV2ForCausalLM",
    layers: 2,
    heads: 4,
    kv_heads: 1,
    head_dim: 64,
    mla: Some(MlaShape {
        q_lora_rank: None,
        kv_lora_rank: 64,
        qk_rope_head_dim: 32,
        qk_nope_head_dim: 32,
        v_head_dim: 48,
    }),
    experts: Some(Experts {
        shared: true,
        leading_dense: 1,
        routing: Some(Routing { scoring: Some(1), bias: false, groups: (4, 2), norm: false }),
        ..Experts::plain(8, 3, 256)
    }),
    keys: &[("leading_dense_block_count", Key::U32(1)), ("expert_weights_scale", Key::F32(2.0))],
    ..LLAMA
};

/// Like DeepSeek V3.
pub const DEEPSEEK3: Shape = Shape {
    name: "tiny-deepseek3",
    hf_class: "DeepseekV3ForCausalLM",
    mla: Some(MlaShape {
        q_lora_rank: Some(64),
        kv_lora_rank: 128,
        qk_rope_head_dim: 16,
        qk_nope_head_dim: 48,
        v_head_dim: 32,
    }),
    experts: Some(Experts {
        shared: true,
        leading_dense: 1,
        routing: Some(Routing { scoring: Some(2), bias: true, groups: (4, 2), norm: true }),
        ..Experts::plain(16, 3, 128)
    }),
    keys: &[
        ("leading_dense_block_count", Key::U32(1)),
        ("expert_weights_scale", Key::F32(2.5)),
        ("rope.scaling.type", Key::Str("yarn")),
        ("rope.scaling.factor", Key::F32(8.0)),
        ("rope.scaling.original_context_length", Key::U32(128)),
        ("rope.scaling.yarn_beta_fast", Key::F32(8.0)),
        ("rope.scaling.yarn_beta_slow", Key::F32(1.0)),
        ("rope.scaling.yarn_log_multiplier", Key::F32(0.1)),
    ],
    ..DEEPSEEK2
};

/// Like GLM 4.7 Flash: no key says how its routers score.
pub const GLM4_FLASH: Shape = Shape {
    name: "tiny-glm4-flash",
    hf_class: "Glm4MoeLiteForCausalLM",
    mla: Some(MlaShape {
        q_lora_rank: Some(96),
        kv_lora_rank: 96,
        qk_rope_head_dim: 32,
        qk_nope_head_dim: 32,
        v_head_dim: 64,
    }),
    experts: Some(Experts {
        shared: true,
        leading_dense: 1,
        routing: Some(Routing { scoring: None, bias: true, groups: (1, 1), norm: true }),
        ..Experts::plain(8, 2, 256)
    }),
    keys: &[("leading_dense_block_count", Key::U32(1)), ("expert_weights_scale", Key::F32(1.8))],
    ..DEEPSEEK2
};

/// The attention of a block.
pub(super) fn attention(list: &mut List, s: &Shape, l: MlaShape, name: impl Fn(&str) -> String) {
    let around_1 = || Values::Normal { mean: 1.0, std: 0.2 };
    let queries = s.heads * (l.qk_nope_head_dim + l.qk_rope_head_dim);
    match l.q_lora_rank {
        None => drop(list.matrix(name("attn_q"), s.hidden, queries, 1.5)),
        Some(rank) => {
            list.matrix(name("attn_q_a"), s.hidden, rank, 1.0);
            list.weights(name("attn_q_a_norm"), rank, around_1());
            list.matrix(name("attn_q_b"), rank, queries, 1.5);
        }
    }
    list.matrix(name("attn_kv_a_mqa"), s.hidden, l.kv_lora_rank + l.qk_rope_head_dim, 1.5);
    list.weights(name("attn_kv_a_norm"), l.kv_lora_rank, around_1());
    // It is applied to queries, but its gain is that of a matrix from latent values to keys.
    let gain = 1.5 * (l.qk_nope_head_dim as f32 / l.kv_lora_rank as f32).sqrt();
    list.matrix(name("attn_k_b"), l.qk_nope_head_dim, l.kv_lora_rank, gain).dims.push(s.heads as u64);
    list.matrix(name("attn_v_b"), l.kv_lora_rank, l.v_head_dim, 1.0).dims.push(s.heads as u64);
    list.matrix(name("attn_output"), s.heads * l.v_head_dim, s.hidden, 1.5);
}

/// The GGUF keys of these sizes.
pub(super) fn keys(l: MlaShape) -> Vec<(&'static str, usize)> {
    let mut keys = vec![
        ("attention.kv_lora_rank", l.kv_lora_rank),
        ("attention.key_length", l.kv_lora_rank + l.qk_rope_head_dim),
        ("attention.value_length", l.kv_lora_rank),
        ("attention.key_length_mla", l.qk_nope_head_dim + l.qk_rope_head_dim),
        ("attention.value_length_mla", l.v_head_dim),
        ("rope.dimension_count", l.qk_rope_head_dim),
    ];
    keys.extend(l.q_lora_rank.map(|rank| ("attention.q_lora_rank", rank)));
    keys
}

/// A checkpoint's `kv_b_proj`: for each head the transposed matrix of `attn_k_b`, then that of `attn_v_b`. `bytes` is
/// the size of a number.
pub(super) fn joined(keys: &[u8], values: &[u8], s: &Shape, l: MlaShape, bytes: usize) -> Vec<u8> {
    let heads = keys.chunks_exact(keys.len() / s.heads).zip(values.chunks_exact(values.len() / s.heads));
    let mut out = Vec::with_capacity(keys.len() + values.len());
    for (keys, values) in heads {
        let number = |i: usize, r: usize| &keys[(r * l.qk_nope_head_dim + i) * bytes..][..bytes];
        out.extend((0..l.qk_nope_head_dim).flat_map(|i| (0..l.kv_lora_rank).flat_map(move |r| number(i, r))));
        out.extend_from_slice(values);
    }
    out
}

/// The `config.json` settings of these sizes, without YaRN.
pub(super) fn settings(s: &Shape, l: MlaShape, config: &mut Json) {
    let Some((e, r)) = s.experts.and_then(|e| Some((e, e.routing?))) else { return };
    for (setting, n) in [
        ("num_key_value_heads", s.heads),
        ("head_dim", l.qk_rope_head_dim),
        ("kv_lora_rank", l.kv_lora_rank),
        ("qk_rope_head_dim", l.qk_rope_head_dim),
        ("qk_nope_head_dim", l.qk_nope_head_dim),
        ("v_head_dim", l.v_head_dim),
        ("first_k_dense_replace", e.leading_dense),
        ("n_routed_experts", e.count),
        ("n_shared_experts", 1),
        ("n_group", r.groups.0 as usize),
        ("topk_group", r.groups.1 as usize),
    ] {
        config[setting] = n.into();
    }
    config["q_lora_rank"] = l.q_lora_rank.into();
    config["norm_topk_prob"] = r.norm.into();
    config["topk_method"] = "group_limited_greedy".into();
}
