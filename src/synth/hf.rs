//! The same synthetic models as Hugging Face folders: settings, tokenizer, chat template and one safetensors file.
//!
//! All values equal those of the GGUF file of the same shape and type, so logits are equal. `tensors` holds names and
//! layouts.

mod tensors;

use super::{CHAT_TEMPLATE, Key, MERGES, SPECIALS, Shape, find, long_factors, parse, rotated, vocabulary};
use super::{delta_net, mla};
use crate::dtype::DType;
use crate::quant_recipe::QuantRecipe;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::fs::{File, create_dir_all};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes the shape called `shape` as a Hugging Face folder. `types` is `F32`, `F16` or `BF16`; tensors that a GGUF
/// file keeps in F32 (norms, biases, routers) stay F32. With `MXFP4`, experts have that type, as gpt-oss is published,
/// and other matrices are BF16.
///
/// # Errors
/// If there is no such shape or type, or a file cannot be written.
pub fn write_hf(shape: &str, types: &str, dir: &Path) -> Result<()> {
    let shape = find(shape)?;
    if shape.hf_class.is_empty() {
        return Err(Error::Usage(format!("{} is written as GGUF only", shape.name)));
    }
    let recipe = parse(types)?;
    let dtype = match recipe {
        QuantRecipe::Pure(dtype @ (DType::F32 | DType::F16 | DType::BF16)) => dtype,
        QuantRecipe::Pure(dtype @ DType::MXFP4) if shape.arch == "gpt-oss" => dtype,
        _ => {
            return Err(Error::Usage("a Hugging Face folder holds F32, F16 or BF16; write other types as GGUF".into()));
        }
    };
    create_dir_all(dir).map_err(|e| Error::io(format!("cannot make the folder {}", dir.display()), e))?;
    write_file(&dir.join("config.json"), |out| writeln!(out, "{:#}", config(shape, dtype)))?;
    write_file(&dir.join("tokenizer.json"), |out| writeln!(out, "{:#}", tokenizer(shape)))?;
    write_file(&dir.join("chat_template.jinja"), |out| out.write_all(CHAT_TEMPLATE.as_bytes()))?;
    write_file(&dir.join("model.safetensors"), |out| tensors::write(shape, recipe, out))
}

fn write_file(path: &Path, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let write = || {
        let mut out = BufWriter::new(File::create(path)?);
        body(&mut out)?;
        out.flush()
    };
    write().map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}

/// Number of multi-token-prediction layers, which are not run.
fn ahead(shape: &Shape) -> usize {
    let said = shape.keys.iter().find(|(key, _)| *key == "nextn_predict_layers");
    said.map_or(0, |(_, n)| if let Key::U32(n) = n { *n as usize } else { 0 })
}

/// Whether the folder is a multimodal checkpoint.
fn nested(shape: &Shape) -> bool {
    shape.hf_class.ends_with("ForConditionalGeneration")
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
        // Through decimal text, to get 1e-5 instead of all digits of the nearest f32.
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
    if let Some(scaling) = s.rope_scaling {
        config["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": scaling.original_context,
        });
    }
    if let Some(e) = s.experts {
        config[if e.with_dense { "top_k_experts" } else { "num_experts_per_tok" }] = e.used.into();
        config["enable_moe_block"] = e.with_dense.into();
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

/// Family-specific settings, from the keys of the GGUF file.
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
    let yarn = |more: &[(&str, Value)]| {
        let mut settings = json!({
            "rope_type": "yarn",
            "rope_theta": s.rope_base,
            "factor": number("rope.scaling.factor"),
            "beta_fast": number("rope.scaling.yarn_beta_fast"),
            "beta_slow": number("rope.scaling.yarn_beta_slow"),
            "original_max_position_embeddings": original,
        });
        more.iter().for_each(|(name, value)| settings[name] = value.clone());
        settings
    };
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
        config["num_kv_shared_layers"] = s.kv_shared_layers.into();
        config["use_double_wide_mlp"] = (s.kv_shared_layers > 0).into();
        config["hidden_size_per_layer_input"] = s.per_layer_embeddings.into();
        config["vocab_size_per_layer_input"] = s.vocab.into();
        config["rope_parameters"] = json!({
            "full_attention": {
                "rope_type": "proportional", "rope_theta": s.rope_base, "partial_rotary_factor": 0.25 },
            "sliding_attention": { "rope_type": "default", "rope_theta": 10000.0 },
        });
    }
    if let Some(sizes) = s.delta_net {
        delta_net::settings(s, sizes, config);
    }
    if s.layer_norm {
        config["norm_epsilon"] = config["rms_norm_eps"].take();
        config["hidden_act"] = "gelu_pytorch_tanh".into();
        config["use_bias"] = true.into();
    }
    if let Some(convs) = s.convs {
        let kind = |n: usize| if n.is_multiple_of(convs.every) { "full_attention" } else { "conv" };
        config["layer_types"] = (1..=s.layers).map(kind).collect();
        config["conv_L_cache"] = convs.conv_kernel.into();
        config["block_auto_adjust_ff_dim"] = false.into();
        config["norm_eps"] = config["rms_norm_eps"].take();
    }
    match s.arch {
        "deepseek2" => {
            if let Some(sizes) = s.mla {
                mla::settings(s, sizes, config);
            }
            config["routed_scaling_factor"] = number("expert_weights_scale");
            if let Some(tenth) = number("rope.scaling.yarn_log_multiplier").as_f64() {
                let scale = json!(10.0 * tenth);
                config["rope_parameters"] = yarn(&[("mscale", scale.clone()), ("mscale_all_dim", scale)]);
            }
        }
        "gpt-oss" => {
            config["attention_bias"] = true.into();
            let more = [("beta_fast", 32.0.into()), ("beta_slow", 1.0.into()), ("truncate", false.into())];
            config["rope_parameters"] = yarn(&more);
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
            config["rope_parameters"] = yarn(&[
                ("mscale", 1.0.into()),
                ("mscale_all_dim", number("rope.scaling.yarn_log_multiplier")),
                ("llama_4_scaling_beta", number("attention.temperature_scale")),
            ]);
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
