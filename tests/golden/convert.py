#!/usr/bin/env python3
"""Writes tests/golden/converted: tiny models of every family, converted by llama.cpp's converter, and the logits that
transformers computes for them in float32. See README.md.

    python tests/golden/convert.py LLAMA_CPP_FOLDER
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

OUT = Path(__file__).parent / "converted"
VOCAB, WIDTH, CONTEXT = 64, 32, 256
GREEDY, LEAD = 8, 0.05
FULL, NEAR = "full_attention", "sliding_attention"

NOT_HAD = object()
BASE = {
    "vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-3, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
ORIGINAL = 48
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": ORIGINAL}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
QWEN_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4, "layer_types": ["linear_attention", FULL], "head_dim": 16,
}
LATENT = {
    "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
GEMMA = {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}
GEMMA4 = GEMMA | {
    "global_head_dim": 32, "sliding_window": 12, "num_hidden_layers": 4, "layer_types": [NEAR, FULL] * 2,
    "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "vocab_size_per_layer_input": VOCAB,
}
BOTH_BIASES = {"attention_bias": True, "mlp_bias": True}

# Name: GGUF's architecture, transformers' model type, settings, and options for the conversion.
CASES = {
    "llama2": ("llama", "llama", {"num_key_value_heads": 4}, {}),
    "llama3": ("llama", "llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE}, {}),
    "llama-biases": ("llama", "llama", BOTH_BIASES, {"fuse_qkv": True}),
    "llama-linear": ("llama", "llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}, {}),
    "llama-yarn": ("llama", "llama", {"rope_parameters": YARN | {"beta_fast": 16.0, "beta_slow": 2.0}}, {}),
    "llama-yarn-factor": ("llama", "llama", {"rope_parameters": YARN | {"attention_factor": 1.5}}, {}),
    "mistral": ("llama", "mistral", {"head_dim": 16, "sliding_window": None}, {}),
    "mixtral": ("llama", "mixtral", EXPERTS | {"sliding_window": None}, {}),
    "llama4": ("llama4", "llama4_text", EXPERTS | {
        "num_experts_per_tok": 1, "num_hidden_layers": 4, "head_dim": 8, "intermediate_size": 32, "intermediate_size_mlp": 48,
        "interleave_moe_layer_step": 2, "use_qk_norm": True, "rope_parameters": LLAMA3_ROPE}, {}),
    "llama4-small": ("llama4", "llama4_text", EXPERTS | {
        "num_experts_per_tok": 1, "head_dim": 8, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 1,
        "use_qk_norm": True, "layer_types": [FULL] * 2, "no_rope_layers": [1, 1], "num_local_experts": 4}, {}),
    "mistral3": ("mistral3", "ministral3", {"head_dim": 16, "sliding_window": None, "rope_parameters": YARN | {
        "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1, "beta_fast": 32.0, "beta_slow": 1.0}}, {}),
    "qwen2": ("qwen2", "qwen2", {"tie_word_embeddings": True}, {}),
    "qwen2-fused": ("qwen2", "qwen2", {"rope_parameters": YARN}, {"fuse_qkv": True}),
    "qwen3": ("qwen3", "qwen3", {"head_dim": 16}, {}),
    "qwen3moe": ("qwen3moe", "qwen3_moe", QWEN_EXPERTS | {"head_dim": 16, "norm_topk_prob": True}, {}),
    "qwen3moe-fused": ("qwen3moe", "qwen3_moe", QWEN_EXPERTS | {
        "head_dim": 8, "norm_topk_prob": True, "attention_bias": True}, {"fuse_qkv": True}),
    "qwen35": ("qwen35", "qwen3_5_text", DELTA, {"mtp": True}),
    "qwen35moe": ("qwen35moe", "qwen3_5_moe_text", DELTA | QWEN_EXPERTS | {
        "shared_expert_intermediate_size": 16}, {"mtp": False, "fuse_gate_up_exps": True, "fuse_qkv": True}),
    "qwen3next": ("qwen3next", "qwen3_next", DELTA | QWEN_EXPERTS | {"shared_expert_intermediate_size": 16}, {"mtp": False}),
    "lfm2": ("lfm2", "lfm2", {
        "layer_types": ["conv", FULL, "conv"], "num_hidden_layers": 3, "conv_L_cache": 3, "block_multiple_of": 16,
        "norm_eps": 1e-3, "tie_word_embeddings": True}, {}),
    "deepseek2-lite": ("deepseek2", "deepseek_v2", LATENT | {"q_lora_rank": None, "topk_method": "greedy"}, {}),
    "deepseek2": ("deepseek2", "deepseek_v2", LATENT | {
        "q_lora_rank": 16, "topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1,
        "routed_scaling_factor": 2.0, "norm_topk_prob": False}, {}),
    "deepseek3": ("deepseek2", "deepseek_v3", LATENT | {
        "q_lora_rank": 16, "n_group": 2, "topk_group": 1, "routed_scaling_factor": 2.5, "norm_topk_prob": True,
        "rope_interleave": True,
        "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32.0, "beta_slow": 1.0}}, {}),
    "glm4-flash": ("deepseek2", "glm4_moe_lite", LATENT | {
        "q_lora_rank": 16, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.8, "norm_topk_prob": True,
        "mlp_layer_types": ["dense", "sparse"]}, {}),
    "gemma2": ("gemma2", "gemma2", GEMMA | {
        "sliding_window": 12, "num_hidden_layers": 3, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 4.0,
        "final_logit_softcapping": 5.0}, {}),
    "gemma3": ("gemma3", "gemma3_text", GEMMA | {
        "sliding_window": 12, "num_hidden_layers": 7, "intermediate_size": 32, "query_pre_attn_scalar": 16}, {}),
    "gemma3-linear": ("gemma3", "gemma3_text", GEMMA | {
        "sliding_window": 12, "num_hidden_layers": 7, "intermediate_size": 32, "query_pre_attn_scalar": 16,
        "rope_parameters": {
            FULL: {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            NEAR: {"rope_type": "default", "rope_theta": 1e4}}}, {}),
    "gemma4": ("gemma4", "gemma4_text", GEMMA4 | {"final_logit_softcapping": 5.0}, {}),
    "gemma4moe": ("gemma4", "gemma4_text", GEMMA4 | {
        "enable_moe_block": True, "num_hidden_layers": 2, "layer_types": [NEAR, FULL], "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16,
        "num_global_key_value_heads": 1, "attention_k_eq_v": True}, {"fuse_gate_up_exps": True}),
    "gemma4-e2b": ("gemma4", "gemma4_text", GEMMA4 | {
        "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2, "use_double_wide_mlp": True}, {}),
    "gpt-oss": ("gpt-oss", "gpt_oss", EXPERTS | {
        "head_dim": 16, "sliding_window": 12, "layer_types": [NEAR, FULL], "rope_parameters": YARN | {
            "rope_theta": 1.5e5, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}}, {}),
    "gpt-oss-mxfp4": ("gpt-oss", "gpt_oss", EXPERTS | {
        "head_dim": 8, "sliding_window": 12, "layer_types": [NEAR, FULL], "intermediate_size": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1.5e5}}, {"mxfp4": True}),
    "phi3": ("phi3", "phi3", {"sliding_window": 12, "original_max_position_embeddings": CONTEXT}, {}),
    "phi3-long": ("phi3", "phi3", {
        "sliding_window": None, "original_max_position_embeddings": ORIGINAL, "rope_parameters": LONG_ROPE | {
            "short_factor": [1.0, 1.05, 1.2, 1.5], "long_factor": [1.0, 1.5, 4.0, 9.0]}}, {"short": "phi3-short"}),
    "phi4-mini": ("phi3", "phi3", {
        "sliding_window": None, "original_max_position_embeddings": ORIGINAL, "tie_word_embeddings": True,
        "num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": LONG_ROPE | {
            "partial_rotary_factor": 0.75, "short_factor": [1.0] * 6, "long_factor": [1, 1.25, 1.5, 2, 5, 8]}},
        {"short": "phi4-mini-short"}),
    "smollm3": ("smollm3", "smollm3", {"num_hidden_layers": 4, "tie_word_embeddings": True, "use_sliding_window": False}, {}),
    "granite": ("granite", "granite", {
        "attention_multiplier": 0.2, "embedding_multiplier": 6.0, "residual_multiplier": 0.25, "logits_scaling": 0.5}, {}),
    "granite4": ("granite", "granitemoehybrid", {
        "layer_types": ["attention"] * 2, "position_embedding_type": "rope", "num_local_experts": 0,
        "num_experts_per_tok": 0, "shared_intermediate_size": 48, "mamba_n_heads": 8, "mamba_d_head": 8,
        "mamba_d_state": 16, "mamba_expand": 2,
        "attention_multiplier": 0.25, "embedding_multiplier": 6.0, "residual_multiplier": 0.25, "logits_scaling": 0.5}, {}),
    "olmo2": ("olmo2", "olmo2", {}, {}),
    "olmo3": ("olmo2", "olmo3", {"sliding_window": 12, "num_hidden_layers": 4, "rope_parameters": {
        FULL: YARN | {"attention_factor": 1.138629436111989, "beta_fast": 32.0, "beta_slow": 1.0},
        NEAR: {"rope_type": "default", "rope_theta": 1e4}}}, {}),
    "starcoder2": ("starcoder2", "starcoder2", {
        "use_bias": True, "rms_norm_eps": NOT_HAD, "norm_epsilon": 1e-3, "tie_word_embeddings": True, "sliding_window": None}, {}),
}


def fill(model, seed):
    """Fills in weights with few distinct values, so that files compress; each is exact in BF16."""
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for name in sorted(state):
        value = state[name]
        if not value.is_floating_point() or "inv_freq" in name:
            continue
        steps = torch.randint(-2, 3, value.shape, generator=generator).float()
        if value.ndim >= 2 and "embed" not in name:
            gain = 2.0 if "lm_head" in name else 1.0
            steps *= gain * 2.0 ** -round(np.log2(np.sqrt(2 * value.shape[-1])))
        elif "embed" in name:
            steps *= 0.5
        elif name.endswith("layer_scalar"):
            steps = 1 + steps / 8
        elif "norm" in name and name.endswith("weight"):
            # Some families multiply by the weight plus one.
            steps = value + steps / 8
        else:
            steps /= 8
        value.copy_(steps)
    model.tie_weights()


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, ids):
    """A greedy continuation without near-ties, and the length of the part of the prompt before it."""
    for start in range(ORIGINAL + 1 if len(ids) > ORIGINAL else len(ids) // 2, 0, -1):
        more = ids[:start]
        while len(more) < start + GREEDY:
            best = logits(model, more)[-1].topk(2)
            if best.values[0] - best.values[1] < LEAD:
                break
            more = more + [best.indices[0].item()]
        else:
            return {"start": start, "ids": more[start:]}
    raise ValueError("every start leads to a near-tie")


def tokenizer(writer):
    """Replaces the converter's vocabulary step, which recognizes tokenizers by their output for a fixed text."""
    names = ["<pad>", "<s>", "</s>", "!\""] + [chr(ord("!") + i) for i in range(VOCAB - 4)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(names)
    writer.add_token_types([3] * 3 + [1] * (VOCAB - 3))
    writer.add_token_merges(["! \""])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def add_mtp(folder, layer):
    """Adds multi-token-prediction weights, which published checkpoints have and transformers does not write."""
    path = Path(folder, "model.safetensors")
    state = load_file(path)
    prefix = f"model.layers.{layer}."
    mtp = {f"mtp.layers.0.{name[len(prefix):]}": value.clone() for name, value in state.items() if name.startswith(prefix)}
    mtp |= {f"mtp.{name}.weight": torch.ones(WIDTH) for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")}
    save_file(state | mtp | {"mtp.fc.weight": torch.ones(WIDTH, 2 * WIDTH)}, path, metadata={"format": "pt"})


def pack_mxfp4(folder):
    """Rewrites experts in OpenAI's published format: 16 bytes for 32 weights of four bits, and a byte for their scale.
    This is lossless for the weights of `fill`."""
    path, config = Path(folder, "model.safetensors"), Path(folder, "config.json")
    state = load_file(path)
    for name in [name for name in state if name.endswith(("gate_up_proj", "down_proj"))]:
        value = state.pop(name).transpose(1, 2)
        step = value[value != 0].abs().min()
        # The codes of 0, 1 and 2, with a sign bit.
        codes = (value / step).abs().to(torch.uint8) * 2 + (value < 0) * 8
        codes = codes.to(torch.uint8).unflatten(-1, (-1, 16, 2))
        state[f"{name}_blocks"] = (codes[..., 0] | codes[..., 1] << 4).contiguous()
        state[f"{name}_scales"] = torch.full(state[f"{name}_blocks"].shape[:-1], 127 + int(step.log2()), dtype=torch.uint8)
    save_file(state, path, metadata={"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}))


def convert(folder, out, asked):
    """Does the same as `convert_hf_to_gguf.py --outtype bf16`."""
    import conversion
    from conversion import ModelBase, ModelType

    hparams = ModelBase.load_hparams(folder, False)
    if hparams["model_type"] == "granitemoehybrid":
        # The published files' name of these layers. transformers 5 renames them, and the converter would then find no
        # attention layers.
        hparams["layer_types"] = ["attention"] * hparams["num_hidden_layers"]
    hf = conversion.get_model_architecture(hparams, ModelType.TEXT)
    kind = conversion.get_model_class(hf)
    kind = type(kind.__name__, (kind,), {"model_arch": kind.model_arch, "set_vocab": lambda self: tokenizer(self.gguf_writer)})
    if hasattr(kind, "no_mtp"):
        kind.no_mtp = asked.get("mtp") is False
    flags = {key: asked[key] for key in ("fuse_qkv", "fuse_gate_up_exps") if key in asked}
    with torch.inference_mode():
        model = kind(Path(folder), conversion.base.gguf.LlamaFileType.MOSTLY_BF16, out, hparams=hparams, model_name=out.stem, **flags)
        model = getattr(model, "impl", model)
        model.set_vocab = lambda: tokenizer(model.gguf_writer)
        model.write()


def make(name):
    arch, model_type, settings, asked = CASES[name]
    seed = sum(map(ord, name))
    # transformers modifies the settings that it is given.
    settings = {key: value for key, value in (BASE | settings).items() if value is not NOT_HAD}
    config = AutoConfig.for_model(model_type, **json.loads(json.dumps(settings)))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    fill(model, seed)
    file = f"{name}.gguf"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        vocab = {f"t{n}": n for n in range(VOCAB)}
        Path(folder, "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": []}))
        if asked.get("mtp"):
            add_mtp(folder, config.num_hidden_layers - 1)
        if asked.get("mxfp4"):
            pack_mxfp4(folder)
        convert(Path(folder), OUT / file, asked)
    length = ORIGINAL + 16 if "short" in asked else ORIGINAL - 8
    ids = torch.randint(3, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    prompts = {name: ids} | ({asked["short"]: ids[: ORIGINAL - 8]} if "short" in asked else {})
    return [golden(name, arch, file, model, ids) for name, ids in prompts.items()]


def golden(name, arch, file, model, ids):
    values = logits(model, ids)
    (OUT / f"{name}.f32").write_bytes(values.numpy().astype("<f4").tobytes())
    case = {"name": name, "arch": arch, "file": file, "prompt": ids, "greedy": greedy(model, ids)}
    size, rms, start = (OUT / file).stat().st_size, values.pow(2).mean().sqrt(), case["greedy"]["start"]
    print(f"{name:18} {size:7} bytes, rms {rms:.2f}, greedy from {start}", flush=True)
    return case


def main():
    source = sys.argv[1]
    sys.path[:0] = [source, f"{source}/gguf-py"]
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    OUT.mkdir(exist_ok=True)
    cases = [case for name in CASES for case in make(name)]
    made_by = {m.__name__: m.__version__ for m in (transformers, torch, np)}
    rows = ",\n".join(json.dumps(case) for case in cases)
    (OUT / "converted.json").write_text(f'{{"made_by": {json.dumps(made_by)},\n"cases": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
