#!/usr/bin/env python3
"""Measures the accuracy of the rounding tiers: the error of their logits, llama.cpp's error, and perplexity.

    pip install -r benches/requirements.txt        # builds llama.cpp for the CPU
    benches/rounding.py target/release/firelight   # the program, optionally after a wrapper and its arguments

The model is the built-in one, dequantized to F32 and quantized from there to each type, so that all types derive from
the same weights. The text is its held-out set. Like the int8 tier, llama.cpp rounds the activations that quantized
weights are multiplied by to 8 bits: its error is the difference between its logits of a quantized file and those of the
same weights in F32.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "assets/demo"
TYPES = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_NL", "Q3_K_M"]
TIERS = ["subgroups", "f16", "int8", "cooperative"]
TOKENS = 384
# Chunks of 512 tokens, for perplexity.
CHUNKS = 8


def in_f32(source: Path, target: Path):
    """Writes the same model with every weight in F32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        of = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), field.types[0], of)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape(tensor.shape[::-1]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def text() -> str:
    """The reference answers of the held-out set."""
    lines = [json.loads(line) for line in (DEMO / "heldout.jsonl").read_text().splitlines()]
    return "\n".join(line["answer"] for line in lines)


def theirs(model: Path, tokens: list[int]) -> np.ndarray:
    """llama.cpp's logits, with an F32 cache, which rounds nothing."""
    llama = llama_cpp.Llama(str(model), n_ctx=512, n_batch=512, logits_all=True, n_gpu_layers=0, verbose=False,
                            type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    llama.eval(tokens)
    return llama.scores[: len(tokens)].copy()


def off(got: np.ndarray, want: np.ndarray) -> float:
    """The RMS of the logits' difference, relative to that of their deviation from the mean, over all positions."""
    got, want = (x - x.mean(axis=1, keepdims=True) for x in (got, want))
    return float(np.sqrt(((got - want) ** 2).mean() / (want**2).mean()))


def measure(firelight: list[str], folder: Path):
    """Prints the table."""

    def run(*args) -> str:
        done = subprocess.run([*firelight, *map(str, args)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{args}: {done.stderr}")
        return done.stdout

    in_f32(DEMO / "demo.gguf", folder / "f32.gguf")
    (folder / "text").write_text(text())
    tokenizer = llama_cpp.Llama(str(folder / "f32.gguf"), vocab_only=True, verbose=False)
    tokens = tokenizer.tokenize(text().encode())[:TOKENS]
    best = run("devices").split("\n1 ")[0]
    tiers = [tier for tier in TIERS if f"tier {tier} not" not in best]
    errors = [*(f"{tier} error" for tier in tiers[1:]), "int8 error, one token at a time", "llama.cpp error"]
    heads = ["type", *errors, *(f"perplexity, {tier}" for tier in tiers)]
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for dtype in ["F32", *TYPES]:
        model = folder / f"{dtype}.gguf"
        if dtype == "F32":
            model = folder / "f32.gguf"
        else:
            run("quantize", folder / "f32.gguf", model, dtype)

        def ours(tier: str, *more: str) -> np.ndarray:
            ids = ",".join(map(str, tokens))
            run("logits", model, "--tokens", ids, "--out", folder / "out.npy", "--kv", "f32", "--tier", tier, *more)
            return np.load(folder / "out.npy")

        exact = ours("subgroups")
        errors = [off(ours(tier), exact) for tier in tiers[1:]] + [off(ours("int8", "--steps"), exact)]
        in_f32(model, folder / "twin.gguf")
        errors.append(off(theirs(model, tokens), theirs(folder / "twin.gguf", tokens)))
        perplexities = [run("perplexity", model, folder / "text", "--chunks", CHUNKS, "--tier", tier).split()[1] for tier in tiers]
        print(f"| {dtype} | " + " | ".join([*(f"{e:.1e}" for e in errors), *perplexities]) + " |", flush=True)


with tempfile.TemporaryDirectory() as folder:
    measure(sys.argv[1:], Path(folder))
