"""Skills rather than facts: sums, comparisons, units, and small operations on words and lists.

Sums are computed in steps that each change few digits, so that a small model can learn the rule instead of a table. One
pair of numbers in ten is held out by its hash.
"""

import json

from stories import NAMES
from words import expand, forms, held_out

POLITE = "[|||please |can you |could you |hey, |ok, |so ]"


def polite(rng):
    """Polite words before a request, or none, with the following space."""
    return expand(rng, POLITE) + " "


def pair_held_out(kind, a, b):
    """Whether this sum is never trained on."""
    return held_out(f"{kind} {a} {b}", part=10)


def number(rng):
    """A number, mostly with two digits, sometimes with one or three."""
    roll = rng.random()
    return rng.randrange(10) if roll < 0.15 else rng.randrange(10, 100) if roll < 0.85 else rng.randrange(100, 1000)


def pair(rng, kind, held, two_digits=False):
    """Two numbers, held out or not according to `held`."""
    while True:
        if two_digits or rng.random() < 0.6:
            a, b = rng.randrange(10, 100), rng.randrange(10, 100)
        else:
            a, b = number(rng), number(rng)
        # Adding a multiple of ten is a step of other sums, so training has seen such pairs.
        if pair_held_out(kind, a, b) == held and not (held and b % 10 == 0):
            return a, b


def steps(a, b, sign):
    """`47 + 30 = 77, 77 + 8 = 85`: b digit by digit, most significant first."""
    out = []
    for place in (100, 10, 1):
        part = b // place % 10 * place
        if part:
            total = a + part if sign == "+" else a - part
            out.append(f"{a} {sign} {part} = {total}")
            a = total
    return out


def worked(a, b, sign):
    """An answer: the steps, then the sum."""
    if sign == "-" and b > a:
        swapped = steps(b, a, "-")
        return (", ".join(swapped) + f", so {a} - {b} = -{b - a}.") if swapped else f"{a} - {b} = -{b}."
    result = a + b if sign == "+" else a - b
    s = steps(a, b, sign)
    # A single step is already the answer.
    return f"{a} {sign} {b} = {result}." if len(s) < 2 else ", ".join(s) + f", so {a} {sign} {b} = {result}."


ADD = forms("""
{p}[what is|what's|whats|how much is] {a} [+|plus|and] {b}?
{a} + {b}
{a}+{b}
{a} + {b} = ?
{a}+{b}=
{a} plus {b}?
{p}add {a} and {b}
{p}add {b} to {a}
{p}[compute|calculate|work out] {a} + {b}
{p}what do you get if you add {a} and {b}?
{p}[give me|tell me] the sum of {a} and {b}
the sum of {a} and {b}?
how much do {a} and {b} make [together|]?
i have {a} [apples|coins|books|stamps] and get {b} more. how many [do i have|are that] [now|]?
there are {a} [birds|cars|people|eggs] and then {b} more come. how many are there now?
what does {a} + {b} equal?
[sum|add up] {a} and {b}
if i take {a} and add {b}, what is it?
{a} and {b} together?
what is {a} increased by {b}?
{a} [birds|cars|people|ducks] are here and {b} more [come|arrive]. how many are here now?
first there were {a} [birds|cars|people|eggs], then {b} more came. how many are there now?
in a box are {a} [coins|eggs|apples], and i put {b} more into it. how many are in it [now|]?
we are {a} [people|children] and {b} more come. how many are we [now|]?
i read {a} pages, and then {b} more. how many are that?
{a} [eggs|coins|cars] and then {b} more: how many [are there|are that] [now|]?
there were {a} [birds|books|eggs] and now there are {b} more. how many are there?
{p}take {a} and add {b}
take {a}, then add {b}. what [is it|do you get]?
[start with|begin with] {a} and add {b}
if i [start with|begin with|have|have got] {a} and [add|get] {b}, [what|how many|how much] is [it|that]?
what is it if i add {b} to {a}?
if you [put|add] {a} and {b} together, what do you get?
when i add {a} and {b}, what [is it|comes out]?
add {b} more to {a}
i add {a} to {b}. what is it?
[put|take] {a} and {b} together
{a}, and {b} more?
the total of {a} and {b}?
what makes {a} and {b}?
""")
SUBTRACT = forms("""
{p}[what is|what's|whats|how much is] {a} [-|minus] {b}?
{a} - {b}
{a}-{b}
{a} - {b} = ?
{a}-{b}=
{a} minus {b}?
{p}subtract {b} from {a}
{p}take {b} away from {a}
{p}[compute|calculate|work out] {a} - {b}
{p}[tell me|give me] the difference {a} - {b}
what is left if i take {b} from {a}?
i have {a} [apples|coins|books|stamps] and give away {b}. how many are left?
there are {a} [birds|cars|people|eggs] and {b} go away. how many are left?
what does {a} - {b} equal?
{a} less {b}?
what is {a} decreased by {b}?
what do you get if you [subtract|take] {b} from {a}?
if i subtract {b} from {a}, what [is left|is it]?
from {a} subtract {b}
when i [subtract|take away] {b} from {a}, what comes out?
[start with|begin with] {a} and [subtract|take away] {b}
{a} take away {b}?
the difference of {a} and {b}?
{p}work out {a} minus {b}
i had {a} [coins|eggs|cars] and lost {b}. how many do i have now?
""")
COMPARE = forms("""
{p}[which|what] is [larger|bigger|greater|more], {a} or {b}?
is {a} [larger|bigger|greater|more] than {b}?
{p}[which|what] is [smaller|less], {a} or {b}?
is {a} [smaller|less] than {b}?
{p}compare {a} and {b}
{p}[tell me|say] which number is [larger|bigger|greater], {a} or {b}
[larger|bigger|greater]: {a} or {b}?
{a} or {b}, which is [larger|bigger|greater]?
{p}compare the numbers {a} and {b}
[smaller|less]: {a} or {b}?
{p}[tell me|say] which is [larger|bigger|greater|the larger number], {a} or {b}
{p}which number is [smaller|less|larger|bigger], {a} or {b}?
which of {a} and {b} is [larger|bigger|greater|smaller]?
the [larger|bigger|greater|smaller] of {a} and {b}?
{a} or {b}, which is smaller?
{p}tell me the [larger|bigger|smaller] number: {a} or {b}
""")


