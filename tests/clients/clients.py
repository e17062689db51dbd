"""Runs the official Python clients, unmodified, against a server: clients.py http://127.0.0.1:PORT MODEL [CHECK...]

Every function named `check_...` is a check. They work with any model: they test the format of answers, not their content.
"""

import json
import math
import sys
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, Optional, Union
from uuid import UUID

import anthropic
import ollama
import openai
from pydantic import BaseModel, ConfigDict, Field, SecretStr

BASE, MODEL = sys.argv[1], sys.argv[2]
OPENAI = openai.OpenAI(base_url=f"{BASE}/v1", api_key="none", max_retries=0, timeout=120)
OLLAMA = ollama.Client(host=BASE, timeout=120)
ANTHROPIC = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0, timeout=120)

SAY = [{"role": "user", "content": "Once upon a time"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Tom", "Lily"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "pets": {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 2},
    },
    "required": ["name", "age", "pets"],
    "additionalProperties": False,
}
PARAMETERS = {
    "type": "object",
    "properties": {"place": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["place", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": PARAMETERS}}
OTHER = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "additionalProperties": False}}}


class Colour(str, Enum):
    red = "red"
    blue = "blue"


class Closed(BaseModel):
    """A base class without extra members: a small model would invent them without end."""

    model_config = ConfigDict(extra="forbid")


class Cat(Closed):
    kind: Literal["cat"]
    wild: bool


class Dog(Closed):
    kind: Literal["dog"]
    tricks: Annotated[int, Field(ge=0, le=9)]


class Person(Closed):
    """Common constructs: sets, secrets, unions, and references to the class itself."""

    name: Annotated[str, Field(max_length=6)]
    colours: Annotated[set[Colour], Field(max_length=2)]
    pet: Annotated[Union[Cat, Dog], Field(discriminator="kind")]
    secret: Annotated[SecretStr, Field(max_length=3)]
    friend: Optional["Person"] = None


class Thing(Closed):
    place: Path
    since: date
    data: Annotated[bytes, Field(max_length=4)]
    id: UUID


class Node(Closed):
    value: Annotated[int, Field(ge=0, le=9)]
    next: Optional["Node"] = None


def fits(answer):
    assert set(answer) == {"name", "age", "pets"}, answer
    assert answer["name"] in ("Tom", "Lily") and 0 <= answer["age"] <= 99 and len(answer["pets"]) <= 2, answer


def calls_weather(name, arguments):
    assert name == "weather" and set(arguments) == {"place", "days"}, (name, arguments)
    assert arguments["place"] in ("Rome", "Oslo") and 1 <= arguments["days"] <= 9, arguments


def refused(kind, status, words, call):
    try:
        call()
    except kind as error:
        got = getattr(error, "status_code", None)
        assert got == status, f"{got}: {error}"
        assert words in str(error), str(error)
        return
    raise AssertionError(f"{words!r} was not refused")


def check_openai_models():
    assert [m.id for m in OPENAI.models.list()] == [MODEL]
    assert OPENAI.models.retrieve(MODEL).object == "model"


def check_openai_chat():
    whole = OPENAI.chat.completions.create(model=MODEL, messages=SAY, max_tokens=12, temperature=0, seed=1)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason == "length", choice
    assert whole.usage.completion_tokens == 12 and whole.usage.prompt_tokens > 4, whole.usage
    chunks = list(OPENAI.chat.completions.create(
        model=MODEL, messages=SAY, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == choice.message.content, (text, choice.message.content)
    assert chunks[-1].usage.completion_tokens == 12 and not chunks[-1].choices
    assert chunks[-2].choices[0].finish_reason == "length"


def check_openai_helper_stream():
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    with OPENAI.chat.completions.stream(model=MODEL, messages=SAY, response_format=form) as stream:
        for _ in stream:
            pass
    fits(json.loads(stream.get_final_completion().choices[0].message.content))


def check_openai_choices_and_stop():
    many = OPENAI.chat.completions.create(model=MODEL, messages=SAY, max_tokens=16, n=3, temperature=1.0, seed=5)
    assert [c.index for c in many.choices] == [0, 1, 2]
    assert len({c.message.content for c in many.choices}) > 1, "three seeds gave one answer"
    assert many.usage.completion_tokens == 48
    whole = OPENAI.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=24, temperature=0)
    text = whole.choices[0].text
    stop = text[8:11]
    cut = OPENAI.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=24, temperature=0, stop=[stop])
    assert cut.choices[0].text == text.split(stop)[0] and cut.choices[0].finish_reason == "stop", (text, cut)


