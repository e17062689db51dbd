#!/usr/bin/env python3
"""Writes oracle.json: llama.cpp's results for the published checkpoints, with their weights dequantized to F32.

    eval "$(scripts/checkpoints.sh)"
    npm install --ignore-scripts --prefix DIR @node-llama-cpp/linux-x64@3.22.1     # llama.cpp, compiled
    pip install gguf==0.19.0 jinja2
    tests/checkpoints/oracle.py DIR/node_modules/@node-llama-cpp/linux-x64 "$FIRELIGHT_CHECKPOINTS"

llama.cpp runs without flash attention and with an F32 KV cache, so nothing is rounded to less than F32. The two largest
logits of every greedy step must differ by at least MIN_GAP: rounding decides a near-tie, so two programs may disagree
on it. Replace a prompt that fails this check.
"""

import ctypes as c
import json
import math
import re
import sys
import tempfile
from pathlib import Path

import gguf
import jinja2
import numpy as np
from gguf.quants import dequantize

HERE = Path(__file__).parent
STEPS = 48
MIN_GAP = 1e-3
# Tokens per chunk, as in `firelight perplexity` and llama-perplexity. Gemma's sliding windows have 512.
CHUNKS = (512, 1024)

CHECKPOINTS = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": {
        "texts": [
            "The capital of France is",
            "Once upon a time, in a small village by the sea,",
            "def fibonacci(n):\n",
            "Der schnelle braune Fuchs springt über",
        ],
        "chat": "Explain gravity to a child in one sentence.",
    },
    "gemma-3-270m-q4_k_m.gguf": {
        "texts": [
            "The capital of France is",
            "Once upon a time, in a small village by the sea,",
            "def fibonacci(n):\n",
            "Der schnelle braune Fuchs springt über",
        ],
        "chat": "Explain gravity to a child in one sentence.",
    },
}


def dequantized(source, target):
    """Writes a GGUF file with every tensor in F32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind, element = field.types[0], field.types[-1]
        element = element if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=element)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return reader


class ModelParams(c.Structure):
    """Passed by value and never read here. Larger than llama.cpp's struct, which is harmless."""

    _fields_ = [("words", c.c_uint32 * 64)]


class ContextParams(c.Structure):
    """The fields of llama_context_params that this script sets, at their offsets in this version of llama.cpp."""

    _fields_ = [
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("_1", c.c_uint32 * 10),
        ("flash_attn", c.c_int32),
        ("_2", c.c_uint32 * 12),
        ("type_k", c.c_int32),
        ("type_v", c.c_int32),
        ("_3", c.c_uint32 * 36),
    ]


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32)] + [(name, c.c_void_p) for name in ("token", "embd", "pos", "n", "seq", "out")]


