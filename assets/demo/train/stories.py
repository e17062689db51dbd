"""Short stories from a grammar: one to three animals with names, a place, a small problem, and a happy end."""

from words import expand, forms

NAMES = """Anna Ben Clara David Emma Finn Greta Hugo Ida Jonas Kim Leo Mia Nora Oscar Paula Rosa Sam Tom Ella Max Lily Jack
Zoe Otto Nina Carl Lucy Alma Theo Ruth Simon Vera Paul Olga Bruno Tilda Emil Sofia Mark Luna Felix Iris Noah Tess Arthur
Bella Hans Maria Peter Grace Henry Alice Ivan Julia Martin Rita Frank Dora Walter""".split()
ANIMALS = """fox rabbit mouse bear owl cat dog hedgehog duck frog squirrel turtle goat sheep crow deer horse bee lion penguin
snail pig wolf""".split()
PLACES = ["the forest", "the meadow", "the mountains", "the old mill", "the village", "the beach", "the garden", "the lake",
          "the farm", "the river", "the snow", "the little house"]  # fmt: skip
TRAITS = ["small", "brave", "shy", "clever", "merry", "quiet", "curious", "kind", "young", "old", "lazy", "proud"]
THINGS = ["red ball", "golden key", "warm scarf", "little boat", "blue kite", "honey cake", "silver bell", "green hat",
          "picture book", "big drum", "lantern", "basket of apples"]  # fmt: skip

ASK = forms("""
[please|can you|could you|] tell me a [short|little|] story
tell me a story [please|]
[please|can you|] tell [me|us] a [bedtime|children's|] story
i want [to hear|] a story
a story [please|]!
do you know a [nice|short|] story?
make up a [short|] story
write [me|] a [short|little|] story
once upon a time
story time!
[can i|may i] hear a story?
""")
ASK_NAME = forms("""
[please|can you|could you|] tell me a [short|little|] story about {n}
[write|make up|tell] [me|] a [short|] story about {n}
i want [to hear|] a story about {n}
a story about {n} [please|]
do you know a story about {n}?
is there a story about {n}?
[can you|could you] make up a story [about|with] {n}?
tell me what happened to {n}
story about {n}!
a [short|little|nice] story with {n} in it
what happened to {n}? tell me [the|a] story
[can you|could you|] tell what happened to {n} [one day|]
tell [me|us] [how it went with|what became of] {n}
tell me what {n} did [one day|]
[let me|i want to] hear what happened to {n}
""")


def people(rng):
    """One to three characters: (name, animal, trait). Their names come from one group of three, so that a model that
    chooses names has a likely next one and does not use one twice."""
    count = rng.choice((1, 2, 2, 2, 3))
    circle = rng.randrange(0, len(NAMES), 3)
    return list(zip(rng.sample(NAMES[circle : circle + 3], count), rng.sample(ANIMALS, count), rng.sample(TRAITS, count)))


def renamed(rng, cast):
    """The same characters with arbitrary names, as a user may request them."""
    return [(name, *rest) for name, (_, *rest) in zip(rng.sample(NAMES, len(cast)), cast)]


def an(text):
    return ("an " if text[0] in "aeio" else "a ") + text


def story(rng, held=False):
    """A request, a story, and the names that it must contain."""
    cast = people(rng)
    roll = rng.random()
    if roll < 0.3:
        question, names = expand(rng, choose(rng, ASK, held)), []
    elif roll < 0.55:
        cast = renamed(rng, cast[:2])
        names = [name for name, *_ in cast]
        question = expand(rng, choose(rng, ASK_NAME, held), n=" and ".join(names))
    elif roll < 0.8:
        cast = renamed(rng, cast)
        names = [name for name, *_ in cast]
        described = [f"{name} the {animal}" for name, animal, _ in cast]
        text = described[0] if len(cast) == 1 else ", ".join(described[:-1]) + " and " + described[-1]
        question = expand(rng, choose(rng, ASK_NAME, held), n=text)
    else:
        names = []
        question = expand(rng, choose(rng, ASK_NAME, held), n=an(cast[0][1]))
    return question, tell(rng, cast), names