def check_openai_logprobs():
    answer = OPENAI.chat.completions.create(
        model=MODEL, messages=SAY, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    rows = answer.choices[0].logprobs.content
    assert len(rows) == 6
    for row in rows:
        assert row.logprob <= 0 and len(row.top_logprobs) == 3, row
        assert row.token == row.top_logprobs[0].token and row.logprob == row.top_logprobs[0].logprob, "greedy"
        assert sum(math.exp(t.logprob) for t in row.top_logprobs) <= 1.0001
    assert b"".join(bytes(row.bytes) for row in rows).decode() == answer.choices[0].message.content
    chunks = OPENAI.chat.completions.create(
        model=MODEL, messages=SAY, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3, stream=True)
    streamed = [row for c in chunks if c.choices and c.choices[0].logprobs for row in c.choices[0].logprobs.content]
    assert [r.token for r in streamed] == [r.token for r in rows]


def check_openai_logit_bias():
    answer = OPENAI.completions.create(
        model=MODEL, prompt=[1, 403, 407], max_tokens=4, temperature=0, logit_bias={"400": 100}, logprobs=1)
    assert len(set(answer.choices[0].logprobs.tokens)) == 1, answer.choices[0].logprobs.tokens


def check_openai_json():
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    answer = OPENAI.chat.completions.create(
        model=MODEL, messages=SAY, max_tokens=200, temperature=1, response_format=form)
    assert answer.choices[0].finish_reason == "stop"
    fits(json.loads(answer.choices[0].message.content))


def check_openai_tools():
    named = {"type": "function", "function": {"name": "weather"}}
    ask = dict(model=MODEL, messages=SAY, max_tokens=200, temperature=1, tools=[TOOL, OTHER])
    answer = OPENAI.chat.completions.create(tool_choice=named, **ask)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None, choice
    call = choice.message.tool_calls[0]
    calls_weather(call.function.name, json.loads(call.function.arguments))
    arguments, name, pieces = "", None, 0
    for chunk in OPENAI.chat.completions.create(tool_choice=named, stream=True, **ask):
        for part in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name, arguments = part.function.name or name, arguments + (part.function.arguments or "")
            pieces += bool(part.function.arguments)
    calls_weather(name, json.loads(arguments))
    assert pieces > 3, f"the arguments came in {pieces} pieces"
    with OPENAI.chat.completions.stream(tool_choice=named, **ask) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    calls_weather(done[0].name, json.loads(done[0].arguments))
    any_call = OPENAI.chat.completions.create(tool_choice="required", **ask).choices[0].message.tool_calls[0]
    assert any_call.function.name in ("weather", "clock")
    # Sends the tool's result back.
    back = SAY + [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "It rains."}]
    after = OPENAI.chat.completions.create(model=MODEL, messages=back, max_tokens=4, tools=[TOOL], tool_choice="none")
    assert after.choices[0].message.tool_calls is None


def check_openai_embeddings():
    a = OPENAI.embeddings.create(model=MODEL, input=["A cat sat.", "A dog ran.", "A cat sat."])
    one, two, three = (row.embedding for row in a.data)
    dot = lambda x, y: sum(p * q for p, q in zip(x, y))
    assert abs(dot(one, one) - 1) < 1e-4 and abs(dot(one, three) - 1) < 1e-4 and dot(one, two) < 0.9999
    floats = OPENAI.embeddings.create(model=MODEL, input="A cat sat.", encoding_format="float").data[0].embedding
    assert max(abs(x - y) for x, y in zip(one, floats)) < 1e-6


