"""Writes a checkpoint as GGUF: `python export.py build/checkpoint.pt ../demo.gguf` (Q8_0; --type F32 and others)."""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np

from train import END, SPECIALS, load

# ChatML, in Jinja that every runtime supports.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TYPES = {"F32": gguf.LlamaFileType.ALL_F32, "F16": gguf.LlamaFileType.MOSTLY_F16, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
         "Q5_0": gguf.LlamaFileType.MOSTLY_Q5_0, "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}  # fmt: skip


def write_keys(w, shape, kind):
    w.add_name("Firelight Demo")
    w.add_description("The small guide built into Firelight, trained from scratch on generated text")
    w.add_license("MIT OR Apache-2.0")
    w.add_file_type(TYPES[kind])
    w.add_context_length(shape.context)
    w.add_embedding_length(shape.hidden)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.ffn)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_key_length(shape.head_dim)
    w.add_value_length(shape.head_dim)
    w.add_layer_norm_rms_eps(shape.eps)
    w.add_rope_freq_base(shape.rope_base)
    w.add_vocab_size(shape.vocab)


def write_tokenizer(w, tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([control if token in SPECIALS else normal for token in tokens])
    w.add_token_merges([" ".join(merge) for merge in model["merges"]])
    w.add_eos_token_id(END)
    w.add_pad_token_id(SPECIALS.index("<|endoftext|>"))
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)


def export(checkpoint, path, kind):
    model, tokenizer = load(checkpoint)
    w = gguf.GGUFWriter(path, "qwen3")
    write_keys(w, model.shape, kind)
    write_tokenizer(w, tokenizer)
    for name, tensor in model.state_dict().items():
        data = tensor.float().numpy()
        if data.ndim == 1 or kind == "F32":
            w.add_tensor(name + ".weight", data)
        else:
            quant = gguf.GGMLQuantizationType[kind]
            w.add_tensor(name + ".weight", gguf.quants.quantize(np.ascontiguousarray(data), quant), raw_dtype=quant)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(f"{path}: {Path(path).stat().st_size:,} bytes, {sum(p.numel() for p in model.parameters()):,} parameters")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="Q8_0", choices=TYPES)
    args = parser.parse_args()
    export(args.checkpoint, args.out, args.type)


if __name__ == "__main__":
    main()
