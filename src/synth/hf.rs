//! The same synthetic models as Hugging Face folders: settings, tokenizer, chat template and one safetensors file.
//!
//! Names and row order are those of published checkpoints: one tensor per expert, and q and k rows of the llama
//! architecture not permuted. Every number equals the GGUF file's of the same shape and type, so both give equal logits.

use super::{
    CHAT_TEMPLATE, Key, MERGES, Norms, SPECIALS, Shape, Tensor, find, form, long_factors, parse, rotated, tensors,
    vocabulary,
};
use super::{delta, latent, stacks};
use crate::dtype::DType;
use crate::mix::{Mix, place};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::fs::{File, create_dir_all};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes the shape called `shape` as a Hugging Face folder. `types` is `F32`, `F16` or `BF16`; tensors that a GGUF
/// file keeps in F32 (norms, biases, routers) stay F32 here too. With `MXFP4` experts are of that type, as gpt-oss is
/// published, and what else a GGUF file has in it is the same in BF16.
///
/// # Errors
/// If there is no such shape or type, or a file cannot be written.
pub fn write_hf(shape: &str, types: &str, dir: &Path) -> Result<()> {
    let shape = find(shape)?;
    if shape.hf_class.is_empty() {
        return Err(Error::Usage(format!("{} is written as GGUF only", shape.name)));
    }
    let mix = parse(types)?;
    let dtype = match mix {
        Mix::Pure(dtype @ (DType::F32 | DType::F16 | DType::BF16)) => dtype,
        Mix::Pure(dtype @ DType::MXFP4) if shape.arch == "gpt-oss" => dtype,
        _ => {
            return Err(Error::Usage("a Hugging Face folder holds F32, F16 or BF16; write other types as GGUF".into()));
        }
    };
    create_dir_all(dir).map_err(|e| Error::io(format!("cannot make the folder {}", dir.display()), e))?;
    write_file(&dir.join("config.json"), |out| writeln!(out, "{:#}", config(shape, dtype)))?;
    write_file(&dir.join("tokenizer.json"), |out| writeln!(out, "{:#}", tokenizer(shape)))?;
    write_file(&dir.join("chat_template.jinja"), |out| out.write_all(CHAT_TEMPLATE.as_bytes()))?;
    write_file(&dir.join("model.safetensors"), |out| safetensors(shape, mix, out))
}

fn write_file(path: &Path, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let write = || {
        let mut out = BufWriter::new(File::create(path)?);
        body(&mut out)?;
        out.flush()
    };
    write().map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}