def check_openai_responses():
    answer = OPENAI.responses.create(model=MODEL, input="Once upon a time", max_output_tokens=16, temperature=0)
    assert answer.status == "incomplete" and answer.usage.output_tokens == 16, answer
    text = ""
    for event in OPENAI.responses.create(
            model=MODEL, input="Once upon a time", max_output_tokens=16, temperature=0, stream=True):
        last = event
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == answer.output_text and last.type == "response.incomplete", (text, last)
    assert last.response.output_text == text
    form = {"format": {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}}
    fits(json.loads(OPENAI.responses.create(model=MODEL, input="Hi", text=form).output_text))
    tool = {"type": "function", "name": "weather", "parameters": PARAMETERS}
    called = OPENAI.responses.create(model=MODEL, input="Hi", tools=[tool], tool_choice="required")
    call = called.output[0]
    calls_weather(call.name, json.loads(call.arguments))
    with OPENAI.responses.stream(model=MODEL, input="Hi", tools=[tool], tool_choice="required") as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        streamed = stream.get_final_response().output[0]
    assert len(pieces) > 3 and "".join(pieces) == streamed.arguments, (pieces, streamed)
    calls_weather(streamed.name, json.loads(streamed.arguments))
    back = [{"role": "user", "content": "Hi"}, call,
            {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}]
    assert OPENAI.responses.create(model=MODEL, input=back, max_output_tokens=16).output


def check_openai_errors():
    chat = OPENAI.chat.completions.create
    refused(openai.NotFoundError, 404, MODEL, lambda: chat(model="no-such", messages=SAY))
    refused(openai.BadRequestError, 400, "role", lambda: chat(model=MODEL, messages=[{"role": "king", "content": "x"}]))
    refused(openai.BadRequestError, 400, "temperature", lambda: chat(model=MODEL, messages=SAY, temperature=-1))
    long = [{"role": "user", "content": "word " * 2000}]
    refused(openai.BadRequestError, 400, "tokens", lambda: chat(model=MODEL, messages=long))
    refused(openai.BadRequestError, 400, "tokens", lambda: chat(model=MODEL, messages=long, stream=True))


def check_ollama_about():
    assert [m.model for m in OLLAMA.list().models] == [MODEL]
    assert OLLAMA.show(MODEL).details.format == "gguf"
    OLLAMA.generate(model=MODEL, prompt="a", options={"num_predict": 1})
    (running,), (listed,) = OLLAMA.ps().models, OLLAMA.list().models
    assert running.model == MODEL and running.digest == listed.digest and len(listed.digest[:12]) == 12, running
    assert running.size >= running.size_vram > 0 and running.expires_at > listed.modified_at, running
    shown = OLLAMA.show(MODEL)
    assert shown.modelinfo["general.parameter_count"] > 0 and shown.parameters and shown.modelfile, shown


def check_ollama_chat():
    options = {"temperature": 0, "num_predict": 10}
    whole = OLLAMA.chat(model=MODEL, messages=SAY, options=options)
    assert whole.done and whole.done_reason == "length" and whole.eval_count == 10, whole
    parts = list(OLLAMA.chat(model=MODEL + ":latest", messages=SAY, options=options, stream=True))
    assert "".join(p.message.content or "" for p in parts) == whole.message.content
    assert parts[-1].done and not any(p.done for p in parts[:-1])


def check_ollama_logprobs():
    answer = OLLAMA.chat(model=MODEL, messages=SAY, logprobs=True, top_logprobs=2, options={"num_predict": 4})
    assert len(answer.logprobs) == 4 and all(len(row.top_logprobs) == 2 for row in answer.logprobs), answer


def check_ollama_generate():
    options = {"temperature": 0, "num_predict": 10}
    whole = OLLAMA.generate(model=MODEL, prompt="Once upon a time", raw=True, options=options)
    parts = OLLAMA.generate(model=MODEL, prompt="Once upon a time", raw=True, options=options, stream=True)
    assert "".join(p.response for p in parts) == whole.response and whole.response
    system = OLLAMA.generate(model=MODEL, prompt="Hi", system="Be short.", options=options)
    assert system.prompt_eval_count > whole.prompt_eval_count


