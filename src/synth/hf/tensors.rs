//! The tensors of a Hugging Face folder: names, and bytes where their layout differs from GGUF.
//!
//! Names and row order are those of published checkpoints: one tensor per expert, and q and k rows of the llama
//! architecture not permuted.

use super::{ahead, nested};
use crate::dtype::DType;
use crate::quant_recipe::{QuantRecipe, split_name};
use crate::synth::{Norms, Shape, SynthTensor, delta_net, expert_stacks, mla, model_shape, tensors};
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// Writes a safetensors file: its header (a length and JSON), then the tensors' bytes without gaps.
pub(super) fn write(shape: &Shape, recipe: QuantRecipe, out: &mut dyn Write) -> io::Result<()> {
    let contents = Contents::of(shape, recipe)?;
    let mut text = contents.header().to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    contents.tensors.iter().try_for_each(|(tensor, second)| contents.write(tensor, second.as_ref(), out))?;
    contents.pieces.iter().try_for_each(|piece| out.write_all(&piece.bytes))
}

/// The contents of a file.
struct Contents<'a> {
    shape: &'a Shape,
    recipe: QuantRecipe,
    /// Each with the GGUF tensor that shares its checkpoint tensor, if there is one.
    tensors: Vec<(SynthTensor, Option<SynthTensor>)>,
    /// Experts with a layout that differs from GGUF's.
    pieces: Vec<expert_stacks::Piece>,
}

impl<'a> Contents<'a> {
    fn of(shape: &'a Shape, recipe: QuantRecipe) -> io::Result<Self> {
        let mut all: Vec<SynthTensor> = tensors(shape).into_iter().filter(|t| !t.name.starts_with("rope_f")).collect();
        // Multi-token-prediction layers have other names in a checkpoint, and are not read.
        all.retain(|t| (split_name(&t.name).0 as usize) < shape.layers - ahead(shape));
        let mut pieces = expert_stacks::take(shape, recipe, &mut all)?;
        pieces.iter_mut().for_each(|piece| piece.name = prefixed(shape, &piece.name));
        let is_second = |t: &mut SynthTensor| match split_name(&t.name).1 {
            "attn_v_b" => true,
            "attn_gate" => shape.delta_net.is_some_and(|d| d.grouped),
            _ => false,
        };
        let mut seconds: Vec<SynthTensor> = all.extract_if(.., is_second).collect();
        let paired = |first: SynthTensor| {
            let (layer, part) = split_name(&first.name);
            let joined = matches!(part, "attn_k_b" | "attn_qkv");
            let second = seconds.iter().position(|t| joined && split_name(&t.name).0 == layer);
            let second = second.map(|at| seconds.swap_remove(at));
            (first, second)
        };
        let tensors = all.into_iter().map(paired).collect();
        Ok(Contents { shape, recipe, tensors, pieces })
    }

    /// The type that a tensor's values are rounded to, and the type it is stored in.
    fn types(&self, t: &SynthTensor) -> (DType, DType) {
        match self.recipe.of(model_shape(self.shape), &t.name, &t.dims) {
            DType::MXFP4 => (DType::MXFP4, DType::BF16),
            other => (other, other),
        }
    }

    fn header(&self) -> Value {
        let (mut header, mut offset) = (Map::new(), 0);
        let mut entry = |name: &str, dtype: &str, dims: &[u64], bytes: u64| {
            let entry = json!({ "dtype": dtype, "shape": dims, "data_offsets": [offset, offset + bytes] });
            header.insert(name.to_owned(), entry);
            offset += bytes;
        };
        for (t, second) in &self.tensors {
            let (_, dtype) = self.types(t);
            let names = hf_names(self.shape, t);
            let dims = if names.len() > 1 { &t.dims[..2] } else { &t.dims };
            let mut dims: Vec<u64> = dims.iter().rev().copied().collect();
            let mut bytes = t.stream_len(dtype) / names.len() as u64;
            if let Some(second) = second {
                dims = vec![(t.count() + second.count()) / second.dims[0], second.dims[0]];
                bytes += second.stream_len(dtype);
            }
            match split_name(&t.name).1 {
                "ssm_conv1d" | "shortconv.conv" => dims.insert(1, 1),
                "ffn_gate_inp_shexp" => dims.insert(0, 1),
                _ => {}
            }
            names.iter().for_each(|name| entry(name, dtype.name(), &dims, bytes));
        }
        self.pieces.iter().for_each(|p| entry(&p.name, p.dtype, &p.shape, p.bytes.len() as u64));
        Value::Object(header)
    }