def pick(rng, both, held):
    """A form for training, or one for tests if `held`."""
    return rng.choice(both[1] if held and both[1] else both[0])


def add(rng, held=False, two_digits=False):
    a, b = pair(rng, "+", held, two_digits)
    question = expand(rng, pick(rng, ADD, held), a=a, b=b, p=polite(rng))
    return question, worked(a, b, "+"), [f"{a} + {b} = {a + b}."]


def subtract(rng, held=False):
    a, b = pair(rng, "-", held)
    if a < b and rng.random() < 0.8 and pair_held_out("-", b, a) == held:
        a, b = b, a
    question = expand(rng, pick(rng, SUBTRACT, held), a=a, b=b, p=polite(rng))
    return question, worked(a, b, "-"), [f"{a} - {b} = {a - b}."]


def compare(rng, held=False):
    a, b = pair(rng, "?", held)
    if rng.random() < 0.1:
        b = a
    question = expand(rng, pick(rng, COMPARE, held), a=a, b=b, p=polite(rng))
    small = "smaller" in question or "less" in question
    if a == b:
        fact = f"{a} and {b} are equal"
        answer = f"{fact}."
    else:
        low, high = sorted((a, b))
        fact = f"{low} is smaller than {high}" if small else f"{high} is larger than {low}"
        yes = ""
        if question.lower().startswith("is "):
            yes = "Yes, " if (a < b) == small else "No, "
        answer = f"{yes}{fact}."
    return question, answer, [fact]


# Units: a list of whole numbers for each, so that every answer is exact as stated.
def whole(x):
    """A number without a trailing `.0`."""
    return f"{x:.1f}".removesuffix(".0")


UNITS = [
    ("kilometers", "miles", "km", "mi", [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 30, 40, 42, 50, 100], lambda x: x * 0.621371),
    ("miles", "kilometers", "mi", "km", [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 26, 30, 50, 60, 100], lambda x: x * 1.609344),
    ("kilograms", "pounds", "kg", "lb", [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 50, 60, 70, 80, 100], lambda x: x * 2.204623),
    ("pounds", "kilograms", "lb", "kg", [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 50, 100, 120, 150, 200], lambda x: x * 0.453592),
    ("inches", "centimeters", "in", "cm", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 20], lambda x: x * 2.54),
    ("feet", "meters", "ft", "m", [1, 2, 3, 4, 5, 6, 8, 10, 20, 100], lambda x: x * 0.3048),
    ("degrees Celsius", "degrees Fahrenheit", "°C", "°F", list(range(-20, 105, 5)) + [37], lambda x: x * 9 / 5 + 32),
    ("degrees Fahrenheit", "degrees Celsius", "°F", "°C", [32, 41, 50, 59, 68, 77, 86, 95, 104, 122, 212, 14, 23, 5], lambda x: (x - 32) * 5 / 9),
    ("hours", "minutes", "h", "min", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 24], lambda x: x * 60),
    ("minutes", "seconds", "min", "s", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30], lambda x: x * 60),
    ("days", "hours", "days", "hours", [1, 2, 3, 4, 5, 6, 7, 10], lambda x: x * 24),
    ("weeks", "days", "weeks", "days", list(range(1, 13)) + [20, 52], lambda x: x * 7),
    ("years", "months", "years", "months", list(range(1, 11)), lambda x: x * 12),
    ("meters", "centimeters", "m", "cm", list(range(1, 21)) + [50, 100], lambda x: x * 100),
    ("kilometers", "meters", "km", "m", list(range(1, 21)) + [42, 50, 100], lambda x: x * 1000),
    ("kilograms", "grams", "kg", "g", list(range(1, 21)) + [50, 100], lambda x: x * 1000),
]  # fmt: skip
CONVERT = forms("""
{p}convert {n} {a} [to|into] {b}
how many {b} are {n} {a}?
how many {b} [is|make] {n} {a}?
what is {n} {a} in {b}?
{n} {a} in {b}?
{n} {a} to {b}
how much is {n} {a} in {b}?
{p}[turn|change] {n} {a} into {b}
{p}[tell me|say] how many {b} {n} {a} are
{n} {a} are how many {b}?
""")