def check_ollama_json():
    answer = OLLAMA.chat(model=MODEL, messages=SAY, format=SCHEMA, options={"temperature": 1, "num_predict": 200})
    fits(json.loads(answer.message.content))


def check_ollama_tools():
    answer = OLLAMA.chat(model=MODEL, messages=SAY, tools=[TOOL], options={"num_predict": 4})
    assert answer.done
    message = {"role": "assistant", "content": "",
               "tool_calls": [{"function": {"name": "weather", "arguments": {"place": "Rome"}}}]}
    messages = SAY + [message, {"role": "tool", "content": "It rains.", "tool_name": "weather"}]
    assert OLLAMA.chat(model=MODEL, messages=messages, tools=[TOOL], options={"num_predict": 4}).done


def parsed(ask):
    """The first complete answer, parsed. Tries several seeds, because the model may not end an answer."""
    for seed in range(8):
        answer = ask(seed)
        if answer is not None:
            return answer
    raise AssertionError("no answer ended")


def check_openai_parse():
    def ask(kind):
        def once(seed):
            try:
                answer = OPENAI.chat.completions.parse(
                    model=MODEL, messages=SAY, max_tokens=300, temperature=1, seed=seed, response_format=kind)
            except openai.LengthFinishReasonError:
                return None
            return answer.choices[0].message.parsed
        return once
    assert isinstance(parsed(ask(Person)), Person)
    assert isinstance(parsed(ask(Thing)), Thing)
    assert isinstance(parsed(ask(Node)), Node)
    tool = openai.pydantic_function_tool(Node)
    for seed in range(8):
        try:
            answer = OPENAI.chat.completions.parse(
                model=MODEL, messages=SAY, max_tokens=300, temperature=1, seed=seed, tools=[tool], tool_choice="required")
        except openai.LengthFinishReasonError:
            continue
        assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Node)
        break
    answer = OPENAI.responses.parse(model=MODEL, input="Hi", text_format=Cat)
    assert isinstance(answer.output_parsed, Cat), answer
    odd = {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "maxItems": 2}},
           "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "odd", "schema": odd, "strict": True}}
    raw = OPENAI.chat.completions.with_raw_response.create(model=MODEL, messages=SAY, response_format=form, max_tokens=60)
    assert raw.headers["x-firelight-not-held"] == "#/properties/a/uniqueItems", raw.headers


def check_openai_tools_with_response_format():
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    kinds = set()
    for seed in range(40):
        answer = OPENAI.chat.completions.create(
            model=MODEL, messages=SAY, max_tokens=200, temperature=1.5, seed=seed, tools=[TOOL], response_format=form)
        message = answer.choices[0].message
        if message.tool_calls:
            assert message.content is None, message
            calls_weather(message.tool_calls[0].function.name, json.loads(message.tool_calls[0].function.arguments))
        else:
            fits(json.loads(message.content))
        kinds.add(bool(message.tool_calls))
        if len(kinds) == 2:
            return
    raise AssertionError(f"only {kinds}")


def check_ollama_pydantic():
    def once(seed):
        answer = OLLAMA.chat(model=MODEL, messages=SAY, format=Person.model_json_schema(),
                             options={"temperature": 1, "seed": seed, "num_predict": 300})
        return Person.model_validate_json(answer.message.content) if answer.done_reason == "stop" else None
    assert parsed(once)


def check_anthropic_parse():
    answer = ANTHROPIC.messages.parse(model=MODEL, messages=SAY, max_tokens=300, output_format=Cat)
    assert isinstance(answer.parsed_output, Cat), answer
    with ANTHROPIC.messages.stream(model=MODEL, messages=SAY, max_tokens=300, output_format=Cat) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Cat)
    cut = dict(model=MODEL, messages=SAY, max_tokens=26, tool_choice={"type": "any"}, extra_body={"seed": 1},
               tools=[{"name": "weather", "description": "The weather", "input_schema": PARAMETERS}])
    whole = ANTHROPIC.messages.create(**cut)
    with ANTHROPIC.messages.stream(**cut) as stream:
        streamed = stream.get_final_message()
    assert whole.stop_reason == streamed.stop_reason == "max_tokens", (whole, streamed)
    assert whole.content[0].type == streamed.content[0].type == "tool_use", (whole, streamed)
    assert whole.content[0].input == streamed.content[0].input, (whole, streamed)