    fn write(&self, t: &SynthTensor, second: Option<&SynthTensor>, out: &mut dyn Write) -> io::Result<()> {
        let (shape, (dtype, written)) = (self.shape, self.types(t));
        let (stream, number) = (t.stream(shape, dtype), dtype.block_bytes());
        if PERMUTED.contains(&shape.arch) && matches!(split_name(&t.name).1, "attn_q" | "attn_k") {
            let row = t.dims[0] * number as u64;
            let starts = (0..t.dims[1]).map(|r| gguf_row(r, shape.head_dim as u64) * row);
            return starts.into_iter().try_for_each(|at| stream.write(at..at + row, out));
        }
        let all = |t: &SynthTensor| -> io::Result<Vec<u8>> {
            let (stream, mut bytes) = (t.stream(shape, dtype), Vec::new());
            stream.write(0..stream.len(), &mut bytes)?;
            Ok(bytes)
        };
        let bytes = match (second, shape.mla, shape.delta_net) {
            (Some(values), Some(sizes), _) => mla::joined(&all(t)?, &all(values)?, shape, sizes, number),
            (Some(gates), None, Some(sizes)) => delta_net::joined(sizes, &all(t)?, &all(gates)?),
            _ if less_one(shape, t) => {
                let all = all(t)?;
                all.as_chunks().0.iter().flat_map(|w| (f32::from_le_bytes(*w) - 1.0).to_le_bytes()).collect()
            }
            _ if written != dtype => {
                let mut weights = vec![0.0; t.count() as usize];
                dtype.dequantize(&all(t)?, &mut weights);
                let mut bytes = vec![0; weights.len() * written.block_bytes()];
                written.quantize(&weights, &mut bytes);
                bytes
            }
            (None, _, Some(sizes)) => delta_net::as_checkpoint(sizes, t, all(t)?, number),
            _ => return stream.write(0..stream.len(), out),
        };
        out.write_all(&bytes)
    }
}

/// Whether it is a norm whose weights are stored minus one.
fn less_one(shape: &Shape, t: &SynthTensor) -> bool {
    let families = ["gemma2", "gemma3", "qwen35", "qwen35moe", "qwen3next"];
    families.contains(&shape.arch) && t.name.contains("norm") && split_name(&t.name).1 != "ssm_norm"
}

/// The architectures whose q and k rows are permuted in GGUF files.
const PERMUTED: [&str; 4] = ["llama", "mistral3", "smollm3", "granite"];

/// Where llama.cpp's converter puts row `r` of a llama q or k matrix: it interleaves the two halves of each head, so
/// that RoPE pairs are adjacent.
fn gguf_row(r: u64, head_dim: u64) -> u64 {
    let (head, i) = (r / head_dim, r % head_dim);
    head * head_dim + 2 * (i % (head_dim / 2)) + i / (head_dim / 2)
}

/// The checkpoint's names for a GGUF tensor: one, or one per expert.
fn hf_names(shape: &Shape, t: &SynthTensor) -> Vec<String> {
    own_names(shape, t).iter().map(|name| prefixed(shape, name)).collect()
}

/// A name within a multimodal checkpoint.
fn prefixed(shape: &Shape, name: &str) -> String {
    match name.strip_prefix("model.") {
        _ if !nested(shape) => name.to_owned(),
        Some(rest) if shape.arch == "gemma4" => format!("model.language_model.{rest}"),
        _ => format!("language_model.{name}"),
    }
}

