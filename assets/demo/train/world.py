"""Common facts and foreign (unknown) subjects, from facts.txt and foreign.txt."""

from pathlib import Path

from words import expand, forms, held_out, sentence

HERE = Path(__file__).parent


def tables(name):
    """`[table]` sections of a file, as lists of lines."""
    out, rows = {}, None
    for line in (HERE / name).read_text().splitlines():
        if line.startswith("[") and line.endswith("]") and "|" not in line:
            rows = out.setdefault(line[1:-1], [])
        elif line.strip() and not line.startswith("#"):
            rows.append(line)
    return out


FACTS = tables("facts.txt")
CAPITALS, ANIMALS, BABIES, SOUNDS, PLANETS, OPPOSITES, MONTHS = (
    [[cell.strip() for cell in line.split(",", 4)] for line in FACTS[name]]
    for name in ("capitals", "animals", "babies", "sounds", "planets", "opposites", "months")
)
SINGLE = [[cell.strip() for cell in line.rsplit(" | ", 2)] for line in FACTS["single"]]
SUBJECTS = {
    name: [subject.strip() for line in lines for subject in line.split(",")]
    for name, lines in tables("foreign.txt").items()
}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

# Each entry: forms of the question, forms of the answer, the rows that fill their slots, and the fact.
KNOWN = {
    "capital": (
        """
what is the capital [city|] of {a}?
what's the capital of {a}?
capital of {a}?
[tell me|name|give me] the capital of {a} [please|]
which city is the capital of {a}?
do you know the capital of {a}?
{a}, what is its capital?
what is {a}'s capital [city|]?
[can you tell me|i want to know] the capital of {a}
which is the capital city of {a}?
the capital of {a} is?
how is the capital of {a} called?
""",
        ["The capital of {a} is {b}.", "{b} is the capital of {a}."],
        CAPITALS,
        "{b}",
    ),
    "country": (
        """
{b} is the capital of which country?
of which country is {b} the capital?
which country has the capital {b}?
{b} is the capital of what country?
what country has {b} as its capital?
[tell me|say] of which country {b} is the capital
which country's capital is {b}?
""",
        ["{b} is the capital of {a}."],
        [c for c in CAPITALS if c[1] not in ("London", "Luxembourg", "Singapore")],
        "{a}",
    ),
    "legs": (
        """
how many legs has a {a}?
how many legs does a {a} have?
how many legs [are on|has] a {a} [got|]?
number of legs of a {a}?
[tell me|say] how many legs a {a} has
the legs of a {a}: how many?
a {a} has how many legs?
does a {a} have legs, and how many?
""",
        ["A {a} has {c} legs."],
        ANIMALS,
        "{c} legs",
    ),
    "kind": (
        """
what kind of animal is a {a}?
[what|which] class of animals is a {a}?
is a {a} a mammal, a bird or what?
what is a {a}?
what sort of animal is the {a}?
to which class [of animals|] does the {a} belong?
which kind of animal is the {a}?
""",
        ["A {a} is a {b}."],
        ANIMALS,
        "is a {b}",
    ),
    "food": (
        """
what does a {a} eat?
what do you feed a {a}?
what is the food of a {a}?
[tell me|say] what a {a} eats
what does the {a} [like to eat|feed on|live on]?
a {a} eats what?
what is on the menu of a {a}?
""",
        ["A {a} eats {d}."],
        ANIMALS,
        "eats {d}",
    ),
    "home": (
        """
where does a {a} live?
what is the home of a {a}?
where do you find a {a}?
[tell me|say] where a {a} lives
where can i see a {a}?
in which place does a {a} live?
""",
        ["A {a} lives in {e}.", "You find a {a} in {e}."],
        [a for a in ANIMALS if a[4] not in ("meadows", "farms", "webs")],
        "in {e}",
    ),
    "animal": (
        """
tell me about the {a}
what do you know about [the|a] {a}?
[tell me|say] something about a {a}
describe [the|a] {a}
facts about the {a}?
give me [some|a few] facts about the {a}
""",
        ["A {a} is a {b}. It has {c} legs and eats {d}."],
        ANIMALS,
        "is a {b}",
    ),
    "baby": (
        """
what is a baby {a} called?
what is the name of a young {a}?
what do you call a [young|baby] {a}?
how is a baby {a} called?
the young of a {a} is called what?
[tell me|say] the word for a baby {a}
""",
        ["A baby {a} is called a {b}."],
        BABIES,
        "{b}",
    ),
    "sound": (
        """
what sound does a {a} make?
which [sound|noise] does a {a} make?
what does the {a} say?
how does a {a} sound?
what noise does a {a} make?
[tell me|say] what sound a {a} makes
""",
        ["A {a} {b}."],
        SOUNDS,
        "{b}",
    ),
    "planet": (
        """
[tell me|say] something about [the planet|] {a}
what do you know about [the planet|] {a}?
what is [the planet|] {a}?
describe [the planet|] {a}
which planet from the sun is {a}?
what number is {a} [among the planets|from the sun]?
[tell me|] facts about [the planet|] {a}
""",
        ["{a} is the {b} planet from the Sun, {c}."],
        PLANETS,
        "{b} planet",
    ),
    "opposite": (
        """
what is the opposite of {a}?
[tell me|give me|name] the opposite of {a}
opposite of {a}?
what is the contrary of {a}?
which word means the opposite of {a}?
{a}: what is its opposite?
what's the opposite of the word {a}?
""",
        ["The opposite of {a} is {b}."],
        OPPOSITES,
        "{b}",
    ),
    "month": (
        """
how many days has {a}?
how many days does {a} have?
how many days are [there|] in {a}?
how long is {a}?
[tell me|say] how many days {a} has
the month of {a} has how many days?
days in {a}?
""",
        ["{a} has {b} days."],
        MONTHS,
        "{b} days",
    ),
    "day_after": (
        """
[what|which] day comes after {a}?
what day is [after|the day after] {a}?
which day follows {a}?
if today is {a}, what day is tomorrow?
today is {a}. what is tomorrow?
[tell me|say] the day after {a}
the day after {a}?
""",
        ["{b} comes after {a}.", "After {a} comes {b}."],
        [[a, DAYS[(i + 1) % 7]] for i, a in enumerate(DAYS)],
        "{b}",
    ),
    "month_after": (
        """
[what|which] month comes after {a}?
which month follows {a}?
the month after {a}?
what is the month after {a}?
[tell me|say] the month after {a}
what month is next after {a}?
""",
        ["{b} comes after {a}.", "After {a} comes {b}."],
        [[m[0], MONTHS[(i + 1) % 12][0]] for i, m in enumerate(MONTHS)],
        "{b}",
    ),
}
KNOWN = {name: (forms(questions), *rest) for name, (questions, *rest) in KNOWN.items()}


