"""Generates this folder's golden logits with Hugging Face transformers in float32, from files of `firelight synth`.

    python make.py DIR COMMAND...     e.g.  python make.py /tmp/models target/release/firelight synth

COMMAND SHAPE TYPES FILE writes a synthetic model (a folder if FILE ends in a slash); DIR keeps them. To be an oracle,
the script must share nothing with the engine: the `gguf` package reads and dequantizes GGUF, this script translates
tensor names and configs, and transformers computes the logits. See README.md.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
SHORT, LONG, GREEDY = 40, 300, 32
CLEAR, LEAD = 0.03, 0.05

# model_type of each shape, and settings that a GGUF file expresses only through its tensors.
SHAPES = {
    "tiny-llama": ("llama", {}),
    "tiny-llama3": ("llama", {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }),
    "tiny-mistral": ("mistral", {}),
    "tiny-qwen2": ("qwen2", {}),
    "tiny-qwen3": ("qwen3", {}),
    "tiny-qwen3moe": ("qwen3_moe", {}),
    "tiny-mixtral": ("mixtral", {}),
    "tiny-odd": ("llama", {}),
    "tiny-window": ("mistral", {}),
    "tiny-gemma2": ("gemma2", {}),
    "tiny-gemma3": ("gemma3_text", {}),
    "tiny-phi3": ("phi3", {}),
    "tiny-olmo2": ("olmo2", {}),
    "tiny-smollm3": ("smollm3", {}),
    "tiny-granite": ("granite", {}),
    "tiny-mistral3": ("ministral3", {}),
    "tiny-llama4": ("llama4_text", {}),
    "tiny-gpt-oss": ("gpt_oss", {}),
    "tiny-qwen35": ("qwen3_5_text", {}),
    "tiny-qwen35moe": ("qwen3_5_moe_text", {}),
    "tiny-qwen3next": ("qwen3_next", {}),
    "tiny-lfm2": ("lfm2", {}),
    "tiny-gemma4": ("gemma4_text", {}),
    "tiny-gemma4moe": ("gemma4_text", {}),
    "tiny-starcoder2": ("starcoder2", {}),
    "tiny-deepseek2": ("deepseek_v2", {}),
    "tiny-deepseek3": ("deepseek_v3", {}),
    "tiny-glm4-flash": ("glm4_moe_lite", {}),
}
QUANTIZED = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
QUANTIZED += "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S TQ1_0 TQ2_0".split()
CASES = (
    [(shape, "F32") for shape in SHAPES]
    + [(shape, types) for shape in ("tiny-llama3", "tiny-odd") for types in ("F16", "BF16")]
    + [("tiny-llama3", types) for types in QUANTIZED]  # tied: the embedding, which is the head, has the type, too
    + [("tiny-llama", "Q4_K"), ("tiny-qwen3", "Q8_0"), ("tiny-mixtral", "Q4_0"), ("tiny-qwen3moe", "MXFP4")]
    + [("tiny-llama", "Q4_K_M"), ("tiny-qwen3moe", "Q4_K_M")]
    + [("tiny-gemma3", "Q4_0"), ("tiny-phi3", "Q4_K"), ("tiny-llama4", "Q4_K"), ("tiny-gpt-oss", "MXFP4")]
    + [("tiny-qwen35", "Q4_K"), ("tiny-qwen35moe", "Q4_K"), ("tiny-qwen3next", "Q4_K"), ("tiny-lfm2", "Q4_0"), ("tiny-gemma4", "Q4_K"), ("tiny-gemma4moe", "Q4_K"), ("tiny-starcoder2", "Q4_K")]
    + [("tiny-deepseek2", "Q4_K"), ("tiny-deepseek3", "Q4_K")]
)

GLOBAL_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "token_embd_norm": "model.embedding_norm",
    "per_layer_token_embd": "model.embed_tokens_per_layer",
    "per_layer_model_proj": "model.per_layer_model_projection",
    "per_layer_proj_norm": "model.per_layer_projection_norm",
    "output": "lm_head",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_sinks": "self_attn.sinks",
    "attn_qkv": "self_attn.qkv_proj",
}
# Tensors that some families name differently.
SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
OTHER_NAMES = {
    "gemma2": SANDWICH,
    "gemma3_text": SANDWICH,
    "gemma4_text": SANDWICH | {
        "inp_gate": "per_layer_input_gate",
        "proj": "per_layer_projection",
        "post_norm": "post_per_layer_input_norm",
        "layer_output_scale": "layer_scalar",
        "ffn_gate_inp": "router.proj",
        "post_ffw_norm_1": "post_feedforward_layernorm_1",
        "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
        "post_ffw_norm_2": "post_feedforward_layernorm_2",
        "ffn_gate_inp.scale": "router.scale",
        "ffn_down_exps.scale": "router.per_expert_scale",
        "ffn_gate_up_exps": "experts.gate_up_proj",
        "ffn_down_exps": "experts.down_proj",
    },
    "olmo2": SANDWICH,
    "phi3": {"ffn_up": "mlp.gate_up_proj"},
    "starcoder2": {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    "llama4_text": {
        "ffn_gate": "feed_forward.gate_proj",
        "ffn_up": "feed_forward.up_proj",
        "ffn_down": "feed_forward.down_proj",
        "ffn_gate_inp": "feed_forward.router",
        "ffn_gate_shexp": "feed_forward.shared_expert.gate_proj",
        "ffn_up_shexp": "feed_forward.shared_expert.up_proj",
        "ffn_down_shexp": "feed_forward.shared_expert.down_proj",
    },
    "gpt_oss": {"post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router"},
    "qwen3_5": {
        "post_attention_norm": "post_attention_layernorm",
        "attn_qkv": "linear_attn.in_proj_qkv",
        "attn_gate": "linear_attn.in_proj_z",
        "ssm_conv1d": "linear_attn.conv1d",
        "ssm_dt": "linear_attn.dt_bias",
        "ssm_a": "linear_attn.A_log",
        "ssm_alpha": "linear_attn.in_proj_a",
        "ssm_beta": "linear_attn.in_proj_b",
        "ssm_norm": "linear_attn.norm",
        "ssm_out": "linear_attn.out_proj",
        "ffn_gate_inp": "mlp.gate",
        "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
        "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
        "ffn_up_shexp": "mlp.shared_expert.up_proj",
        "ffn_down_shexp": "mlp.shared_expert.down_proj",
    },
}
OTHER_NAMES["lfm2"] = {
    "attn_norm": "operator_norm",
    "ffn_norm": "ffn_norm",
    "attn_q_norm": "self_attn.q_layernorm",
    "attn_k_norm": "self_attn.k_layernorm",
    "attn_output": "self_attn.out_proj",
    "ffn_gate": "feed_forward.w1",
    "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2",
    "shortconv.in_proj": "conv.in_proj",
    "shortconv.conv": "conv.conv",
    "shortconv.out_proj": "conv.out_proj",
}
LATENT = ("deepseek_v2", "deepseek_v3", "glm4_moe_lite")
OTHER_NAMES |= {kind: {
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
    "exp_probs_b": "mlp.gate.e_score_correction_bias",
} for kind in LATENT}
OTHER_NAMES |= {f"qwen3_5_{kind}": OTHER_NAMES["qwen3_5"] for kind in ("text", "moe_text")}
OTHER_NAMES["qwen3_next"] = OTHER_NAMES["qwen3_5"] | {
    "attn_qkv": "linear_attn.in_proj_qkvz", "ssm_ba": "linear_attn.in_proj_ba"}
# Families with stacked experts: the parent module, whether gate and up rows are interleaved, and whether the stack is
# transposed.
STACKED = {
    "llama4_text": ("feed_forward", False, True),
    "gpt_oss": ("mlp", True, True),
    "qwen3_5_moe_text": ("mlp", False, False),
    "qwen3_next": ("mlp", False, False),
} | {kind: ("mlp", False, False) for kind in LATENT}
# Architectures whose q and k rows llama.cpp's converter permutes, so that rows that rotate together are adjacent.
PERMUTED = ("llama", "smollm3", "granite", "mistral3")
# Tensors whose names in a checkpoint do not end in `.weight`.
BARE = ("attn_sinks", "ssm_a", "ssm_dt", "layer_output_scale", "exp_probs_b")
EXPERT_NAMES = {
    "mixtral": ("block_sparse_moe", {"ffn_gate_exps": "w1", "ffn_up_exps": "w3", "ffn_down_exps": "w2"}),
    "qwen3_moe": ("mlp", {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}),
}


def metadata(reader):
    """Keys and values, without the architecture's prefix (`llama.`)."""
    fields = {key: field.contents() for key, field in reader.fields.items()}
    arch = fields["general.architecture"]
    return {key.removeprefix(arch + "."): value for key, value in fields.items()}