def singular(unit):
    """`1 mile`, `1 degree Celsius`, `1 foot`."""
    first, _, rest = unit.partition(" ")
    one = {"inches": "inch", "feet": "foot"}.get(first, first.removesuffix("s"))
    return f"{one} {rest}".strip()


def convert(rng, held=False):
    a, b, short_a, short_b, numbers, of = rng.choice(UNITS)
    n = rng.choice(numbers)
    result = whole(round(of(n), 1))
    exact = abs(float(result) - of(n)) < 1e-9
    named = dict(a=short_a, b=short_b) if rng.random() < 0.25 and short_a != a else dict(a=a if n != 1 else singular(a), b=b)
    question = expand(rng, pick(rng, CONVERT, held), n=n, p=polite(rng), **named)
    left = f"{n} {a if n != 1 else singular(a)}"
    right = f"{result} {b if result != '1' else singular(b)}"
    verb = ("is" if n == 1 else "are") + ("" if exact else " about")
    return question, f"{left} {verb} {right}.", [right]


WORDS = """apple house water river table chair bread music green light happy small dream stone paper cloud sugar money tiger
horse snake bear fish bird tree moon star sun rain snow wind fire salt milk cake ball book door lamp ship train car bus
road bridge tower garden flower grass leaf root seed corn rice soup plate spoon fork knife glass cup bottle box bag hat
coat shoe shirt ring king queen girl boy man woman child friend name word letter page story song dance game toy kite
drum bell clock watch phone radio window wall roof floor room bed sofa desk pen brush paint color red blue white black
brown yellow orange purple gray gold silver iron wood sand hill lake beach ocean island forest desert field farm barn
cow pig goat sheep duck hen cat dog fox wolf lion zebra monkey mouse rabbit frog bee ant spider nose hand foot arm leg
head hair eye ear mouth tooth heart bone cold warm hot fast slow long short tall deep high low new old young good bad
kind brave quiet loud soft hard heavy open close start stop walk run jump swim fly sing read write think learn teach
help give take make find keep hold bring send buy sell eat drink cook bake wash clean sleep wake smile laugh cry""".split()

REVERSE = forms("""
{p}reverse the word {w}
{p}write {w} backwards
{p}spell {w} backwards
what is {w} backwards?
{w} backwards?
{p}reverse "{w}"
{p}turn the word {w} around
how is {w} written backwards?
""")
SPELL = forms("""
{p}spell [the word|] {w}
how do you spell {w}?
how is {w} spelled?
{p}spell out {w}
which letters are in {w}?
what are the letters of {w}?
""")
COUNT = forms("""
how many letters has [the word|] {w}?
how many letters are in [the word|] {w}?
{p}count the letters [of|in] {w}
{p}tell me how many letters {w} has
number of letters in {w}?
how long is the word {w}?
""")
UPPER = forms("""
{p}write {w} in [capitals|capital letters|upper case|uppercase]
{p}[uppercase|capitalize] [the word|] {w}
{p}put {w} in [capitals|upper case]
{w} in [capital letters|capitals|uppercase]?
{p}make {w} upper case
{p}turn {w} into capital letters
""")


def word(rng, held=False):
    """An operation on a word, by way of its letters."""
    w = rng.choice(WORDS)
    spelled = ", ".join(w)
    kind = rng.randrange(4)
    question = expand(rng, pick(rng, (REVERSE, SPELL, COUNT, UPPER)[kind], held), w=w, p=polite(rng))
    if kind == 0:
        return question, f"{spelled} backwards is \0{w[::-1]}\0.", [w[::-1]]
    if kind == 1:
        return question, f"{spelled}.", [spelled]
    if kind == 2:
        return question, f"{spelled}: {len(w)} letters.", [f"{len(w)} letters"]
    return question, f"\0{w.upper()}\0", [w.upper()]