def choose(rng, both, held):
    return rng.choice(both[1] if held and both[1] else both[0])


def tell(rng, cast):
    place, thing = rng.choice(PLACES), rng.choice(THINGS)
    (a, animal, trait), rest = cast[0], cast[1:]
    slots = dict(a=a, x=an(f"{trait} {animal}"), p=place, t=thing, at=an(thing))
    opening = expand(rng, rng.choice([
        "Once upon a time there was {x} named {a}. {a} lived [near|not far from] {p}.",
        "[Near|Not far from] {p} lived {x} named {a}.",
        "There was once {x} whose name was {a}. {a} lived [near|not far from] {p}.",
    ]), **slots)  # fmt: skip
    if not rest:
        middle = rng.choice([
            "One [day|morning|evening] {a} found {at} [in the grass|under a tree|behind a stone]. \"Whose is it?\" {a} asked, but nobody was there. "
            "So {a} kept the {t} safe and [waited|looked around]. [In the evening|The next day] an old man came and was [very|so] happy to have it back.",
            "One [day|morning] {a} lost {at}. {a} looked [everywhere|under every leaf|in every corner]. At last the {t} was [right behind the door|under the bed|in the old boot]. "
            "{a} laughed and [danced|jumped|sang] for joy.",
            "One [night|evening] there was a [loud|strange] noise. {a} was afraid, but went to look. It was only the wind with {at}. {a} [laughed|smiled] and went back to sleep.",
        ])  # fmt: skip
        ending = "From that day on {a} was [not afraid any more|happy|a little wiser]."
    else:
        b, other, trait_b = rest[0]
        slots |= dict(b=b, y=an(f"{trait_b} {other}"))
        middle = rng.choice([
            "One [day|morning] {a} met {b}, {y}. {b} was [sad|crying], because {at} was gone. \"I will help you,\" said {a}. "
            "They looked [everywhere|for a long time], and {a} found the {t} [under a tree|behind a stone|in the grass]. {b} was [very|so] happy.",
            "{a} had a friend, {y} named {b}. One [day|morning] they both wanted the {t}, and they [began to fight|were angry]. "
            "Then {b} said: \"Let us share it.\" {a} [nodded|smiled], and they played [together|all day].",
            "One [day|evening] {a} fell into a [hole|ditch] and could not get out. {b}, {y}, heard the cry. {b} [ran|came] with {at} and pulled until {a} was free. "
            "\"Thank you, {b}!\" said {a}.",
            "One [day|morning] {b}, {y}, came to visit {a} and brought {at}. \"What a fine present!\" said {a}. They [baked a cake|drank tea|sang a song] and talked [all day|until the stars came out].",
        ])  # fmt: skip
        if len(rest) > 1:
            c, third, trait_c = rest[1]
            slots |= dict(c=c, z=an(f"{trait_c} {third}"))
            middle += rng.choice([
                " In the evening {c}, {z}, came too, and all three [ate|sang|laughed] together.",
                " {c}, {z}, had seen it all and [clapped|laughed|cheered].",
                " Then came {c}, {z}. \"May I join you?\" asked {c}. \"Of course!\" they said.",
            ])  # fmt: skip
            ending = "From that day on {a}, {b} and {c} were [the best of friends|friends|always together]."
        else:
            ending = "From that day on {a} and {b} were [the best of friends|friends|always together]."
    return f"{opening} {expand(rng, middle, **slots)} {expand(rng, ending, **slots)} The end."


def told_well(answer, names):
    """Whether a story ends and keeps its characters: all requested names are in it, every animal has a name, and there
    are no other names."""
    said = {word.strip('.,!?":;').removesuffix("'s") for word in answer.split()}
    introduced = [name for name in NAMES if name in said]
    everybody = all(name in said for name in names) and len(introduced) >= len(said & set(ANIMALS))
    if names:
        everybody &= set(introduced) == set(names)
    return answer.rstrip().endswith("The end.") and everybody and 1 <= len(introduced) <= 3
