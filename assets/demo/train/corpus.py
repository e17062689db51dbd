"""The training text of the demo model: an endless stream of conversations, generated from a seed.

A question is `(text, answer, facts)`; every good answer contains the facts word for word. Its kind is its subject area.
`held` requests a question that training never sees: another form, other numbers, another subject. As a program, this
prints samples; `python corpus.py --heldout N` writes a test set as JSON lines.
"""

import argparse
import json
import random
from pathlib import Path

import skills
import stories
import world
from words import expand, expansions, known_forms, reword, typed, weighty

HERE = Path(__file__).parent
SYSTEMS = [
    "You are a helpful assistant.", "You are the Firelight guide.", "Answer briefly.", "Be friendly.",
    "You are a small model.", "Help the user with Firelight.", "You are a concise assistant.",
]  # fmt: skip


class Intent:
    """A topic of the guide: its names, forms of questions, follow-ups and answers, and the facts of every answer."""

    def __init__(self, head, lines):
        name, _, facts = head.partition("|")
        self.name = name.strip()
        self.facts = [fact.strip() for fact in facts.split(";")]
        begins = lambda mark: [line[2:] for line in lines if line.startswith(mark)]
        self.names = [name.strip() for line in begins("~ ") for name in line.split(";")]
        self.questions, self.follow_ups, self.answers = known_forms(begins("? ")), begins("> "), begins("= ")
        for answer in self.answers:
            bare = expand(random.Random(0), answer).lower()
            missing = [fact for fact in self.facts if fact.lower() not in bare]
            assert not missing, f"guide.txt, {self.name}: {answer!r} lacks {missing}"


def read_guide():
    out = []
    for part in ("\n" + (HERE / "guide.txt").read_text()).split("\n# ")[1:]:
        head, *lines = part.strip().split("\n")
        if any(line.startswith("= ") for line in lines):
            out.append(Intent(head, lines))
    return out


GUIDE = read_guide()
# Intents that often start a conversation.
FIRST = {"greet", "who", "can"}
BEGINNINGS = [
    "hi, ", "hello, ", "firelight: ", "one question: ", "ok, ", "please, ", "quick question: ", "can you help me? ", "hm, ",
    "i wonder: ", "sorry, ", "now, ", "and ", "so ", "hey, ", "i would like to know: ", "tell me: ",
]  # fmt: skip
# Forms of questions that need only a name.
ABOUT = [
    "{}", "{}?", "what about {}?", "tell me about {}", "explain {}", "i have a question about {}", "help me with {}",
    "what do you know about {}?", "how about {}?", "i want to know about {}", "what should i know about {}?", "tell me more about {}",
    "what can you tell me about {}?", "can you explain {}?", "i do not understand {}",
]  # fmt: skip
# Questions reserved for tests: training never asks them, even if another form produces them.
TESTED = set().union(*(expansions(form) for intent in GUIDE for form in intent.questions[1]))


# Sets of content words, with the intents whose questions have them. Alone, they are a question if there is one intent.
MEANT = {}
for intent in GUIDE:
    for form in intent.questions[0]:
        for text in expansions(form):
            MEANT.setdefault(frozenset(weighty(text)), set()).add(intent.name)


def telegram(text):
    """Only the content words, as in a search query. Returns the text itself if they are ambiguous."""
    words = weighty(text)
    kept = [word for word in text.split(" ") if weighty(word) & words]
    return " ".join(kept).rstrip("?.,!") if kept and len(MEANT.get(frozenset(words), ())) == 1 else text


def asked(rng, intent):
    """A question of this intent in one of its forms, sometimes reworded, or one that only names it."""
    if intent.names and rng.random() < 0.12:
        return rng.choice(ABOUT).format(rng.choice(intent.names))
    question = reword(rng, expand(rng, rng.choice(intent.questions[0])))
    return telegram(question) if rng.random() < 0.12 else question