def check_ollama_embed():
    vectors = OLLAMA.embed(model=MODEL, input=["A cat sat.", "A dog ran."]).embeddings
    assert len(vectors) == 2 and abs(sum(x * x for x in vectors[0]) - 1) < 1e-4
    older = OLLAMA.embeddings(model=MODEL, prompt="A cat sat.").embedding
    assert max(abs(x - y) for x, y in zip(older, vectors[0])) < 1e-4
    assert OLLAMA.embed(model=MODEL, input="A cat sat.", dimensions=len(older), keep_alive="5m").embeddings
    refused(ollama.ResponseError, 400, "dimensions", lambda: OLLAMA.embed(model=MODEL, input="a", dimensions=7))


def check_ollama_errors():
    refused(ollama.ResponseError, 404, MODEL, lambda: OLLAMA.chat(model="no-such", messages=SAY))
    long = [{"role": "user", "content": "word " * 2000}]
    refused(ollama.ResponseError, 400, "tokens", lambda: OLLAMA.chat(model=MODEL, messages=long))


def read(usage):
    return usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


def check_anthropic_messages():
    ask = dict(model=MODEL, messages=SAY, max_tokens=10, system="Be short.", extra_body={"temperature": 0})
    whole = ANTHROPIC.messages.create(**ask)
    assert whole.content[0].type == "text" and whole.stop_reason == "max_tokens", whole
    assert whole.usage.output_tokens == 10
    counted = ANTHROPIC.messages.count_tokens(model=MODEL, messages=SAY, system="Be short.")
    assert counted.input_tokens == read(whole.usage)
    with ANTHROPIC.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text, (text, whole)
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 10
    assert counted.input_tokens == read(final.usage) and final.usage.cache_read_input_tokens > 0, final.usage
    stop = whole.content[0].text[4:7]
    cut = ANTHROPIC.messages.create(**ask, stop_sequences=["never there", stop])
    assert cut.stop_reason == "stop_sequence" and cut.stop_sequence == stop, cut


def check_anthropic_models():
    (model,) = ANTHROPIC.models.list()
    assert model.id == model.display_name == MODEL and model.created_at.year > 2015, model


def check_anthropic_tools():
    tool = {"name": "weather", "description": "The weather", "input_schema": PARAMETERS}
    ask = dict(model=MODEL, messages=SAY, max_tokens=200, tools=[tool], tool_choice={"type": "tool", "name": "weather"})
    whole = ANTHROPIC.messages.create(**ask)
    assert whole.stop_reason == "tool_use", whole
    calls_weather(whole.content[0].name, whole.content[0].input)
    with ANTHROPIC.messages.stream(**ask) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        call = stream.get_final_message().content[0]
    calls_weather(call.name, call.input)
    assert len(pieces) > 3, pieces
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    back = SAY + [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    assert ANTHROPIC.messages.create(model=MODEL, messages=back, max_tokens=4, tools=[tool]).content


def check_anthropic_errors():
    create = ANTHROPIC.messages.create
    refused(anthropic.NotFoundError, 404, MODEL, lambda: create(model="no-such", messages=SAY, max_tokens=4))
    long = [{"role": "user", "content": "word " * 2000}]
    refused(anthropic.BadRequestError, 400, "tokens", lambda: create(model=MODEL, messages=long, max_tokens=4))


if __name__ == "__main__":
    checks = [(name, check) for name, check in list(globals().items()) if name.startswith("check_")]
    selected = sys.argv[3:]
    failed = 0
    for name, check in checks:
        if selected and name not in selected:
            continue
        try:
            check()
            print("ok    ", name, flush=True)
        except Exception as error:  # a failing check must not hide the others
            failed += 1
            print("FAILED", name, f"{type(error).__name__}: {error}", flush=True)
    sys.exit(1 if failed else 0)