def layers(meta):
    """The number of layers that run: multi-token-prediction layers follow them and are skipped."""
    return meta["block_count"] - meta.get("nextn_predict_layers", 0)


def dense(tensor):
    """The dequantized tensor in float32, with dimensions in torch's order."""
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    return torch.from_numpy(values.reshape([int(n) for n in reversed(tensor.shape)]).copy())


def unpermute(rows, heads):
    """Reverts the permutation of llama.cpp's converter: (head, i, half) to (head, half, i)."""
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def config(meta, tensors, model_type, rope):
    heads = meta["attention.head_count"]
    values = {
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),
        "hidden_size": meta["embedding_length"],
        "intermediate_size": meta["feed_forward_length"],
        "num_hidden_layers": layers(meta),
        "num_attention_heads": heads,
        "num_key_value_heads": int(np.max(meta["attention.head_count_kv"])),
        "head_dim": meta.get("attention.key_length", meta["embedding_length"] // heads),
        "max_position_embeddings": meta["context_length"],
        "rms_norm_eps": float(np.float32(meta.get("attention.layer_norm_rms_epsilon", 0.0))),
        "rope_parameters": {"rope_theta": float(meta.get("rope.freq_base", 10000.0)), "rope_type": "default"} | rope,
        "tie_word_embeddings": "output.weight" not in tensors,
        "hidden_act": "silu",
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if model_type in ("mistral", "mixtral"):
        values["sliding_window"] = meta.get("attention.sliding_window")
    values |= family(meta, tensors, model_type)
    if model_type == "mixtral":
        values |= {"num_local_experts": meta["expert_count"], "num_experts_per_tok": meta["expert_used_count"]}
    if model_type == "qwen3_moe":
        values |= {
            "num_experts": meta["expert_count"],
            "num_experts_per_tok": meta["expert_used_count"],
            "moe_intermediate_size": meta["expert_feed_forward_length"],
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    return AutoConfig.for_model(model_type, **values)


def family(meta, tensors, model_type):
    """The config settings of later families, derived from the keys of their GGUF files."""
    theta = float(meta["rope.freq_base"])
    window = meta.get("attention.sliding_window")
    yarn = {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": meta.get("rope.scaling.factor"),
        "original_max_position_embeddings": meta.get("rope.scaling.original_context_length"),
    }
    match model_type:
        case "gemma2":
            return {
                "hidden_activation": "gelu_pytorch_tanh",
                "query_pre_attn_scalar": meta["embedding_length"] // meta["attention.head_count"],
                "sliding_window": window,
                "attn_logit_softcapping": meta["attn_logit_softcapping"],
                "final_logit_softcapping": meta["final_logit_softcapping"],
            }
        case "gemma3_text":
            full = {"rope_type": "linear", "rope_theta": theta, "factor": meta["rope.scaling.factor"]}
            return {
                "hidden_activation": "gelu_pytorch_tanh",
                "query_pre_attn_scalar": meta["embedding_length"] // meta["attention.head_count"],
                "sliding_window": window,
                "rope_parameters": {
                    "full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}},
            }
        case "gemma4_text":
            local = meta["attention.sliding_window_pattern"]
            heads, ff = (np.broadcast_to(meta[key], len(local)).tolist()
                         for key in ("attention.head_count_kv", "feed_forward_length"))
            return {
                "hidden_activation": "gelu_pytorch_tanh",
                "layer_types": ["sliding_attention" if one else "full_attention" for one in local],
                "sliding_window": window,
                "head_dim": meta["attention.key_length_swa"],
                "global_head_dim": meta["attention.key_length"],
                "num_key_value_heads": heads[local.index(True)],
                "num_global_key_value_heads": heads[local.index(False)],
                "attention_k_eq_v": f"blk.{local.index(False)}.attn_v.weight" not in tensors,
                "num_kv_shared_layers": meta["attention.shared_kv_layers"],
                "intermediate_size": ff[0],
                "use_double_wide_mlp": ff[-1] > ff[0],
                "hidden_size_per_layer_input": meta["embedding_length_per_layer_input"],
                "vocab_size_per_layer_input": int(tensors["token_embd.weight"].shape[1]),
                "final_logit_softcapping": meta["final_logit_softcapping"],
                "enable_moe_block": "expert_count" in meta,
                "num_experts": meta.get("expert_count"),
                "top_k_experts": meta.get("expert_used_count"),
                "moe_intermediate_size": meta.get("expert_feed_forward_length"),
                "rope_parameters": {
                    "full_attention": {
                        "rope_type": "proportional", "rope_theta": theta, "partial_rotary_factor": 0.25},
                    "sliding_attention": {"rope_type": "default", "rope_theta": float(meta["rope.freq_base_swa"])}},
            }
        case "phi3":
            factors = {f"{n}_factor": dense(tensors[f"rope_factors_{n}.weight"]).tolist() for n in ("long", "short")}
            partial = meta["rope.dimension_count"] / (meta["embedding_length"] // meta["attention.head_count"])
            original = meta["rope.scaling.original_context_length"]
            attention = meta["rope.scaling.attn_factor"]
            return {
                "sliding_window": window,
                "partial_rotary_factor": partial,
                "original_max_position_embeddings": original,
                "rope_parameters": {
                    "rope_type": "longrope", "rope_theta": theta, "partial_rotary_factor": partial,
                    "original_max_position_embeddings": original, "attention_factor": attention} | factors,
            }
        case "starcoder2":
            epsilon = float(np.float32(meta["attention.layer_norm_epsilon"]))
            return {"hidden_act": "gelu_pytorch_tanh", "sliding_window": window, "norm_epsilon": epsilon}
        case "smollm3":
            return {"no_rope_layer_interval": 4, "use_sliding_window": False}
        case "granite":
            return {
                "embedding_multiplier": meta["embedding_scale"],
                "residual_multiplier": meta["residual_scale"],
                "attention_multiplier": meta["attention.scale"],
                "logits_scaling": meta["logit_scale"],
            }
        case "ministral3":
            return {
                "sliding_window": None,
                "rope_parameters": yarn | {
                    "beta_fast": meta["rope.scaling.yarn_beta_fast"],
                    "beta_slow": meta["rope.scaling.yarn_beta_slow"],
                    "mscale": 1.0,
                    "mscale_all_dim": meta["rope.scaling.yarn_log_multiplier"],
                    "llama_4_scaling_beta": meta["attention.temperature_scale"],
                },
            }
        case "llama4_text":
            return {
                "num_local_experts": meta["expert_count"],
                "num_experts_per_tok": meta["expert_used_count"],
                "intermediate_size": meta["expert_feed_forward_length"],
                "intermediate_size_mlp": meta["feed_forward_length"],
                "interleave_moe_layer_step": meta["interleave_moe_layer_step"],
                "attention_chunk_size": window,
                "floor_scale": meta["attention.temperature_length"],
            }
        case "qwen3_5_text" | "qwen3_5_moe_text" | "qwen3_next":
            sections = {} if model_type == "qwen3_next" else {"mrope_section": [4, 2, 2], "mrope_interleaved": True}
            head = meta["ssm.state_size"]
            every = meta["full_attention_interval"]
            partial = meta["rope.dimension_count"] / meta["attention.key_length"]
            return {
                "layer_types": ["linear_attention" if (n + 1) % every else "full_attention" for n in range(layers(meta))],
                "linear_conv_kernel_dim": meta["ssm.conv_kernel"],
                "linear_key_head_dim": head,
                "linear_value_head_dim": head,
                "linear_num_key_heads": meta["ssm.group_count"],
                "linear_num_value_heads": meta["ssm.time_step_rank"],
                "partial_rotary_factor": partial,
                "num_experts": meta.get("expert_count"),
                "num_experts_per_tok": meta.get("expert_used_count"),
                "moe_intermediate_size": meta.get("expert_feed_forward_length"),
                "shared_expert_intermediate_size": meta.get("expert_shared_feed_forward_length"),
                "rope_parameters": {
                    "rope_type": "default", "rope_theta": theta, "partial_rotary_factor": partial} | sections,
            }
        case "lfm2":
            heads = meta["attention.head_count_kv"]
            return {
                "layer_types": ["full_attention" if n else "conv" for n in heads],
                "conv_L_cache": meta["shortconv.l_cache"],
                "norm_eps": float(np.float32(meta["attention.layer_norm_rms_epsilon"])),
                "block_auto_adjust_ff_dim": False,
            }
        case "deepseek_v2" | "deepseek_v3" | "glm4_moe_lite":
            rotated = meta["rope.dimension_count"]
            lead = meta["leading_dense_block_count"]
            # The converter writes a tenth of the setting.
            mscale = meta.get("rope.scaling.yarn_log_multiplier", 0.0) * 10
            stretched = yarn | {
                "beta_fast": meta.get("rope.scaling.yarn_beta_fast"),
                "beta_slow": meta.get("rope.scaling.yarn_beta_slow"),
                "mscale": mscale,
                "mscale_all_dim": mscale,
            }
            return {
                "num_key_value_heads": meta["attention.head_count"],
                "head_dim": rotated,
                "kv_lora_rank": meta["attention.kv_lora_rank"],
                "q_lora_rank": meta.get("attention.q_lora_rank"),
                "qk_rope_head_dim": rotated,
                "qk_nope_head_dim": meta["attention.key_length_mla"] - rotated,
                "v_head_dim": meta["attention.value_length_mla"],
                "first_k_dense_replace": lead,
                "mlp_layer_types": ["dense"] * lead + ["sparse"] * (layers(meta) - lead),
                "n_routed_experts": meta["expert_count"],
                "n_shared_experts": meta["expert_shared_count"],
                "num_experts_per_tok": meta["expert_used_count"],
                "moe_intermediate_size": meta["expert_feed_forward_length"],
                "routed_scaling_factor": meta["expert_weights_scale"],
                "norm_topk_prob": meta.get("expert_weights_norm", False),
                "n_group": meta["expert_group_count"],
                "topk_group": meta["expert_group_used_count"],
                "topk_method": "group_limited_greedy",
            } | ({"rope_parameters": stretched} if mscale else {})
        case "gpt_oss":
            return {
                "num_local_experts": meta["expert_count"],
                "num_experts_per_tok": meta["expert_used_count"],
                "intermediate_size": meta["expert_feed_forward_length"],
                "sliding_window": window,
                "rope_parameters": yarn | {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
            }
    return {}


def weights(meta, tensors, model_type):
    """Maps checkpoint names to float32 tensors."""
    heads = {"attn_q": meta["attention.head_count"], "attn_k": meta["attention.head_count_kv"]}
    permuted = meta["general.architecture"] in PERMUTED
    names = BLOCK_NAMES | OTHER_NAMES.get(model_type, {})
    # GGUF stores the factor of a norm; some families' checkpoints store the factor minus one.
    plus_one = 1.0 if model_type.startswith(("gemma2", "gemma3", "qwen3_5", "qwen3_next")) else 0.0
    mlp, experts = EXPERT_NAMES.get(model_type, (None, {}))
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("rope_f"):
            continue
        value = dense(tensor)
        if "norm" in name and "ssm_norm" not in name:
            value = value - plus_one
        if "shortconv.conv" in name:
            value = value.unsqueeze(1)
        if model_type.startswith("qwen3_5"):
            value = grouped(meta, name, value)
        if model_type == "qwen3_next":
            value = beside(meta, tensors, name, value)
            if "attn_gate" in name:
                continue
        stem, kind = name.rsplit(".", 1) if not name.endswith("ssm_a") else (name, None)
        if not stem.startswith("blk."):
            state[f"{GLOBAL_NAMES[stem]}.{kind}"] = value
            continue
        _, layer, part = stem.split(".", 2)
        if int(layer) >= layers(meta):
            continue
        prefix = f"model.layers.{layer}"
        if model_type in STACKED and "exps" in part:
            continue
        if part == "attn_v_b":
            continue
        if part == "attn_k_b":
            # llama.cpp's converter splits this matrix by head, and transposes the keys' part.
            both = torch.cat([value.transpose(1, 2), dense(tensors[name.replace("attn_k_b", "attn_v_b")])], 1)
            state[f"{prefix}.self_attn.kv_b_proj.{kind}"] = both.flatten(0, 1).contiguous()
            continue
        if part in experts:
            for i, expert in enumerate(value):
                state[f"{prefix}.{mlp}.experts.{i}.{experts[part]}.{kind}"] = expert.contiguous()
        elif part == "ffn_gate_inp" and mlp:
            state[f"{prefix}.{mlp}.gate.{kind}"] = value
        else:
            if permuted and part in heads:
                value = unpermute(value, heads[part]).contiguous()
            theirs = names[part if kind != "scale" else f"{part}.scale"]
            bare = kind == "scale" or theirs.startswith("experts.") or part in BARE
            state[f"{prefix}.{theirs}" + ("" if bare else f".{kind}")] = value
    return state | stacked(meta, tensors, model_type)


def grouped(meta, name, value):
    """A Gated DeltaNet tensor in the checkpoint's layout. llama.cpp's converter reorders the value heads that share a
    key head: (value head of the key head, key head) instead of (key head, value head of it). It also stores -exp(A_log)
    instead of A_log."""
    part = name.split(".")[2] if name.startswith("blk.") else name
    keys, values, size = (meta[f"ssm.{key}"] for key in ("group_count", "time_step_rank", "state_size"))
    order = torch.arange(values).reshape(values // keys, keys).T.flatten()
    rows = (order[:, None] * size + torch.arange(size)).flatten()
    behind = torch.cat([torch.arange(2 * keys * size), 2 * keys * size + rows])
    match part:
        case "attn_qkv" if name.endswith("weight"):
            return value[behind].contiguous()
        case "ssm_conv1d":
            return value[behind].unsqueeze(1).contiguous()
        case "attn_gate":
            return value[rows].contiguous()
        case "ssm_out":
            return value[:, rows].contiguous()
        case "ssm_a":
            return (-value[order]).log()
        case "ssm_dt" | "ssm_alpha" | "ssm_beta":
            return value[order].contiguous()
        case "ffn_gate_inp_shexp":
            return value[None]
    return value


def beside(meta, tensors, name, value):
    """A tensor of Qwen3-Next's Gated DeltaNet in the checkpoint's layout: queries, keys, values and gates of a key head
    are adjacent. The converter separates them, and stores -exp(A_log) instead of A_log."""
    match name.split(".")[2] if name.startswith("blk.") else name:
        case "attn_qkv":
            keys, values, size = (meta[f"ssm.{key}"] for key in ("group_count", "time_step_rank", "state_size"))
            gates = dense(tensors[name.replace("attn_qkv", "attn_gate")])
            parts = [*value.split([keys * size, keys * size, values * size]), gates]
            return torch.cat([p.reshape(keys, -1, p.shape[-1]) for p in parts], 1).flatten(0, 1)
        case "ssm_conv1d":
            return value.unsqueeze(1)
        case "ssm_a":
            return (-value).log()
        case "ffn_gate_inp_shexp":
            return value[None]
    return value


def stacked(meta, tensors, model_type):
    """Gate and up of all experts as one tensor of (experts, columns, rows), down likewise, and their biases."""
    state = {}
    mlp, alternate, transposed = STACKED.get(model_type, (None, False, False))
    for name in tensors if mlp else []:
        if "ffn_gate_exps" not in name:
            continue
        layer, kind = name.split(".")[1], name.rsplit(".", 1)[1]
        if int(layer) >= layers(meta):
            continue
        gate, up, down = (dense(tensors[name.replace("ffn_gate", f"ffn_{part}")]) for part in ("gate", "up", "down"))
        # (experts, rows, columns), or (experts, rows)
        both = torch.stack([gate, up], 2).flatten(1, 2) if alternate else torch.cat([gate, up], 1)
        end = "_bias" if kind == "bias" else ""
        for part, value in (("gate_up_proj", both), ("down_proj", down)):
            value = value.transpose(1, 2) if transposed and not end else value
            state[f"model.layers.{layer}.{mlp}.experts.{part}{end}"] = value.contiguous()
    return state


OTHER_PARTS = re.compile(r"vision|multi_modal")


def load_folder(folder):
    named = json.loads(Path(folder, "config.json").read_text()).get("architectures")
    kind = getattr(transformers, named[0]) if named else AutoModelForCausalLM
    model, info = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    # For multimodal models, the folders here contain only the language model.
    info["missing_keys"] = [key for key in info["missing_keys"] if not OTHER_PARTS.search(key)]
    problems = {key: value for key, value in info.items() if value}
    assert not problems, f"{folder}: {problems}"
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return model.eval()


def load(path, model_type, rope):
    """Loads a GGUF file by way of a folder, so that transformers' loader checks every name and shape."""
    reader = gguf.GGUFReader(path)
    meta, tensors = metadata(reader), {t.name: t for t in reader.tensors}
    with tempfile.TemporaryDirectory() as folder:
        config(meta, tensors, model_type, rope).save_pretrained(folder)
        safetensors.torch.save_file(
            weights(meta, tensors, model_type), f"{folder}/model.safetensors", metadata={"format": "pt"})
        model = load_folder(folder)
    if "rope_freqs.weight" in tensors:
        factors = dense(tensors["rope_freqs.weight"]).double()
        rope = model.config.rope_parameters
        rope = rope.get("full_attention", rope)
        plain = 1.0 / rope["rope_theta"] ** (torch.arange(len(factors), dtype=torch.float64) / len(factors))
        rotary = model.model.rotary_emb
        theirs = getattr(rotary, "full_attention_inv_freq" if "gemma4" in model_type else "inv_freq")
        torch.testing.assert_close(theirs.double(), plain / factors, rtol=1e-5, atol=1e-20)
    return model


def experts_used(model):
    """The number of experts per token, or None for a dense model."""
    return getattr(model.config, "num_experts_per_tok", None) or getattr(model.config, "top_k_experts", None)


@torch.no_grad()
def run(model, ids):
    """At every position: the logits, and for MoE models the smallest router gap (see `gaps`)."""
    moe = experts_used(model)
    seen = []

    def see(module, _, out):
        # Llama 4's routers return scores first, Gemma 4's return probabilities.
        name = type(module).__name__
        logits = out[1] if name == "Llama4Router" else out[0].log() if name == "Gemma4TextRouter" else out[0]
        seen.append(gaps(module, logits, moe))

    hooks = [
        module.register_forward_hook(see)
        for module in model.modules() if moe and type(module).__name__.endswith("Router")
    ]
    out = model(torch.tensor([ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    assert bool(seen) == bool(moe)
    return out.logits[0], torch.stack(seen).min(0).values if moe else None


def lead(values, count):
    """The lead of the smallest of the `count` largest values over the next one."""
    ordered = values.sort(descending=True).values
    return ordered[..., count - 1] - ordered[..., count]


def gaps(router, logits, used):
    """For each row, the lead of the last selected expert over the first rejected one, or that of the last selected
    group if it is smaller. Scores of routers with sigmoids and a bias are multiplied by four, since they change by at
    most a fourth of the change in logits."""
    bias = getattr(router, "e_score_correction_bias", None)
    choice = logits if bias is None else 4 * (logits.sigmoid() + bias)
    groups = getattr(router, "num_group", 1)
    if groups == 1:
        return lead(choice, used)
    choice = choice.view(len(choice), groups, -1)
    good = choice.topk(1 if bias is None else 2).values.sum(-1)
    refused = torch.ones_like(good, dtype=torch.bool).scatter(1, good.topk(router.topk_group).indices, False)
    rest = choice.masked_fill(refused[..., None], -torch.inf).flatten(1)
    return torch.minimum(lead(good, router.topk_group), lead(rest, used))


def greedy(model, ids, count):
    """The `count` greedy tokens after `ids`, and the lead of each over the second; None if one lead is too small."""
    ids, margins = list(ids), []
    for _ in range(count):
        logits, gap = run(model, ids)
        best = logits[-1].topk(2)
        margins.append(round((best.values[0] - best.values[1]).item(), 4))
        if margins[-1] < LEAD or (gap is not None and gap[-1] < LEAD / 5):
            return None
        ids.append(best.indices[0].item())
    return {"ids": ids[-count:], "margins": margins}


def clear_greedy(model, ids):
    """A greedy continuation without near-ties, after the longest part of the short prompt that has one."""
    for start in range(SHORT, 0, -1):
        if found := greedy(model, ids[:start], GREEDY):
            return {"start": start} | found
    raise ValueError("every start leads to a near-tie")


def prompt(long, short):
    """Pseudorandom tokens below 256, which every vocabulary here has. Skips tokens that cause a near-tie in a model's
    router (models of `short` are checked only near the start), because rounding would decide there."""
    ids, n = [], 0
    while len(ids) < LONG:
        more = ids + [zlib.crc32(b"token %d" % n) % 256]
        n += 1
        if all(run(model, more)[1][-1] > CLEAR for model in (long + short if len(more) <= SHORT else long)):
            ids = more
    return ids


def make(shape, types, ids, path):
    model = load(path, *SHAPES[shape])
    own = experts_used(model) and SHAPES[shape][0] not in EXPERT_NAMES
    if own:
        ids = prompt([model], [])
    logits, gap = run(model, ids[:SHORT])
    name = f"{shape}.{types}.short.f32"
    logits.numpy().astype("<f4").tofile(HERE / name)
    case = {"shape": shape, "types": types, "crc32": zlib.crc32(path.read_bytes()), "vocab": logits.shape[1], "short": name}
    if types == "F32":
        logits, gap = run(model, ids)
        name = f"{shape}.{types}.long.f16"
        logits.numpy().astype("<f2").tofile(HERE / name)
        case["long"] = name
    if gap is not None:
        case["router_margin"] = round(gap.min().item(), 4)
    if own:
        case["prompt"] = ids
    case["greedy"] = clear_greedy(model, ids)
    describe(case, logits)
    return case


def describe(case, logits):
    best = logits.topk(2).values
    margins = best[:, 0] - best[:, 1]
    top = logits.softmax(-1).max(-1).values
    print(f"{case['shape']:14} {case['types']:7} std {logits.std():.2f}  top-1 {top.min():.2f} {top.median():.2f} {top.max():.2f}"
          f"  margin > 0.05: {(margins > 0.05).float().mean():.2f}  experts {case.get('router_margin')}"
          f"  greedy from {case['greedy']['start']}, distinct {len(set(case['greedy']['ids']))}", flush=True)


def cross_check(directory, synth, ids):
    """Checks that two other ways into transformers give the same logits as this translation of the GGUF file."""
    for shape in SHAPES:
        model_type, rope = SHAPES[shape]
        path = model_file(directory, synth, shape, "F32")
        ours, _ = run(load(path, model_type, rope), ids)
        folder = model_file(directory, synth, shape, "F32", "/")
        theirs, _ = run(load_folder(folder), ids)
        print(f"{shape:14} own folder     max difference {(ours - theirs).abs().max():.1e}", flush=True)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        if shape in ("tiny-llama", "tiny-qwen2", "tiny-qwen3"):
            model = AutoModelForCausalLM.from_pretrained(
                directory, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager")
            theirs, _ = run(model.eval(), ids)
            print(f"{shape:14} gguf_file=     max difference {(ours - theirs).abs().max():.1e}", flush=True)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def model_file(directory, synth, shape, types, end=".gguf"):
    path = f"{directory}/{shape}.{types}{end}"
    subprocess.run([*synth, shape, types, path], check=True)
    return Path(path)


def main():
    directory, synth = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    directory.mkdir(parents=True, exist_ok=True)
    files = {case: model_file(directory, synth, *case) for case in CASES}
    mixtures = [case for case in CASES if SHAPES[case[0]][0] in EXPERT_NAMES]
    ids = prompt(*([load(files[c], *SHAPES[c[0]]) for c in mixtures if (c[1] == "F32") == f32] for f32 in (True, False)))
    cross_check(directory, synth, ids[:SHORT])
    cases = [make(*case, ids, files[case]) for case in CASES]
    made_by = {m.__name__: m.__version__ for m in (transformers, torch, np)} | {"gguf": importlib.metadata.version("gguf")}
    head = json.dumps({"made_by": made_by, "short": SHORT, "prompt": ids})[1:-1]
    rows = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "goldens.json").write_text(f"{{{head},\n\"cases\": [\n{rows}\n]}}\n")


if __name__ == "__main__":
    main()
