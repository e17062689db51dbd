"""Asks the held-out questions and counts good answers by kind.

`python evaluate.py build/checkpoint.pt` runs the checkpoint in PyTorch, in float32. `--gguf FILE` runs a GGUF file in
Firelight, on the GPU, with the test `demo` (built by cargo, or given by --firelight); repeat it to compare files. The
questions come from `--questions`, or are generated.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import corpus

ROOT = Path(__file__).resolve().parents[3]
# The required share of good answers for the kinds that are guaranteed.
BARS = {"guide": 0.90, "add": 0.95, "foreign": 0.80}


def ask_torch(checkpoint, items, at_once=64):
    import torch

    from model import generate
    from train import END, encode, load

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load(checkpoint, device)
    begin = tokenizer.encode("<|im_start|>assistant\n").ids
    prompts = [encode(tokenizer, [(m["role"], m["content"]) for m in item["messages"]])[0] + begin for item in items]
    order = sorted(range(len(items)), key=lambda i: len(prompts[i]))
    answers = [""] * len(items)
    for at in range(0, len(order), at_once):
        some = order[at : at + at_once]
        for i, ids in zip(some, generate(model, [prompts[i] for i in some], END, device=device)):
            answers[i] = tokenizer.decode(ids)
    return answers


def ask_firelight(gguf, items, test):
    command = [test] if test else ["cargo", "test", "--quiet", "--test", "demo", "--"]
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Path(folder, "questions.jsonl"), Path(folder, "answers.jsonl")
        questions.write_text("".join(json.dumps(item) + "\n" for item in items))
        names = dict(FIRELIGHT_DEMO=gguf.resolve(), FIRELIGHT_DEMO_QUESTIONS=questions, FIRELIGHT_DEMO_ANSWERS=answers)
        env = os.environ | {name: str(value) for name, value in names.items()}
        # The test may fail: only its answers matter here.
        subprocess.run([*command, "held_out"], cwd=ROOT, env=env, check=False, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in answers.read_text().splitlines()]


def show(names, results):
    """Prints a table of good answers by kind in percent, one column per model."""
    print(f"{'':10} {'count':>6} " + " ".join(f"{name[-18:]:>18}" for name in names))
    for kind in results[0]:
        shares = [100 * sum(column[kind]) / len(column[kind]) for column in results]
        bar = f"   (>= {BARS[kind]:.0%} required)" if kind in BARS else ""
        print(f"{kind:10} {len(results[0][kind]):6} " + " ".join(f"{share:18.1f}" for share in shares) + bar)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--gguf", type=Path, action="append", default=[])
    parser.add_argument("--firelight", help="path of the built test `demo`, instead of cargo")
    parser.add_argument("--questions", type=Path, help="JSON lines, as corpus.py --heldout writes them")
    parser.add_argument("--count", type=int, default=50, help="generated questions of each kind, more for some [50]")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--wrong", type=int, default=0, help="number of wrong answers of each kind to show [0]")
    args = parser.parse_args()
    if args.questions:
        items = [json.loads(line) for line in args.questions.read_text().splitlines()]
    else:
        items = list(corpus.heldout(args.seed, args.count))
    names, columns = [], []
    if args.checkpoint:
        names.append("torch F32")
        columns.append(ask_torch(args.checkpoint, items))
    for path in args.gguf:
        names.append(path.name)
        columns.append(ask_firelight(path, items, args.firelight))
    results = []
    for answers in columns:
        result = defaultdict(list)
        for item, answer in zip(items, answers, strict=True):
            good = corpus.judge(item["kind"], answer, item["facts"])
            result[item["kind"]].append(good)
            if not good and result[item["kind"]].count(False) <= args.wrong:
                print(f"[{item['kind']}] {item['messages'][-1]['content']!r}\n    {answer!r}\n"
                      f"    expected {item['facts']}")  # fmt: skip
        results.append(result)
    show(names, results)


if __name__ == "__main__":
    main()