KINDS = {
    "fruits": "apple banana cherry pear plum orange lemon grape peach melon",
    "colors": "red blue green yellow orange purple black white brown pink",
    "animals": "dog cat horse cow lion tiger bear fox mouse owl",
    "vegetables": "carrot potato tomato onion pea bean cabbage spinach pumpkin corn",
    "countries": "France Italy Spain Japan India Brazil Canada Egypt Kenya Norway",
    "cities": "Paris London Rome Berlin Tokyo Madrid Cairo Lima Oslo Vienna",
    "birds": "eagle owl duck swan crow parrot penguin robin sparrow stork",
    "trees": "oak pine maple birch willow beech elm ash fir cedar",
    "drinks": "water milk tea coffee juice lemonade cocoa cider soda broth",
    "tools": "hammer saw drill knife axe shovel rake file chisel pliers",
    "instruments": "piano violin guitar flute drum trumpet harp cello organ oboe",
    "sports": "football tennis golf hockey swimming running rowing boxing judo skiing",
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune",
}
COUNTS = ["two", "three", "four", "five"]
LIST = forms("""
{p}list {n} {k}
{p}name {n} {k}
{p}give me {n} {k}
{p}tell me {n} {k}
{p}write down {n} {k}
{n} {k}[, please|]
{p}give me a list of {n} {k}
can you think of {n} {k}?
i need {n} {k}
""")
REVERSE_LIST = forms("""
{p}reverse the list {l}
{p}reverse this list: {l}
{p}reverse: {l}
{p}write this list backwards: {l}
{p}turn the order around: {l}
{p}put {l} in reverse order
""")
SAY = forms("""
{p}say [the word|] {w}
{p}repeat [the word|] {w}
{p}write [the word|] {w}
{p}repeat after me: {w}
{p}just say {w}
{p}answer only with {w}
""")


def listing(rng, held=False):
    """A list of a kind, a list to reverse, or words to repeat."""
    roll = rng.random()
    if roll < 0.55:
        kind = rng.choice([*KINDS])
        n = rng.randrange(4)
        items = rng.sample(KINDS[kind].split(), n + 2)
        named = rng.choice((COUNTS[n], str(n + 2)))
        question = expand(rng, pick(rng, LIST, held), n=named, k=kind, p=polite(rng))
        return question, "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1)), [f"{n + 2}. ", *items]
    if roll < 0.85:
        items = rng.sample(WORDS, rng.randrange(3, 6))
        question = expand(rng, pick(rng, REVERSE_LIST, held), l=", ".join(items), p=polite(rng))
        answer = ", ".join(reversed(items))
        return question, answer, [answer]
    w = " ".join(rng.sample(WORDS, rng.choice((1, 1, 2))))
    return expand(rng, pick(rng, SAY, held), w=w, p=polite(rng)), w, [w]


JSON = forms("""
{p}[give me|write|make|return] json with {f}
{p}[give me|write|make] a json object with {f}
json with {f}
{p}answer in json: {f}
{p}put this into json: {f}
{p}[return|output] {f} as json
i need json with {f}
{p}make a json of {f}
""")
FIELDS = {
    "name": NAMES,
    "age": range(1, 100),
    "city": [*KINDS["cities"].split(), "Athens", "Dublin", "Prague", "Lisbon"],
    "color": KINDS["colors"].split(),
    "fruit": KINDS["fruits"].split(),
    "animal": KINDS["animals"].split(),
    "count": range(1, 100),
    "country": KINDS["countries"].split(),
    "year": range(1900, 2030),
    "title": WORDS,
}


def json_object(rng, held=False):
    """`{"name": "Anna", "age": 31}` from "name Anna and age 31"."""
    fields = rng.sample([*FIELDS], rng.choice((1, 2, 2, 3)))
    values = {field: rng.choice(FIELDS[field]) for field in fields}
    said = [rng.choice(("{f} {v}", "{f} {v}", "{f}: {v}", "{f} = {v}")).format(f=f, v=v) for f, v in values.items()]
    text = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
    question = expand(rng, pick(rng, JSON, held), p=polite(rng), f=text)
    answer = json.dumps(values)
    return question, answer, [answer]


FIRST = forms("""
what is the first letter of {w}?
what letter does {w} begin with?
first letter of {w}?
{p}tell me the first letter of {w}
which letter does {w} start with?
""")
LAST = forms("""
what is the last letter of {w}?
what letter does {w} end with?
last letter of {w}?
{p}tell me the last letter of {w}
which letter does {w} end in?
""")


def letter(rng, held=False):
    w = rng.choice(WORDS)
    first = rng.random() < 0.5
    question = expand(rng, pick(rng, FIRST if first else LAST, held), w=w, p=polite(rng))
    fact = f"{'first' if first else 'last'} letter is {w[0] if first else w[-1]}"
    return question, f"{', '.join(w)}: the {fact}.", [fact]