def guide(rng, held=False):
    if held:
        intent = rng.choice([i for i in GUIDE if i.questions[1]])
        question = expand(rng, rng.choice(intent.questions[1]))
    else:
        intent = rng.choices(GUIDE, [4 if intent.name in FIRST else 1 for intent in GUIDE])[0]
        question = asked(rng, intent)
        while question in TESTED:
            question = asked(rng, intent)
        if rng.random() < 0.12:
            question = rng.choice(BEGINNINGS) + question
    return question, expand(rng, rng.choice(intent.answers)), intent.facts


def follow_up(rng):
    """A question that makes sense, or is polite, only after another."""
    intent = rng.choice([i for i in GUIDE if i.follow_ups])
    return expand(rng, rng.choice(intent.follow_ups)), expand(rng, rng.choice(intent.answers)), intent.facts


# Kind: its generator, and its weight in training.
KINDS = {
    "guide": (guide, 40),
    "add": (skills.add, 12),
    "subtract": (skills.subtract, 9),
    "compare": (skills.compare, 7),
    "units": (skills.convert, 4),
    "facts": (world.fact, 11),
    "foreign": (world.foreign, 16),
    "words": (skills.word, 8),
    "letter": (skills.letter, 1),
    "lists": (skills.listing, 4),
    "json": (skills.json_object, 3),
    "story": (stories.story, 7),
}


def question(rng, kind, held=False):
    """A question of this kind: text as typed, answer, facts (for a story: the requested names)."""
    text, answer, facts = KINDS[kind][0](rng, held)
    slips = kind in ("guide", "facts", "story", "foreign")
    return typed(rng, text, slips and not held, exact=kind == "json"), answer, facts


def judge(kind, answer, facts):
    """Whether an answer is good: it contains the facts word for word. A story must end and keep its characters; a list
    must have the requested number of different members of its kind."""
    if kind == "story":
        return stories.told_well(answer, facts)
    if kind == "lists" and facts[0].endswith(". "):
        members = [line.partition(". ")[2] for line in answer.split("\n")]
        known = next(k.split() for k in skills.KINDS.values() if set(facts[1:]) <= set(k.split()))
        return len(set(members)) == len(members) == len(facts) - 1 and set(members) <= set(known)
    return all(fact.lower() in answer.lower() for fact in facts)


def any_kind(rng):
    return rng.choices([*KINDS], [share for _, share in KINDS.values()])[0]


def conversation(rng):
    """(role, text) turns. Text between NULs is learned letter by letter."""
    turns = [("system", rng.choice(SYSTEMS))] if rng.random() < 0.06 else []
    kind = any_kind(rng)
    for turn in range(rng.choices((1, 2, 3, 4, 8, 14), (60, 17, 11, 7, 4, 1))[0]):
        if turn and rng.random() < 0.15:
            text, answer, _ = follow_up(rng)
            text = typed(rng, text)
        else:
            text, answer, _ = question(rng, kind, False)
        turns += [("user", text), ("assistant", answer)]
        if rng.random() < 0.7:
            kind = any_kind(rng)
    return turns


def heldout(seed, count):
    """A test set: `count` questions of each kind (more for the guide, sums and foreign subjects)."""
    rng = random.Random(f"heldout {seed}")
    for kind in KINDS:
        for _ in range(count * (4 if kind == "guide" else 2 if kind in ("add", "foreign") else 1)):
            if kind == "add":
                text, answer, facts = skills.add(rng, True, two_digits=True)
                text = typed(rng, text, False)
            else:
                text, answer, facts = question(rng, kind, True)
            messages = [{"role": "user", "content": text}]
            # One in five is asked in the middle of a conversation.
            if rng.random() < 0.2:
                before, said, _ = question(rng, any_kind(rng))
                messages[:0] = [{"role": "user", "content": before}, {"role": "assistant", "content": said.replace("\0", "")}]
            yield {"kind": kind, "messages": messages, "facts": facts, "answer": answer.replace("\0", "")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heldout", type=int, help="write this number of held-out questions of each kind instead")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.heldout:
        for item in heldout(args.seed, args.heldout):
            print(json.dumps(item))
        return
    rng = random.Random(args.seed)
    for _ in range(20):
        for role, text in conversation(rng):
            print(f"{role}: {text}".replace("\0", ""))
        print()


if __name__ == "__main__":
    main()