/// The names in a text-only checkpoint.
fn own_names(shape: &Shape, t: &SynthTensor) -> Vec<String> {
    let (layer, part) = split_name(&t.name);
    let kind = t.name.rsplit('.').next().unwrap_or("weight");
    let block = |part: &str| vec![format!("model.layers.{layer}.{part}.{kind}")];
    let mixtral = shape.hf_class == "MixtralForCausalLM";
    let mlp = if mixtral { "block_sparse_moe" } else { "mlp" };
    let experts = |part: &str| {
        let count = shape.experts.map_or(0, |e| e.count);
        (0..count).map(|e| format!("model.layers.{layer}.{mlp}.experts.{e}.{part}.{kind}")).collect()
    };
    if let Some(name) = delta_net::hf_name(shape, part) {
        return vec![format!("model.layers.{layer}.{name}")];
    }
    if shape.experts.is_some_and(|e| e.with_dense) {
        let block = |part: &str| vec![format!("model.layers.{layer}.{part}")];
        match (part, kind) {
            ("ffn_gate_inp", "weight") => return block("router.proj.weight"),
            ("ffn_gate_inp", _) => return block("router.scale"),
            ("ffn_down_exps", "weight") => return block("experts.down_proj"),
            ("ffn_down_exps", _) => return block("router.per_expert_scale"),
            ("ffn_gate_up_exps", _) => return block("experts.gate_up_proj"),
            ("post_ffw_norm_1", _) => return block("post_feedforward_layernorm_1.weight"),
            ("pre_ffw_norm_2", _) => return block("pre_feedforward_layernorm_2.weight"),
            ("post_ffw_norm_2", _) => return block("post_feedforward_layernorm_2.weight"),
            _ => {}
        }
    }
    if shape.convs.is_some() {
        match part {
            "token_embd_norm" => return vec!["model.embedding_norm.weight".into()],
            "attn_norm" => return block("operator_norm"),
            "ffn_norm" => return block("ffn_norm"),
            "attn_q_norm" => return block("self_attn.q_layernorm"),
            "attn_k_norm" => return block("self_attn.k_layernorm"),
            "attn_output" => return block("self_attn.out_proj"),
            "ffn_gate" => return block("feed_forward.w1"),
            "ffn_up" => return block("feed_forward.w3"),
            "ffn_down" => return block("feed_forward.w2"),
            "shortconv.in_proj" => return block("conv.in_proj"),
            "shortconv.conv" => return block("conv.conv"),
            "shortconv.out_proj" => return block("conv.out_proj"),
            _ => {}
        }
    }
    if shape.arch == "llama4" {
        match part {
            "ffn_gate" | "ffn_up" | "ffn_down" => {
                return block(&format!("feed_forward.{}_proj", part.trim_start_matches("ffn_")));
            }
            "ffn_gate_inp" => return block("feed_forward.router"),
            "ffn_gate_shexp" => return block("feed_forward.shared_expert.gate_proj"),
            "ffn_up_shexp" => return block("feed_forward.shared_expert.up_proj"),
            "ffn_down_shexp" => return block("feed_forward.shared_expert.down_proj"),
            _ => {}
        }
    }
    if shape.norms != Norms::Before {
        match part {
            "post_attention_norm" => return block("post_attention_layernorm"),
            "ffn_norm" => return block("pre_feedforward_layernorm"),
            "post_ffw_norm" => return block("post_feedforward_layernorm"),
            _ => {}
        }
    }
    match part {
        "attn_qkv" => block("self_attn.qkv_proj"),
        "per_layer_token_embd" => vec!["model.embed_tokens_per_layer.weight".into()],
        "per_layer_model_proj" => vec!["model.per_layer_model_projection.weight".into()],
        "per_layer_proj_norm" => vec!["model.per_layer_projection_norm.weight".into()],
        "inp_gate" => block("per_layer_input_gate"),
        "proj" => block("per_layer_projection"),
        "post_norm" => block("post_per_layer_input_norm"),
        "layer_output_scale" => vec![format!("model.layers.{layer}.layer_scalar")],
        "ffn_up" if shape.fused => block("mlp.gate_up_proj"),
        "ffn_up" if shape.layer_norm => block("mlp.c_fc"),
        "ffn_down" if shape.layer_norm => block("mlp.c_proj"),
        "token_embd" => vec!["model.embed_tokens.weight".into()],
        "output_norm" => vec![format!("model.norm.{kind}")],
        "output" => vec!["lm_head.weight".into()],
        "attn_norm" => block("input_layernorm"),
        "attn_q" => block("self_attn.q_proj"),
        "attn_k" => block("self_attn.k_proj"),
        "attn_v" => block("self_attn.v_proj"),
        "attn_output" => block("self_attn.o_proj"),
        "attn_q_norm" => block("self_attn.q_norm"),
        "attn_k_norm" => block("self_attn.k_norm"),
        "attn_q_a" => block("self_attn.q_a_proj"),
        "attn_q_a_norm" => block("self_attn.q_a_layernorm"),
        "attn_q_b" => block("self_attn.q_b_proj"),
        "attn_kv_a_mqa" => block("self_attn.kv_a_proj_with_mqa"),
        "attn_kv_a_norm" => block("self_attn.kv_a_layernorm"),
        "attn_k_b" => block("self_attn.kv_b_proj"),
        "exp_probs_b" => vec![format!("model.layers.{layer}.mlp.gate.e_score_correction_bias")],
        "ffn_gate_shexp" => block("mlp.shared_experts.gate_proj"),
        "ffn_up_shexp" => block("mlp.shared_experts.up_proj"),
        "ffn_down_shexp" => block("mlp.shared_experts.down_proj"),
        "ffn_norm" => block("post_attention_layernorm"),
        "ffn_gate" => block("mlp.gate_proj"),
        "ffn_up" => block("mlp.up_proj"),
        "ffn_down" => block("mlp.down_proj"),
        "attn_sinks" => vec![format!("model.layers.{layer}.self_attn.sinks")],
        "ffn_gate_inp" if shape.sinks => block("mlp.router"),
        "ffn_gate_inp" => block(&format!("{mlp}.gate")),
        "ffn_gate_exps" => experts(if mixtral { "w1" } else { "gate_proj" }),
        "ffn_up_exps" => experts(if mixtral { "w3" } else { "up_proj" }),
        "ffn_down_exps" => experts(if mixtral { "w2" } else { "down_proj" }),
        other => unreachable!("{other} has no Hugging Face name"),
    }
}
