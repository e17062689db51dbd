//! Gated delta nets: sizes, tensors and keys, and their form in Hugging Face checkpoints.

use super::random::Values;
use super::shape::{Key, Shape};
use super::{List, SynthTensor};
use crate::quant_recipe::split_name;
use serde_json::Value as Json;

/// Sizes of gated delta nets.
#[derive(Clone, Copy, Debug)]
pub struct DeltaNetShape {
    /// Every n-th block has attention; the others have a delta net.
    pub every: usize,
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values.
    pub heads: usize,
    /// Length of one head.
    pub head_dim: usize,
    /// Kernel size of the short convolution.
    pub conv_kernel: usize,
    /// Value heads of a key head are adjacent, and their rates are in one tensor (Qwen3-Next).
    pub grouped: bool,
}

impl DeltaNetShape {
    /// Values of all heads.
    pub fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Channels of the short convolution: queries, keys and values.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.head_dim + self.inner()
    }
}

/// The delta net of a block, in place of its attention. Its state decays by a tenth to a half per row.
pub(super) fn net(list: &mut List, s: &Shape, d: DeltaNetShape, name: impl Fn(&str) -> String) {
    list.matrix(name("attn_qkv"), s.hidden, d.channels(), 1.0);
    list.matrix(name("attn_gate"), s.hidden, d.inner(), 1.0);
    let conv_kernel = Values::Normal { mean: 0.0, std: 0.7 };
    list.push(name("ssm_conv1d.weight"), vec![d.conv_kernel as u64, d.channels() as u64], conv_kernel);
    list.vector(name("ssm_dt.bias"), d.heads, Values::Normal { mean: 0.0, std: 0.5 });
    let rates = (0..d.heads).map(|head| -0.1 * (1 + head) as f32).collect();
    list.vector(name("ssm_a"), d.heads, Values::Given(rates));
    let rates: &[(&str, usize)] = if d.grouped { &[("ssm_ba", 2)] } else { &[("ssm_alpha", 1), ("ssm_beta", 1)] };
    for (part, each) in rates {
        list.matrix(name(part), s.hidden, each * d.heads, 1.0);
    }
    list.weights(name("ssm_norm"), d.head_dim, Values::Normal { mean: 1.0, std: 0.2 });
    list.matrix(name("ssm_out"), d.inner(), s.hidden, 3.0);
}

/// The GGUF keys of these sizes.
pub(super) fn keys(d: DeltaNetShape) -> [(&'static str, usize); 6] {
    [
        ("full_attention_interval", d.every),
        ("ssm.conv_kernel", d.conv_kernel),
        ("ssm.state_size", d.head_dim),
        ("ssm.group_count", d.key_heads),
        ("ssm.time_step_rank", d.heads),
        ("ssm.inner_size", d.inner()),
    ]
}

/// A checkpoint's name of a part, if it differs from other models'.
pub(super) fn hf_name(s: &Shape, part: &str) -> Option<&'static str> {
    let d = s.delta_net?;
    Some(match part {
        "attn_qkv" if d.grouped => "linear_attn.in_proj_qkvz.weight",
        "attn_qkv" => "linear_attn.in_proj_qkv.weight",
        "attn_gate" => "linear_attn.in_proj_z.weight",
        "ssm_conv1d" => "linear_attn.conv1d.weight",
        "ssm_dt" => "linear_attn.dt_bias",
        "ssm_a" => "linear_attn.A_log",
        "ssm_alpha" => "linear_attn.in_proj_a.weight",
        "ssm_beta" => "linear_attn.in_proj_b.weight",
        "ssm_ba" => "linear_attn.in_proj_ba.weight",
        "ssm_norm" => "linear_attn.norm.weight",
        "ssm_out" => "linear_attn.out_proj.weight",
        "ffn_gate_inp_shexp" => "mlp.shared_expert_gate.weight",
        "ffn_gate_shexp" => "mlp.shared_expert.gate_proj.weight",
        "ffn_up_shexp" => "mlp.shared_expert.up_proj.weight",
        "ffn_down_shexp" => "mlp.shared_expert.down_proj.weight",
        _ => return None,
    })
}