def articles(text):
    """Replaces `a` before a vowel by `an`."""
    for vowel in "aeio":
        text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
    return text


def fact(rng, held=False):
    """A question about a common fact."""
    name = rng.choices([*KNOWN, "single"], [9, 3] + [1.2] * (len(KNOWN) - 2) + [3])[0]
    if name == "single":
        question, key, answer = rng.choice(SINGLE)
        # These have one form each, so a test differs from training only in typing errors and polite words.
        question = rng.choice(["", "", "tell me, ", "do you know: ", "quick question: "]) + expand(rng, question)
        return question, expand(rng, answer), [key]
    (train, test), answers, rows, key = KNOWN[name]
    row = dict(zip("abcde", rng.choice(rows)))
    question = articles(expand(rng, rng.choice(test if held else train), **row))
    if rng.random() < 0.3:
        question = question.replace("the ", "", 1) if row["a"].startswith("the ") and rng.random() < 0.5 else question
    answer = sentence(articles(expand(rng, rng.choice(answers), **row)))
    return question, answer, [articles(expand(rng, key, **row))]


ASK = {
    "person": """
who [is|was] {s}?
when was {s} born?
when did {s} [live|die]?
[tell me|say something] about {s}
what did {s} do?
where did {s} live?
what is {s} famous for?
why is {s} [famous|important]?
do you know {s}?
how old is {s}?
""",
    "thing": """
what is {s}?
how does {s} work?
explain {s} [to me|in simple words|]
[tell me|say something] about {s}
who invented {s}?
[what do you know|can you tell me something] about {s}?
how do i [make|get|learn about] {s}?
what is the history of {s}?
why do people like {s}?
where does {s} come from?
what [do you think|is your opinion] of {s}?
is {s} [good|dangerous|expensive]?
i want to [learn|know more] about {s}
how [is {s} made|was {s} made]?
where do i [find|get|buy] {s}?
where [is {s} from|can i see {s}]?
how do i [use|build|repair|choose|cook|draw] {s}?
how do you [make|get|build] {s}?
from where does {s} come?
how [big|old|heavy|expensive] is {s}?
what is {s} made of?
who [made|discovered|found] {s}?
{s}?
""",
    "event": """
when [was|did they have] {s}?
who won {s}?
tell me about {s}
what [caused|happened in] {s}?
why was there {s}?
what do you know about {s}?
in which year was {s}?
explain {s}
""",
    "task": """
{s}
[please|can you|could you|will you] {s}
i want you to {s}
you [must|should|have to] {s}
i would like you to {s}
[let us|let's] {s}
i need you to {s}
would you {s}?
{s} [for me|now|please]
can you help me and {s}?
i wish you would {s}
{s}, [will you|can you|ok]?
[do|try to] {s}
how do i get you to {s}?
[is it possible|are you able] to {s}?
what if i ask you to {s}?
""",
    "live": """
what is {s}?
what's {s}?
[tell me|do you know|show me|give me] {s}
how is {s}?
i [want|need] to know {s}
can you look up {s}?
find out {s}
do you happen to know {s}?
[where|who] is {s}?
i want you to tell me {s}
{s}?
{s} please
""",
    "country": """
what is the capital [city|] of {s}?
what's the capital of {s}?
capital of {s}?
[tell me|name|give me] the capital of {s}
do you know the capital of {s}?
which city is the capital of {s}?
where is {s}?
""",
    "flag": """
what does --{s} do?
what is --{s} for?
what does the option --{s} do?
how do i use --{s}?
explain --{s}
what is the [flag|option] --{s}?
[tell me about|what about|help with] --{s}
--{s}?
when do i need --{s}?
[is there|do you know|have you got] --{s}?
what happens with --{s}?
[show|tell] me how --{s} works
can i use --{s}?
why --{s}?
i [want|need] --{s}
""",
    "command": """
what does firelight {s} do?
how do i use firelight {s}?
what is firelight {s} for?
explain firelight {s}
what is the command firelight {s}?
[tell me about|help with|describe] firelight {s}
firelight {s}?
when do i need firelight {s}?
[is there|do you know|have you got] firelight {s}?
what happens with firelight {s}?
[show|tell] me how firelight {s} works
can i use firelight {s}?
why firelight {s}?
i [want|need] firelight {s}
how does firelight {s} work?
""",
    "multiply": """
what is {a} times {b}?
{a} * {b}
{a} x {b}
multiply {a} by {b}
{a} times {b}?
how much is {a} times {b}?
{a} multiplied by {b}?
[compute|calculate|work out] {a} * {b}
[compute|calculate|work out] {a} times {b}
[the product of|multiply] {a} and {b}
what is {a} divided by {b}?
divide {a} by {b}
{a} / {b}
what is the square root of {a}?
""",
}
ASK = {name: forms(text) for name, text in ASK.items()}

