"""Text utilities of the generator: templates with alternatives, held-out templates, and typing errors.

`[a|b|c]` in a text is one of a, b, c (they nest; `[a|]` is a or nothing), `{name}` is a slot. A *form* is a whole text
of this kind: a template. About one form in eight is held out by its hash: training never uses it, and tests use
only held-out forms. A form of the guide is held out only if other forms contain its words: a wording may be new to the
model, a name may not.
"""

import hashlib
import re

INNERMOST = re.compile(r"\[([^\[\]]*)\]")


def held_out(text, part=8):
    """Whether this text is reserved for tests."""
    return hashlib.sha256(text.encode()).digest()[0] % part == 0


def forms(texts):
    """Splits texts into forms for training and forms for tests. Neither is empty if there are at least four."""
    texts = [t.strip() for t in (texts.strip().split("\n") if isinstance(texts, str) else texts) if t.strip()]
    test = [t for t in texts if held_out(t)]
    train = [t for t in texts if not held_out(t)]
    if not test and len(texts) > 3:
        test = [min(train, key=lambda t: hashlib.sha256(t.encode()).digest())]
        train.remove(test[0])
    return train or texts, test


def known_forms(texts, part=6):
    """Like `forms`, for forms with one meaning: forms for tests have no content word that is missing from training."""
    order = sorted((t.strip() for t in texts if t.strip()), key=lambda t: hashlib.sha256(t.encode()).digest())
    train, test = list(order), []
    for text in order:
        others = [t for t in train if t != text]
        known = set().union(*map(weighty, others)) if others else set()
        if len(test) * part < len(order) and len(others) > 2 and weighty(text) <= known:
            test.append(text)
            train = others
    return train, test


def weighty(text):
    """The content words of a form."""
    words = re.findall(r"[\w./-]*\w[\w./-]*", re.sub(r"[\[\]|]", " ", text.lower()))
    return {word for word in words if word not in LITTLE}


def expand(rng, text, **slots):
    """A random text of a form."""
    while "[" in text:
        text, n = INNERMOST.subn(lambda m: rng.choice(m[1].split("|")), text)
        if not n:
            break
    for name, value in slots.items():
        text = text.replace("{" + name + "}", str(value))
    return re.sub(r"(\w) ([?.!,])(?=\s|$)", r"\1\2", re.sub(r" {2,}", " ", text)).strip()


def expansions(text):
    """All texts of a form."""
    group = INNERMOST.search(text)
    if not group:
        return {expand(None, text)}
    chosen = (text[: group.start()] + choice + text[group.end() :] for choice in group[1].split("|"))
    return set().union(*map(expansions, chosen))


def sentence(text):
    """The text with an initial capital."""
    return text[:1].upper() + text[1:]


# Words and phrases with about the same meaning. None of them is part of a command.
SAME = """
how do i / how can i / how could i / how would i / how does one / how to / how should i / tell me how to / i want to
what is / what's / whats / tell me what is / do you know what is
what does / what would / tell me what
is there / do you have / is there any / have you got
does it / can it / will it / does firelight / can firelight
can i / may i / could i / is it possible to / am i able to
which / what
choose / select / pick
show / display
delete / remove / erase
fast / quick / rapid
faster / quicker
big / large
bigger / larger
gpu / graphics card / video card
answer / reply / response
conversation / chat / talk / dialogue
file / model file
begin / start
get / obtain
save / keep / store
options / flags / switches
option / flag / switch
make / create
explain / describe
mean / stand for
need / require
see / look at / view
limit / restrict
change / set / adjust
use / work with
"""
SAME = [line.split(" / ") for line in SAME.strip().split("\n")]
OTHERS = {phrase: [other for other in group if other != phrase] for group in SAME for phrase in group}
# Longest first, whole words only, and not after the start of a command or an option.
PHRASES = re.compile(r"(?<![\w/.-])(?<!firelight )(" + "|".join(sorted(map(re.escape, OTHERS), key=len, reverse=True)) + r")(?![\w./-])")
# Function words, and other words that do not identify the subject of a question.
LITTLE = set("""a an the do does did is are am was be been can could would should will may i it its you your me my we this that
these those what whats what's which who how why when where whether if to of in on at for from with by as and or but not no so
there here one some any please tell show give explain say know want need get have has had let make made possible way much many
long often just only really exactly actually kind sort thing things something anything also then than too very more other
happen happens mean use used using work works firelight""".split())
SMALL = {"the", "a", "an", "do", "does", "i", "it", "is", "to", "of", "please", "can", "you", "me", "my", "are"}


def reword(rng, text):
    """The same request in other words: with synonyms, or without some function words."""
    text = PHRASES.sub(lambda m: rng.choice(OTHERS[m[1]]) if rng.random() < 0.2 else m[1], text)
    if rng.random() < 0.08:
        kept = [w for w in text.split(" ") if w not in SMALL or rng.random() < 0.4]
        text = " ".join(kept) if len(kept) > 1 else text
    return text


def typo(rng, text):
    """Makes one typing error in a word of five letters or more."""
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
    """A user's text as people type it: sometimes with an initial capital and final punctuation, sometimes without.
    `exact` preserves the case of names."""
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