/// Header (a length and JSON), then the tensors' bytes without gaps.
fn safetensors(shape: &Shape, mix: Mix, out: &mut dyn Write) -> io::Result<()> {
    let mut tensors: Vec<Tensor> = tensors(shape).into_iter().filter(|t| !t.name.starts_with("rope_f")).collect();
    // Layers that predict ahead have names of their own in a checkpoint, and nobody reads them.
    tensors.retain(|t| (place(&t.name).0 as usize) < shape.layers - ahead(shape));
    // What lies in one tensor with another.
    let second = |t: &Tensor| match place(&t.name).1 {
        "attn_v_b" => true,
        "attn_gate" => shape.delta.is_some_and(|d| d.grouped),
        _ => false,
    };
    let seconds: Vec<Tensor> = tensors.extract_if(.., |t| second(t)).collect();
    let partner = |first: &Tensor| match place(&first.name) {
        (layer, "attn_k_b" | "attn_qkv") => seconds.iter().find(|t| place(&t.name).0 == layer),
        _ => None,
    };
    let mut pieces = stacks::take(shape, mix, &mut tensors)?;
    let type_of = |t: &Tensor| match mix.of(form(shape), &t.name, &t.dims) {
        DType::MXFP4 => (DType::MXFP4, DType::BF16),
        other => (other, other),
    };
    let mut header = Map::new();
    let mut offset = 0;
    for t in &tensors {
        let (_, dtype) = type_of(t);
        let names = hf_names(shape, t);
        let dims = if names.len() > 1 { &t.dims[..2] } else { &t.dims };
        let mut dims: Vec<u64> = dims.iter().rev().copied().collect();
        let mut bytes = t.stream_len(dtype) / names.len() as u64;
        if let Some(second) = partner(t) {
            dims = vec![(t.count() + second.count()) / second.dims[0], second.dims[0]];
            bytes += second.stream_len(dtype);
        }
        match place(&t.name).1 {
            "ssm_conv1d" | "shortconv.conv" => dims.insert(1, 1),
            "ffn_gate_inp_shexp" => dims.insert(0, 1),
            _ => {}
        }
        for name in names {
            let entry = json!({ "dtype": dtype.name(), "shape": dims, "data_offsets": [offset, offset + bytes] });
            header.insert(name, entry);
            offset += bytes;
        }
    }
    for piece in &mut pieces {
        piece.name = prefixed(shape, &piece.name);
        let end = offset + piece.bytes.len() as u64;
        let entry = json!({ "dtype": piece.dtype, "shape": piece.shape, "data_offsets": [offset, end] });
        header.insert(piece.name.clone(), entry);
        offset = end;
    }
    let mut text = Value::Object(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    for t in &tensors {
        let (dtype, written) = type_of(t);
        let stream = t.stream(shape, dtype);
        let row = t.dims[0] * dtype.block_bytes() as u64;
        match place(&t.name).1 {
            "attn_q" | "attn_k" if PERMUTED.contains(&shape.arch) => {
                for r in 0..t.dims[1] {
                    let at = gguf_row(r, shape.head_dim as u64) * row;
                    stream.write(at..at + row, out)?;
                }
            }
            "attn_k_b" => {
                let (Some(v), Some(sizes)) = (partner(t), shape.latent) else { continue };
                let (mut keys, mut values) = (Vec::new(), Vec::new());
                stream.write(0..stream.len(), &mut keys)?;
                let stream = v.stream(shape, dtype);
                stream.write(0..stream.len(), &mut values)?;
                out.write_all(&latent::joined(&keys, &values, shape, sizes, dtype.block_bytes()))?;
            }
            // Norms of these multiply by one more than their weights.
            part if ["gemma2", "gemma3", "qwen35", "qwen35moe", "qwen3next"].contains(&shape.arch)
                && t.name.contains("norm")
                && part != "ssm_norm" =>
            {
                let mut bytes = Vec::new();
                stream.write(0..stream.len(), &mut bytes)?;
                let less = bytes.as_chunks().0.iter().flat_map(|b| (f32::from_le_bytes(*b) - 1.0).to_le_bytes());
                out.write_all(&less.collect::<Vec<u8>>())?;
            }
            _ if written != dtype => {
                let (mut bytes, mut weights) = (Vec::new(), vec![0.0; t.count() as usize]);
                stream.write(0..stream.len(), &mut bytes)?;
                dtype.dequantize(&bytes, &mut weights);
                let mut bytes = vec![0; weights.len() * written.block_bytes()];
                written.quantize(&weights, &mut bytes);
                out.write_all(&bytes)?;
            }
            _ => {
                let Some(sizes) = shape.delta else {
                    stream.write(0..stream.len(), out)?;
                    continue;
                };
                let (mut bytes, mut gates) = (Vec::new(), Vec::new());
                stream.write(0..stream.len(), &mut bytes)?;
                match partner(t) {
                    Some(second) => {
                        let stream = second.stream(shape, dtype);
                        stream.write(0..stream.len(), &mut gates)?;
                        out.write_all(&delta::joined(sizes, &bytes, &gates))?;
                    }
                    None => out.write_all(&delta::as_checkpoint(sizes, t, bytes, dtype.block_bytes()))?,
                }
            }
        }
    }
    pieces.iter().try_for_each(|piece| out.write_all(&piece.bytes))
}

/// How many layers predict ahead, and are not run.
fn ahead(shape: &Shape) -> usize {
    let said = shape.keys.iter().find(|(key, _)| *key == "nextn_predict_layers");
    said.map_or(0, |(_, n)| if let Key::U32(n) = n { *n as usize } else { 0 })
}

/// The architectures whose q and k rows lie otherwise in GGUF files.
const PERMUTED: [&str; 4] = ["llama", "mistral3", "smollm3", "granite"];

/// Where llama.cpp's converter puts row `r` of a llama q or k matrix: it interleaves the two halves of each head, so
/// that the pairs RoPE rotates lie side by side.
fn gguf_row(r: u64, head_dim: u64) -> u64 {
    let (head, i) = (r / head_dim, r % head_dim);
    head * head_dim + 2 * (i % (head_dim / 2)) + i / (head_dim / 2)
}

/// Whether it lies in the folder of a model that could see besides.
fn nested(shape: &Shape) -> bool {
    shape.hf_class.ends_with("ForConditionalGeneration")
}

/// The checkpoint's names for a GGUF tensor: one, or one an expert.
fn hf_names(shape: &Shape, t: &Tensor) -> Vec<String> {
    own_names(shape, t).iter().map(|name| prefixed(shape, name)).collect()
}

/// A name within the folder of a model that could see besides.
fn prefixed(shape: &Shape, name: &str) -> String {
    match name.strip_prefix("model.") {
        _ if !nested(shape) => name.to_owned(),
        Some(rest) if shape.arch == "gemma4" => format!("model.language_model.{rest}"),
        _ => format!("language_model.{name}"),
    }
}

/// Those of a language model alone.
fn own_names(shape: &Shape, t: &Tensor) -> Vec<String> {
    let (layer, part) = place(&t.name);
    let kind = t.name.rsplit('.').next().unwrap_or("weight");
    let block = |part: &str| vec![format!("model.layers.{layer}.{part}.{kind}")];
    let mixtral = shape.hf_class == "MixtralForCausalLM";
    let mlp = if mixtral { "block_sparse_moe" } else { "mlp" };
    let experts = |part: &str| {
        let count = shape.experts.map_or(0, |e| e.count);
        (0..count).map(|e| format!("model.layers.{layer}.{mlp}.experts.{e}.{part}.{kind}")).collect()
    };
    if let Some(name) = delta::hf_name(shape, part) {
        return vec![format!("model.layers.{layer}.{name}")];
    }
    if shape.experts.is_some_and(|e| e.beside) {
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
        "ffn_up" if shape.classic => block("mlp.c_fc"),
        "ffn_down" if shape.classic => block("mlp.c_proj"),
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

fn config(s: &Shape, dtype: DType) -> Value {
    let mut config = json!({
        "architectures": [s.hf_class],
        "model_type": match s.hf_class {
            "MistralForCausalLM" => "mistral",
            "Mistral3ForConditionalGeneration" => "ministral3",
            "Gemma3ForConditionalGeneration" => "gemma3_text",
            "Gemma4ForCausalLM" | "Gemma4ForConditionalGeneration" => "gemma4_text",
            "MixtralForCausalLM" => "mixtral",
            "Llama4ForConditionalGeneration" => "llama4_text",
            "GptOssForCausalLM" => "gpt_oss",
            "Qwen3MoeForCausalLM" => "qwen3_moe",
            "DeepseekV2ForCausalLM" => "deepseek_v2",
            "DeepseekV3ForCausalLM" => "deepseek_v3",
            "Glm4MoeLiteForCausalLM" => "glm4_moe_lite",
            "Qwen3_5ForCausalLM" => "qwen3_5_text",
            "Qwen3_5MoeForCausalLM" => "qwen3_5_moe_text",
            "Qwen3NextForCausalLM" => "qwen3_next",
            _ => s.arch,
        },
        "torch_dtype": match dtype {
            DType::F16 => "float16",
            DType::BF16 | DType::MXFP4 => "bfloat16",
            _ => "float32",
        },
        "hidden_size": s.hidden,
        "intermediate_size": s.ff,
        "num_hidden_layers": s.layers - ahead(s),
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "head_dim": s.head_dim,
        "vocab_size": s.vocab,
        "max_position_embeddings": s.context,
        // Through decimal text: what was meant, not the nearest f32 with all its digits.
        "rms_norm_eps": s.eps.to_string().parse::<f64>().unwrap_or_default(),
        "rope_theta": s.rope_base,
        "hidden_act": "silu",
        "tie_word_embeddings": s.tied,
        "attention_bias": false,
        "sliding_window": null,
        "bos_token_id": s.vocab - SPECIALS.len(),
        "eos_token_id": s.vocab - 1,
        "pad_token_id": null,
    });
    if let Some(stretch) = s.rope_stretch {
        config["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": stretch.factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": stretch.original_context,
        });
    }
    if let Some(e) = s.experts {
        config[if e.beside { "top_k_experts" } else { "num_experts_per_tok" }] = e.used.into();
        config["enable_moe_block"] = e.beside.into();
        let local = ["llama", "llama4", "gpt-oss"].contains(&s.arch);
        config[if local { "num_local_experts" } else { "num_experts" }] = e.count.into();
        if !local {
            config["moe_intermediate_size"] = e.ff.into();
            config["norm_topk_prob"] = true.into();
            config["decoder_sparse_step"] = 1.into();
            config["mlp_only_layers"] = json!([]);
        }
    }
    family(s, &mut config);
    if nested(s) {
        config["pad_token_id"] = config["bos_token_id"].clone();
        config = json!({
            "architectures": [s.hf_class],
            "model_type": s.arch,
            "text_config": config,
            "vision_config": {
                "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2 },
        });
    }
    if dtype == DType::MXFP4 {
        config["quantization_config"] = json!({ "quant_method": "mxfp4" });
    }
    config
}

/// What a family's config says besides, from the keys of its GGUF file.
fn family(s: &Shape, config: &mut Value) {
    let number = |key: &str| {
        let found = s.keys.iter().find(|(name, _)| *name == key);
        found.map_or(Value::Null, |(_, value)| match *value {
            Key::U32(n) => n.into(),
            Key::F32(x) => json!(x.to_string().parse::<f64>().unwrap_or_default()),
            Key::Str(word) => word.into(),
        })
    };
    let original = number("rope.scaling.original_context_length");
    config["sliding_window"] = number("attention.sliding_window");
    if s.arch.starts_with("gemma") {
        config["hidden_activation"] = "gelu_pytorch_tanh".into();
        config["hidden_act"] = Value::Null;
        if s.global.is_none() {
            config["query_pre_attn_scalar"] = s.head_dim.into();
        }
        config["attn_logit_softcapping"] = number("attn_logit_softcapping");
        config["final_logit_softcapping"] = number("final_logit_softcapping");
    }
    if let Some(global) = s.global {
        let kind = |n| if s.global_of(n).is_some() { "full_attention" } else { "sliding_attention" };
        config["layer_types"] = (0..s.layers).map(kind).collect();
        config["global_head_dim"] = global.head_dim.into();
        config["attention_k_eq_v"] = global.keys_are_values.into();
        config["num_global_key_value_heads"] = global.kv_heads.into();
        config["num_kv_shared_layers"] = s.shared_kv.into();
        config["use_double_wide_mlp"] = (s.shared_kv > 0).into();
        config["hidden_size_per_layer_input"] = s.layer_inputs.into();
        config["vocab_size_per_layer_input"] = s.vocab.into();
        config["rope_parameters"] = json!({
            "full_attention": {
                "rope_type": "proportional", "rope_theta": s.rope_base, "partial_rotary_factor": 0.25 },
            "sliding_attention": { "rope_type": "default", "rope_theta": 10000.0 },
        });
    }
    if let Some(sizes) = s.delta {
        delta::settings(s, sizes, config);
    }
    if s.classic {
        config["norm_epsilon"] = config["rms_norm_eps"].take();
        config["hidden_act"] = "gelu_pytorch_tanh".into();
        config["use_bias"] = true.into();
    }
    if let Some(convs) = s.convs {
        let kind = |n: usize| if n.is_multiple_of(convs.every) { "full_attention" } else { "conv" };
        config["layer_types"] = (1..=s.layers).map(kind).collect();
        config["conv_L_cache"] = convs.taps.into();
        config["block_auto_adjust_ff_dim"] = false.into();
        config["norm_eps"] = config["rms_norm_eps"].take();
    }
    match s.arch {
        "deepseek2" => {
            if let Some(sizes) = s.latent {
                latent::settings(s, sizes, config);
            }
            config["routed_scaling_factor"] = number("expert_weights_scale");
            if let Some(tenth) = number("rope.scaling.yarn_log_multiplier").as_f64() {
                config["rope_parameters"] = json!({
                    "rope_type": "yarn",
                    "rope_theta": s.rope_base,
                    "factor": number("rope.scaling.factor"),
                    "beta_fast": number("rope.scaling.yarn_beta_fast"),
                    "beta_slow": number("rope.scaling.yarn_beta_slow"),
                    "original_max_position_embeddings": original,
                    "mscale": 10.0 * tenth,
                    "mscale_all_dim": 10.0 * tenth,
                });
            }
        }
        "gpt-oss" => {
            config["attention_bias"] = true.into();
            config["rope_parameters"] = json!({
                "rope_type": "yarn",
                "rope_theta": s.rope_base,
                "factor": number("rope.scaling.factor"),
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": false,
                "original_max_position_embeddings": original,
            });
        }
        "llama4" => {
            if let Some(experts) = s.experts {
                config["intermediate_size"] = experts.ff.into();
            }
            config["intermediate_size_mlp"] = s.ff.into();
            config["interleave_moe_layer_step"] = number("interleave_moe_layer_step");
            config["attention_chunk_size"] = config["sliding_window"].take();
            config["floor_scale"] = number("attention.temperature_length");
        }
        "gemma3" => {
            config["rope_parameters"] = json!({
                "full_attention": {
                    "rope_type": "linear", "rope_theta": s.rope_base, "factor": number("rope.scaling.factor") },
                "sliding_attention": { "rope_type": "default", "rope_theta": 10000.0 },
            });
        }
        "granite" => {
            for (setting, key) in [
                ("embedding_multiplier", "embedding_scale"),
                ("residual_multiplier", "residual_scale"),
                ("attention_multiplier", "attention.scale"),
                ("logits_scaling", "logit_scale"),
            ] {
                config[setting] = number(key);
            }
        }
        "mistral3" => {
            config["rope_parameters"] = json!({
                "rope_type": "yarn",
                "rope_theta": s.rope_base,
                "factor": number("rope.scaling.factor"),
                "beta_fast": number("rope.scaling.yarn_beta_fast"),
                "beta_slow": number("rope.scaling.yarn_beta_slow"),
                "original_max_position_embeddings": original,
                "mscale": 1.0,
                "mscale_all_dim": number("rope.scaling.yarn_log_multiplier"),
                "llama_4_scaling_beta": number("attention.temperature_scale"),
            });
        }
        "phi3" => {
            let partial = rotated(s) as f64 / s.head_dim as f64;
            let [long, short] = long_factors(s);
            config["partial_rotary_factor"] = partial.into();
            config["original_max_position_embeddings"] = original.clone();
            config["rope_parameters"] = json!({
                "rope_type": "longrope",
                "rope_theta": s.rope_base,
                "partial_rotary_factor": partial,
                "original_max_position_embeddings": original,
                "attention_factor": number("rope.scaling.attn_factor"),
                "long_factor": long,
                "short_factor": short,
            });
        }
        _ => {}
    }
}

fn tokenizer(s: &Shape) -> Value {
    let words = vocabulary(s.vocab);
    let first = words.len() - SPECIALS.len();
    let special = |(i, word): (usize, &&str)| {
        json!({
            "id": first + i, "content": word, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "added_tokens": SPECIALS.iter().enumerate().map(special).collect::<Vec<_>>(),
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": words.iter().enumerate().map(|(i, w)| (w.clone(), i.into())).collect::<Map<_, _>>(),
            "merges": MERGES,
        },
    })
}