DONT_KNOW = [
    "I don't know. [I am only the small guide of Firelight.|I am a very small model; a bigger model may know.]",
    "I don't know that. [I know Firelight and only a little of the world.|A bigger model may know it.]",
    "Sorry, I don't know. [That is outside of my small world.|I am only a small guide.]",
]
CANNOT = [
    "I don't know how to do that. [I am only the small guide of Firelight.|A bigger model can help.]",
    "Sorry, I don't know how. [I am a very small model.|That is too much for a small guide.]",
]
NO_FLAG = ["I don't know an option --{s}. `firelight --help` lists what there is."]
NO_COMMAND = ["I don't know a command `firelight {s}`. `firelight --help` lists what there is."]
NO_TIMES = ["I don't know: I only add, subtract and compare. [A bigger model may multiply.|]"]

BEGIN = "b br c d dr f g gr h j k kr l m n p pl qu r s st t tr v vl w z zh".split()
MIDDLE = "a e i o u ai ea ou or ar en".split()
END = ["nia", "land", "stan", "ria", "mar", "dor", "lia", "via", "gal", "wick", "burg", "toria", "nesia", "quay", "heim"]


def invented(rng):
    """An invented name of a country."""
    name = rng.choice(BEGIN) + rng.choice(MIDDLE)
    if rng.random() < 0.6:
        name += rng.choice(BEGIN) + rng.choice(MIDDLE)
    return sentence(name + rng.choice(END))


def foreign(rng, held=False):
    """A question that is answered with "I don't know"."""
    name = rng.choices([*ASK], [3, 6, 1.5, 3, 3, 2, 1.2, 1, 1.3])[0]
    train, test = ASK[name]
    slots = {}
    if name == "multiply":
        slots = dict(a=rng.randrange(2, 100), b=rng.randrange(2, 100))
    elif name == "country":
        slots = dict(s=invented(rng))
    else:
        slots = dict(s=rng.choice([s for s in SUBJECTS[name] if held_out(s, 6) == held]))
    # In a test, the subject is new; the form may be known.
    question = expand(rng, rng.choice(test if held and rng.random() < 0.5 else train), **slots)
    answers = {"task": CANNOT, "flag": NO_FLAG, "command": NO_COMMAND, "multiply": NO_TIMES}.get(name, DONT_KNOW)
    return question, expand(rng, rng.choice(answers), **slots), ["I don't know"]
