//! Attention over latent keys (DeepSeek's MLA): its sizes, its tensors and keys, and the shapes of the models that have
//! it.

use super::List;
use super::random::Values;
use super::shape::{Experts, Key, Routing, Shape};
use super::shapes::LLAMA;
use serde_json::Value as Json;

/// Sizes of attention over latent keys. A head of queries has `plain + rotated` values.
#[derive(Clone, Copy, Debug)]
pub struct Latent {
    /// Values between the two matrices of queries; with none there is one matrix.
    pub query_rank: Option<usize>,
    /// Values of the latent part, of which keys and values are made.
    pub rank: usize,
    /// Values of a key that are rotated.
    pub rotated: usize,
    /// Values of a key's head that are not.
    pub plain: usize,
    /// Values of a value's head.
    pub value: usize,
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
    latent: Some(Latent { query_rank: None, rank: 64, rotated: 32, plain: 32, value: 48 }),
    experts: Some(Experts {
        shared: true,
        lead: 1,
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
    latent: Some(Latent { query_rank: Some(64), rank: 128, rotated: 16, plain: 48, value: 32 }),
    experts: Some(Experts {
        shared: true,
        lead: 1,
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
    latent: Some(Latent { query_rank: Some(96), rank: 96, rotated: 32, plain: 32, value: 64 }),
    experts: Some(Experts {
        shared: true,
        lead: 1,
        routing: Some(Routing { scoring: None, bias: true, groups: (1, 1), norm: true }),
        ..Experts::plain(8, 2, 256)
    }),
    keys: &[("leading_dense_block_count", Key::U32(1)), ("expert_weights_scale", Key::F32(1.8))],
    ..DEEPSEEK2
};

/// The attention of a block.
pub(super) fn attention(list: &mut List, s: &Shape, l: Latent, name: impl Fn(&str) -> String) {
    let around_1 = || Values::Normal { mean: 1.0, std: 0.2 };
    let queries = s.heads * (l.plain + l.rotated);
    match l.query_rank {
        None => drop(list.matrix(name("attn_q"), s.hidden, queries, 1.5)),
        Some(rank) => {
            list.matrix(name("attn_q_a"), s.hidden, rank, 1.0);
            list.weights(name("attn_q_a_norm"), rank, around_1());
            list.matrix(name("attn_q_b"), rank, queries, 1.5);
        }
    }
    list.matrix(name("attn_kv_a_mqa"), s.hidden, l.rank + l.rotated, 1.5);
    list.weights(name("attn_kv_a_norm"), l.rank, around_1());
    // It stands behind queries, but as a matrix from latent values to keys it should have that gain.
    let gain = 1.5 * (l.plain as f32 / l.rank as f32).sqrt();
    list.matrix(name("attn_k_b"), l.plain, l.rank, gain).dims.push(s.heads as u64);
    list.matrix(name("attn_v_b"), l.rank, l.value, 1.0).dims.push(s.heads as u64);
    list.matrix(name("attn_output"), s.heads * l.value, s.hidden, 1.5);
}

/// The keys that say so.
pub(super) fn keys(l: Latent) -> Vec<(&'static str, usize)> {
    let mut keys = vec![
        ("attention.kv_lora_rank", l.rank),
        ("attention.key_length", l.rank + l.rotated),
        ("attention.value_length", l.rank),
        ("attention.key_length_mla", l.plain + l.rotated),
        ("attention.value_length_mla", l.value),
        ("rope.dimension_count", l.rotated),
    ];
    keys.extend(l.query_rank.map(|rank| ("attention.q_lora_rank", rank)));
    keys
}

/// Where each matrix of `attn_k_b` and of `attn_v_b` lies in a checkpoint, which has both in one, those of keys turned
/// around: the whole of it, of numbers of so many bytes.
pub(super) fn joined(keys: &[u8], values: &[u8], s: &Shape, l: Latent, bytes: usize) -> Vec<u8> {
    let heads = keys.chunks_exact(keys.len() / s.heads).zip(values.chunks_exact(values.len() / s.heads));
    let mut out = Vec::with_capacity(keys.len() + values.len());
    for (keys, values) in heads {
        let number = |i: usize, r: usize| &keys[(r * l.plain + i) * bytes..][..bytes];
        out.extend((0..l.plain).flat_map(|i| (0..l.rank).flat_map(move |r| number(i, r))));
        out.extend_from_slice(values);
    }
    out
}

/// The settings of a checkpoint, but for its YaRN.
pub(super) fn settings(s: &Shape, l: Latent, config: &mut Json) {
    let Some((e, r)) = s.experts.and_then(|e| Some((e, e.routing?))) else { return };
    for (setting, n) in [
        ("num_key_value_heads", s.heads),
        ("head_dim", l.rotated),
        ("kv_lora_rank", l.rank),
        ("qk_rope_head_dim", l.rotated),
        ("qk_nope_head_dim", l.plain),
        ("v_head_dim", l.value),
        ("first_k_dense_replace", e.lead),
        ("n_routed_experts", e.count),
        ("n_shared_experts", 1),
        ("n_group", r.groups.0 as usize),
        ("topk_group", r.groups.1 as usize),
    ] {
        config[setting] = n.into();
    }
    config["q_lora_rank"] = l.query_rank.into();
    config["norm_topk_prob"] = r.norm.into();
    config["topk_method"] = "group_limited_greedy".into();
}