class Llama:
    """A model in llama.cpp. Each sequence uses a new context."""

    def __init__(self, folder):
        binaries = folder / "bins/linux-x64"
        for name in ("libggml-base.so", "libggml.v*.so", "libllama.v*.so"):
            self.lib = c.CDLL(str(next(binaries.glob(name))), mode=c.RTLD_GLOBAL)
        common = c.CDLL(str(binaries / "libllama-common.so"))
        lib, pointer, text = self.lib, c.c_void_p, c.c_char_p
        for name, result, *arguments in [
            ("llama_version", text),
            ("llama_model_default_params", ModelParams),
            ("llama_context_default_params", ContextParams),
            ("llama_model_load_from_file", pointer, text, ModelParams),
            ("llama_model_free", None, pointer),
            ("llama_model_get_vocab", pointer, pointer),
            ("llama_vocab_n_tokens", c.c_int32, pointer),
            ("llama_vocab_is_eog", c.c_bool, pointer, c.c_int32),
            ("llama_vocab_get_add_bos", c.c_bool, pointer),
            ("llama_vocab_bos", c.c_int32, pointer),
            ("llama_tokenize", c.c_int32, pointer, text, c.c_int32, pointer, c.c_int32, c.c_bool, c.c_bool),
            ("llama_token_to_piece", c.c_int32, pointer, c.c_int32, text, c.c_int32, c.c_int32, c.c_bool),
            ("llama_init_from_model", pointer, pointer, ContextParams),
            ("llama_free", None, pointer),
            ("llama_set_n_threads", None, pointer, c.c_int32, c.c_int32),
            ("llama_decode", c.c_int32, pointer, Batch),
            ("llama_get_logits_ith", c.POINTER(c.c_float), pointer, c.c_int32),
        ]:
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
        self.log = c.CFUNCTYPE(None, c.c_int, text, pointer)(lambda *_: None)
        lib.llama_log_set(self.log, None)
        lib.ggml_log_set(self.log, None)
        lib.ggml_backend_load_all_from_path(str(binaries).encode())
        commit = text.in_dll(common, "LLAMA_COMMIT").value.decode()
        self.version = f"llama.cpp {lib.llama_version().decode()} ({commit})"

    def open(self, path):
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        assert self.model, f"llama.cpp cannot load {path}"
        self.vocab = self.lib.llama_model_get_vocab(self.model)

    def tokenize(self, text, special):
        """Tokens of a text, with BOS if the model adds one. `special` parses special tokens."""
        data = text.encode()
        out = (c.c_int32 * (len(data) + 8))()
        return list(out[: self.lib.llama_tokenize(self.vocab, data, len(data), out, len(out), True, special)])

    def text(self, tokens):
        out = c.create_string_buffer(256)
        lengths = (self.lib.llama_token_to_piece(self.vocab, token, out, len(out), 0, False) for token in tokens)
        return b"".join(out.raw[:length] for length in lengths).decode()

    def context(self):
        params = self.lib.llama_context_default_params()
        before = (params.n_batch, params.n_ubatch, params.flash_attn, params.type_k, params.type_v)
        assert before == (2048, 512, -1, 1, 1), f"llama_context_params has another layout: {before}"
        params.n_ctx, params.flash_attn, params.type_k, params.type_v = max(CHUNKS), 0, 0, 0
        context = self.lib.llama_init_from_model(self.model, params)
        self.lib.llama_set_n_threads(context, 1, 1)
        return context

    def logits(self, context, tokens, scored):
        """Runs tokens and yields the logits at the indices in `scored`."""
        ids = (c.c_int32 * len(tokens))(*tokens)
        out = (c.c_int8 * len(tokens))(*(i in scored for i in range(len(tokens))))
        batch = Batch(len(tokens), c.addressof(ids), None, None, None, None, c.addressof(out))
        assert self.lib.llama_decode(context, batch) == 0
        n = self.lib.llama_vocab_n_tokens(self.vocab)
        for i in scored:
            yield np.ctypeslib.as_array(self.lib.llama_get_logits_ith(context, i), (n,)).copy()

    def greedy(self, prompt):
        """The greedy continuation, without the end-of-generation token, and the smallest gap."""
        context, tokens, ids, gap = self.context(), prompt, [], math.inf
        while len(ids) < STEPS:
            [logits] = self.logits(context, tokens, [len(tokens) - 1])
            second, first = np.partition(logits, -2)[-2:]
            gap = min(gap, float(first - second))
            tokens = [int(logits.argmax())]
            if self.lib.llama_vocab_is_eog(self.vocab, tokens[0]):
                break
            ids += tokens
        self.lib.llama_free(context)
        return ids, gap

    def perplexity(self, tokens, size):
        """The perplexity after each chunk of `size` tokens, of which the second half is scored. BOS replaces a chunk's
        first token if the model adds BOS."""
        total = []
        for at in range(0, len(tokens) - size + 1, size):
            chunk = tokens[at : at + size]
            if self.lib.llama_vocab_get_add_bos(self.vocab):
                chunk[0] = self.lib.llama_vocab_bos(self.vocab)
            context, scored = self.context(), range(size // 2, size - 1)
            for i, logits in zip(scored, self.logits(context, chunk, scored)):
                x = logits.astype(np.float64) - logits.max()
                total.append(math.log(np.exp(x).sum()) - x[chunk[i + 1]])
            self.lib.llama_free(context)
            yield round(math.exp(sum(total) / len(total)), 5)


def chat_prompt(reader, user):
    """The text of a conversation's first turn, by the file's template, or Gemma's if the file has none."""
    field = reader.fields.get("tokenizer.chat_template")
    if field is None:
        return f"<start_of_turn>user\n{user}<end_of_turn>\n<start_of_turn>model\n"
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(field.contents())
    return template.render(messages=[{"role": "user", "content": user}], add_generation_prompt=True)


def main(folder, checkpoints):
    llama = Llama(Path(folder))
    text = (HERE / "text.txt").read_text()
    files = {}
    for name, prompts_of in CHECKPOINTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / "f32.gguf"
            reader = dequantized(Path(checkpoints) / name, target)
            llama.open(target)
            asked = [(False, text, text) for text in prompts_of["texts"]]
            asked.append((True, prompts_of["chat"], chat_prompt(reader, prompts_of["chat"])))
            prompts = []
            for chat, prompt, rendered in asked:
                prompt_ids = llama.tokenize(rendered, chat)
                ids, gap = llama.greedy(prompt_ids)
                print(f"{name}: {prompt!r}: gap {gap:.4f}, {len(ids)} tokens: {llama.text(ids)!r}")
                assert gap >= MIN_GAP, "a near-tie: use another prompt"
                row = {"chat": chat, "prompt": prompt, "prompt_ids": prompt_ids, "greedy_ids": ids}
                prompts.append(row | {"text": llama.text(ids), "smallest_gap": round(gap, 4)})
            tokens = llama.tokenize(text, False)
            perplexity = {size: list(llama.perplexity(tokens, size)) for size in CHUNKS}
            print(f"{name}: {len(tokens)} tokens: {perplexity}")
            files[name] = {"prompts": prompts, "perplexity": perplexity}
            llama.lib.llama_model_free(llama.model)
    oracle = {"made_by": llama.version, "steps": STEPS, "files": files}
    lines = json.dumps(oracle, ensure_ascii=False, indent=1)
    # Puts lists of numbers on one line.
    lines = re.sub(r"\[[\d.,\s]+\]", lambda found: re.sub(r"\s+", " ", found[0]), lines)
    (HERE / "oracle.json").write_text(lines + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
