//! What a file holds that the decoder does not take: named in errors, with the block of a model that would be missing.
//!
//! A tensor that nobody reads is an error, never left out in silence: a model with a part missing still talks, but
//! nonsense.

use super::spec::LayerSpec;
use crate::checkpoint::Checkpoint;
use std::collections::BTreeSet;

/// Parts of a name that the decoder knows; see `decoder`.
const PARTS: &[&str] = &[
    "token_embd",
    "output",
    "output_norm",
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_q_norm",
    "attn_k_norm",
    "attn_sinks",
    "attn_q_a",
    "attn_q_a_norm",
    "attn_q_b",
    "attn_kv_a_mqa",
    "attn_kv_a_norm",
    "attn_k_b",
    "attn_v_b",
    "attn_gate",
    "attn_output",
    "post_attention_norm",
    "post_ffw_norm",
    "post_ffw_norm_1",
    "post_ffw_norm_2",
    "pre_ffw_norm_2",
    "token_embd_norm",
    "per_layer_token_embd",
    "per_layer_model_proj",
    "per_layer_proj_norm",
    "inp_gate",
    "proj",
    "post_norm",
    "layer_output_scale",
    "shortconv",
    "ssm_conv1d",
    "ssm_alpha",
    "ssm_beta",
    "ssm_ba",
    "ssm_a",
    "ssm_a_log",
    "ssm_dt",
    "ssm_norm",
    "ssm_out",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "ffn_gate_inp",
    "exp_probs_b",
    "ffn_gate_exps",
    "ffn_gate_up_exps",
    "ffn_up_exps",
    "ffn_down_exps",
    "ffn_gate_inp_shexp",
    "ffn_gate_shexp",
    "ffn_up_shexp",
    "ffn_down_shexp",
];

/// Beginnings of a name's last part, and what they belong to. The first that fits holds.
const BLOCKS: &[(&str, &str)] = &[
    ("ssm_", "a recurrent state (Mamba)"),
    ("time_mix", "a recurrent state (RWKV)"),
    ("altup", "alternating updates (AltUp)"),
    ("laurel", "learned residuals (LAuReL)"),
    ("nextn", "the prediction of several tokens"),
    ("position_embd", "learned positions"),
    ("token_types", "an encoder"),
    ("cls", "a classifier"),
    ("attn_norm_2", "a block whose parts run side by side"),
];

/// Tensors that are read otherwise, or say nothing that keys do not say.
const READ_ELSEWHERE: &[&str] = &["rope_freqs", "rope_factors_long", "rope_factors_short"];

/// What layers that read the keys and values of others may have nevertheless.
const KEYS_AND_VALUES: &[&str] = &["attn_k", "attn_v", "attn_k_norm"];

/// The tensors of a checkpoint that `used` does not have. What lies behind the last of the `layers` predicts several
/// tokens at once, and may be left out.
pub fn unread<'a>(checkpoint: &'a Checkpoint, used: &BTreeSet<&str>, layers: &[LayerSpec]) -> Vec<&'a str> {
    let names = checkpoint.tensors.keys().map(String::as_str);
    let of_layer = |name: &str, n: usize| {
        layers.get(n).is_some_and(|layer| layer.kv_from.is_none() || !KEYS_AND_VALUES.contains(&part(name)))
    };
    let wanted = |name: &str| !READ_ELSEWHERE.contains(&part(name)) && layer(name).is_none_or(|n| of_layer(name, n));
    names.filter(|name| !used.contains(name) && wanted(name)).collect()
}

/// The tensors of a checkpoint of an unknown architecture that the decoder would not take.
pub fn unknown(checkpoint: &Checkpoint) -> Vec<&str> {
    let names = checkpoint.tensors.keys().map(String::as_str);
    names.filter(|name| !PARTS.contains(&part(name)) && !READ_ELSEWHERE.contains(&part(name))).collect()
}

/// A sentence about tensors that are not understood; empty if there are none.
pub fn describe(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    if names.is_empty() {
        return String::new();
    }
    let first = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let missing: BTreeSet<&str> = names.iter().filter_map(|name| block(part(name))).collect();
    let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
    let what = if missing.is_empty() { String::new() } else { format!("; Firelight does not have {missing}") };
    format!("these tensors are not understood: {first}{more}{what}")
}

/// `blk.3.attn_q.weight` -> `attn_q`.
fn part(name: &str) -> &str {
    let name = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, part)| part);
    name.split('.').next().unwrap_or(name)
}

/// `blk.3.attn_q.weight` -> 3.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

fn block(part: &str) -> Option<&'static str> {
    BLOCKS.iter().find(|(start, _)| part.starts_with(start)).map(|(_, block)| *block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_named_with_what_they_belong_to() {
        assert_eq!(describe(&[]), "");
        let said = describe(&["blk.0.ssm_a", "blk.0.ssm_d.weight", "odd.weight", "blk.1.time_mix_key.weight"]);
        let first = "these tensors are not understood: blk.0.ssm_a, blk.0.ssm_d.weight, odd.weight and 1 more; ";
        let missing = "a recurrent state (Mamba), a recurrent state (RWKV)";
        assert_eq!(said, format!("{first}Firelight does not have {missing}"));
        assert_eq!(describe(&["odd"]), "these tensors are not understood: odd");
    }
}