/// A tensor's bytes in a checkpoint; `number` is the size of a number. There, value heads that share a key head are
/// adjacent (GGUF files of Qwen 3.5 interleave them), and a is stored as log(-a).
pub(super) fn as_checkpoint(d: DeltaNetShape, tensor: &SynthTensor, bytes: Vec<u8>, number: usize) -> Vec<u8> {
    let row = tensor.dims[0] as usize * number;
    let keys = 2 * d.key_heads * d.head_dim * row;
    // Bytes before the heads, and bytes of a head; repeated.
    let (before, head) = match split_name(&tensor.name).1 {
        "attn_qkv" | "ssm_conv1d" => (keys, d.head_dim * row),
        "attn_gate" => (0, d.head_dim * row),
        "ssm_out" => (0, d.head_dim * number),
        "ssm_alpha" | "ssm_beta" => (0, row),
        "ssm_a" | "ssm_dt" => (0, number),
        _ => return bytes,
    };
    let each = d.heads / d.key_heads;
    let order = (0..d.heads).map(|head| if d.grouped { head } else { head % each * d.key_heads + head / each });
    let regrouped = bytes.chunks_exact(before + d.heads * head).flat_map(|run| {
        let heads = order.clone().flat_map(move |from| &run[before + from * head..][..head]);
        run[..before].iter().chain(heads).copied()
    });
    match split_name(&tensor.name).1 {
        "ssm_a" => {
            let a: Vec<u8> = regrouped.collect();
            a.as_chunks().0.iter().flat_map(|a| (-f32::from_le_bytes(*a)).ln().to_le_bytes()).collect()
        }
        _ => regrouped.collect(),
    }
}

/// Queries, keys, values and gates of each key head in one tensor, from the two of a GGUF file.
pub(super) fn joined(d: DeltaNetShape, mixed: &[u8], gates: &[u8]) -> Vec<u8> {
    let row = mixed.len() / d.channels();
    let (key, value) = (d.head_dim * row, d.inner() / d.key_heads * row);
    let (queries, rest) = mixed.split_at(d.key_heads * key);
    let (keys, values) = rest.split_at(d.key_heads * key);
    let part = |of: &[u8], size: usize, head: usize| of[head * size..][..size].to_vec();
    let head = |h| [part(queries, key, h), part(keys, key, h), part(values, value, h), part(gates, value, h)].concat();
    (0..d.key_heads).flat_map(head).collect()
}

/// The `config.json` settings of these sizes.
pub(super) fn settings(s: &Shape, d: DeltaNetShape, config: &mut Json) {
    for (setting, n) in [
        ("linear_conv_kernel_dim", d.conv_kernel),
        ("linear_key_head_dim", d.head_dim),
        ("linear_value_head_dim", d.head_dim),
        ("linear_num_key_heads", d.key_heads),
        ("linear_num_value_heads", d.heads),
        ("full_attention_interval", d.every),
    ] {
        config[setting] = n.into();
    }
    let number = |wanted: &str| {
        s.keys.iter().find_map(|(key, value)| match value {
            Key::U32(n) if *key == wanted => Some(*n),
            _ => None,
        })
    };
    let rotated = number("rope.dimension_count").unwrap_or(0) as f32 / s.head_dim as f32;
    config["partial_rotary_factor"] = rotated.into();
    config["rope_parameters"] = serde_json::json!({
        "rope_type": "default", "rope_theta": s.rope_base, "partial_rotary_factor": rotated,
    });
    if !d.grouped {
        config["rope_parameters"]["mrope_section"] = [4, 2, 2].into_iter().collect();
        config["rope_parameters"]["mrope_interleaved"] = true.into();
    }
    if let Some(shared) = number("expert_shared_feed_forward_length") {
        config["shared_expert_intermediate_size"] = shared.into();
    }
}
