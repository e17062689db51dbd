"""Trains the demo model from scratch: `python train.py`. A later call resumes from the checkpoint.

The learning rate has a warm-up, a plateau and a cooldown. Progress is measured in tokens or, with --minutes, in time,
whichever is farther, so that training on a slow machine ends with a cooled-down model, too. Muon trains the matrices,
AdamW the other parameters. The loss covers only the assistant's tokens.
"""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus
from model import Model, Shape

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END = SPECIALS.index("<|im_end|>")
# Qwen 2's pre-tokenizer (`tokenizer.ggml.pre` = qwen2): each digit is a separate token.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Row lengths: most conversations fit the short rows, where attention is cheap.
SHORT, LONG = 256, 1024


def train_tokenizer(seed, size=2048, conversations=40000):
    """Trains a byte-level BPE tokenizer on the corpus."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    rng = random.Random(f"tokenizer {seed}")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIALS, initial_alphabet=alphabet)
    texts = (text.replace("\0", "") for _ in range(conversations) for _, text in corpus.conversation(rng))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer, turns):
    """Token ids of a conversation, and which of them the loss covers. Text between NULs is encoded by characters."""
    ids, learn = [], []

    def add(text, learnt):
        new = tokenizer.encode(text).ids
        ids.extend(new)
        learn.extend([learnt] * len(new))

    for role, text in turns:
        add(f"<|im_start|>{role}\n", False)
        answer = role == "assistant"
        for i, part in enumerate(text.split("\0")):
            for piece in [part] if i % 2 == 0 else part:
                add(piece, answer)
        add("<|im_end|>", answer)
        add("\n", False)
    return ids, learn


class Batches:
    """Endless batches, starting at block `block`: conversations packed into rows, with attention only within each."""

    def __init__(self, tokenizer, seed, tokens, block=0):
        self.tokenizer, self.seed, self.tokens, self.block = tokenizer, seed, tokens, block
        self.ready = []

    def next(self):
        while not self.ready:
            self.fill()
        return self.ready.pop()

    def fill(self):
        """Generates a block of a few hundred thousand tokens, packs it into rows, and shuffles the batches."""
        rng = random.Random(f"block {self.seed} {self.block}")
        self.block += 1
        rows = {SHORT: [], LONG: []}
        for _ in range(3000):
            ids, learn = encode(self.tokenizer, corpus.conversation(rng))
            length = SHORT if len(ids) <= SHORT else LONG
            if len(ids) <= length:
                put(rows[length], length, (ids, learn))
        for length, packed in rows.items():
            rng.shuffle(packed)
            count = max(1, self.tokens // length)
            for at in range(0, len(packed) - count + 1, count):
                self.ready.append(batch(packed[at : at + count], length))
        rng.shuffle(self.ready)


def put(rows, length, item):
    """Packs an item into the first of the most recent rows with enough room, or into a new row."""
    for row in rows[-16:]:
        if sum(len(ids) for ids, _ in row) + len(item[0]) <= length:
            return row.append(item)
    rows.append([item])


def batch(rows, length):
    """Tensors of packed rows: tokens, positions, mask, and target (-100 where the loss ignores a token)."""
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    positions, document = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    target = torch.full_like(tokens, -100)
    for r, row in enumerate(rows):
        at = 0
        for number, (ids, learn) in enumerate(row):
            n = len(ids)
            ids, learn = torch.tensor(ids), torch.tensor(learn)
            tokens[r, at : at + n] = ids
            positions[r, at : at + n] = torch.arange(n)
            document[r, at : at + n] = number
            target[r, at : at + n - 1] = torch.where(learn[1:], ids[1:], -100)
            at += n
    same = document[:, :, None] == document[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return tokens, positions, (same & causal)[:, None], target


def learning_rate(done):
    """The learning rate relative to its peak at progress `done`: a plateau, then a ramp to 0 over the last 30 %."""
    return min(1.0, max(0.0, (1.0 - done) / 0.3))


class Training:
    """A model, its optimizers and its progress."""

    def __init__(self, args, tokenizer, shape, device):
        torch.manual_seed(args.seed)
        self.args, self.device = args, device
        self.tokenizer = tokenizer
        self.model = Model(shape).to(device)
        matrices = [p for name, p in self.model.named_parameters() if p.ndim == 2 and name != "token_embd"]
        rest = [p for name, p in self.model.named_parameters() if p.ndim != 2 or name == "token_embd"]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.05, momentum=0.95, nesterov=True),
            torch.optim.AdamW(rest, lr=args.lr * 0.2, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.peaks = [args.lr, args.lr * 0.2]
        self.seen, self.seconds, self.step, self.block = 0, 0.0, 0, 0

    def save(self, path):
        state = dict(
            shape=self.model.shape.dict(), tokenizer=self.tokenizer.to_str(), model=self.model.state_dict(),
            optimizers=[o.state_dict() for o in self.optimizers],
            seen=self.seen, seconds=self.seconds, step=self.step, block=self.block,
        )  # fmt: skip
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, state):
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.seen, self.seconds, self.step, self.block = (state[k] for k in ("seen", "seconds", "step", "block"))

    def done(self):
        by_clock = self.seconds / (self.args.minutes * 60) if self.args.minutes else 0.0
        return max(self.seen / self.args.tokens, by_clock)

    def learn(self, tokens, positions, mask, target):
        """Trains one step. Returns the mean loss of the tokens it covers."""
        rate = learning_rate(self.done()) * min(1.0, (self.step + 1) / 50)
        for optimizer, peak in zip(self.optimizers, self.peaks):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
        with torch.autocast(self.device, torch.bfloat16):
            hidden = self.model(tokens, positions, mask)
            learnt = target >= 0
            loss = F.cross_entropy(self.model.logits(hidden[learnt]).float(), target[learnt])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.seen += tokens.numel()
        return loss.item()

    def run(self, path):
        batches = Batches(self.tokenizer, self.args.seed, self.args.batch, self.block)
        clock, saved, losses = time.time(), time.time(), []
        while self.done() < 1.0:
            losses.append(self.learn(*(t.to(self.device) for t in batches.next())))
            now = time.time()
            self.seconds, clock, self.block = self.seconds + now - clock, now, batches.block
            if self.step % 50 == 0:
                rate, mean = self.seen / self.seconds, sum(losses) / len(losses)
                losses = []
                print(f"step {self.step}  {self.seen / 1e6:.2f} M tokens  {self.seconds / 60:.1f} min  "
                      f"{rate:.0f} tokens/s  loss {mean:.4f}  done {self.done():.1%}", flush=True)  # fmt: skip
            if now - saved > 180:
                self.save(path)
                saved = now
        self.save(path)


def load(path, device="cpu"):
    """Loads a checkpoint's model and tokenizer."""
    state = torch.load(path, map_location=device, weights_only=True)
    model = Model(Shape(**state["shape"])).to(device)
    model.load_state_dict(state["model"])
    return model.eval(), Tokenizer.from_str(state["tokenizer"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for the checkpoint [build]")
    parser.add_argument("--tokens", type=float, default=28e6, help="number of training tokens [28e6]")
    parser.add_argument("--minutes", type=float, help="time limit, if training takes longer")
    parser.add_argument("--batch", type=int, default=2048, help="tokens per step [2048]")
    parser.add_argument("--lr", type=float, default=0.02, help="peak learning rate for the matrices [0.02]")
    parser.add_argument("--layers", type=int, default=Shape.layers)
    parser.add_argument("--compile", action="store_true", help="torch.compile: a tenth faster, needs a C++ compiler")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "checkpoint.pt"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    state = torch.load(path, map_location=device, weights_only=True) if path.exists() else None
    tokenizer = Tokenizer.from_str(state["tokenizer"]) if state else train_tokenizer(args.seed)
    shape = Shape(**state["shape"]) if state else Shape(vocab=tokenizer.get_vocab_size(), layers=args.layers)
    training = Training(args, tokenizer, shape, device)
    if state:
        training.load(state)
    if args.compile:
        training.model.compile()
    training.run(path)


if __name__ == "__main__":
    main()
