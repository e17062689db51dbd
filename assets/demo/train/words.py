"""Small tools of the generator: texts with alternatives, forms that are kept back for tests, and typing errors.

`[a|b|c]` in a text is one of a, b, c (they nest; `[a|]` is a or nothing), `{name}` a slot. A *form* is a whole text of this
kind. About one form in eight is held out by its hash: it is never used in training, and tests use only those.
"""

import hashlib
import re

INNERMOST = re.compile(r"\[([^\[\]]*)\]")


def held_out(text, part=8):
    """Whether this text is kept back for tests."""
    return hashlib.sha256(text.encode()).digest()[0] % part == 0


def forms(texts):
    """(for training, for tests); neither is empty."""
    texts = [t.strip() for t in (texts.strip().split("\n") if isinstance(texts, str) else texts) if t.strip()]
    test = [t for t in texts if held_out(t)]
    train = [t for t in texts if not held_out(t)]
    if not test and len(texts) > 3:
        test = [min(train, key=lambda t: hashlib.sha256(t.encode()).digest())]
        train.remove(test[0])
    return train or texts, test


def expand(rng, text, **slots):
    """One text of a form."""
    while "[" in text:
        text, n = INNERMOST.subn(lambda m: rng.choice(m[1].split("|")), text)
        if not n:
            break
    for name, value in slots.items():
        text = text.replace("{" + name + "}", str(value))
    return re.sub(r"(\w) ([?.!,])", r"\1\2", re.sub(r" {2,}", " ", text)).strip()


def sentence(text):
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def typo(rng, text):
    """One slip of the fingers in a word of five letters or more."""
    places = [m for m in re.finditer(r"[a-z]{5,}", text)]
    if not places:
        return text
    m = rng.choice(places)
    i = rng.randrange(m.start() + 1, m.end() - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:i] + text[i + 1 :]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def typed(rng, text, slips=True, exact=False):
    """A user's text as people type it: often with a capital and a mark at the end, often without; `exact`: names keep
    their capitals."""
    if rng.random() < 0.6:
        text = sentence(text)
    elif not exact and rng.random() < 0.5:
        text = text.lower()
    roll = rng.random()
    if roll < 0.3:
        text = text.rstrip("?.!")
    if slips and rng.random() < 0.08:
        text = typo(rng, text)
    return text
