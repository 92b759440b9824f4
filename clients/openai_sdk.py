"""End-to-end checks with the `openai` Python SDK against Seaway's Chat surface: answers, streams, tools, schemas, images, errors, retries."""
import sys

sys.dont_write_bytecode = True
import support

support.in_venv("openai==3.57.0")

import asyncio, base64, json, pathlib, shutil, tempfile, urllib.request, uuid
import openai, pydantic
from openai import AsyncOpenAI, OpenAI
from support import LOCAL_KEY, UPSTREAM_KEY, Seaway, Upstream, asked_by, check, equal, key_with_budget, raises, true, within

GATEWAY = Seaway("--body-limit", "256KiB", "--set", 'alias={"gpt-4o":"claude-opus-5-5","gpt-*":"haiku"}')
MODEL = "claude-opus-5-5"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOLS = [{"type": "function", "function": {"name": name, "description": name, "parameters": {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}}}
         for name, key in [("get_weather", "city"), ("get_time", "zone")]]


def client(kind=OpenAI, url=None, **options):
    return kind(**{"base_url": (url or GATEWAY.url) + "/v1", "api_key": LOCAL_KEY, "max_retries": 0, "timeout": 20, **options})


def ask(content, **options):
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **options}


def say(content, **options):
    return client().chat.completions.create(**ask(content, **options))


def final(content, **options):
    """The whole completion, as the SDK's own accumulator makes it from chunks."""
    with client().chat.completions.stream(**ask(content, stream_options={"include_usage": True}, **options)) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


def plain(completion):
    """A completion as JSON, without what differs from request to request or between a stream and a whole answer."""
    out = completion.to_dict(warnings=False)
    choice = out["choices"][0]
    message = {key: value for key, value in choice["message"].items() if value not in (None, [], "") and key != "parsed"}
    for call in message.get("tool_calls", []):
        call.pop("id"), call.pop("index", None), call["function"].pop("parsed_arguments", None)
    return {"model": out["model"], "finish": choice["finish_reason"], "message": message, "usage": out["usage"]}


def once():
    """Words that no other request has, so that `[[times N]]` counts this one alone."""
    return uuid.uuid4().hex


# ---------------------------------------------------------------- budgets
@check("a budget that is used up is a RateLimitError with OpenAI's own code and our sentence, and asked once")
def _():
    with Seaway() as gateway:
        key = key_with_budget(gateway, "over", 100)
        patient = client(url=gateway.url, api_key=key, max_retries=2)
        for ask_it in (lambda: patient.chat.completions.create(**ask("hi")), lambda: patient.responses.create(model=MODEL, input="hi")):
            error = raises(openai.RateLimitError, ask_it)
            equal("its code and type", (error.code, error.type), ("insufficient_quota", "insufficient_quota"))
            within("its sentence", "the key `over` has used up its budget of 100 dollars a day", error.message)
        equal("requests", asked_by(gateway, "over", 2), [429, 429])


@check("a crowd: two hundred clients at once spend a dollar, no more, and next to all of it")
def _():
    with Seaway() as gateway:
        key = key_with_budget(gateway, "crowd", 99)

        async def spend(one):
            served = 0
            while True:
                try:
                    answer = await one.chat.completions.create(**ask("[[say " + "word " * 60 + "]]", model="claude-opus-4-1", max_completion_tokens=100))
                    served += bool(answer.choices[0].message.content)
                except openai.RateLimitError as error:
                    if error.code == "insufficient_quota":
                        return served

        async def crowd():
            async with client(AsyncOpenAI, url=gateway.url, api_key=key, timeout=120) as one:
                return await asyncio.gather(*(spend(one) for _ in range(200)))

        served = asyncio.run(crowd())
        ask_it = urllib.request.Request(gateway.url + "/v1/key", headers={"x-api-key": key})
        budget = json.load(urllib.request.urlopen(ask_it, timeout=10))["budgets"][0]
        spent = budget["spent_micros"] - 99_000_000
        true(f"at most a dollar, and at least 0.99, by {sum(served)} answers", 990_000 <= spent <= 1_000_000, spent)


class Clock:
    """The time of day of a gateway: what it says can be set, and goes on from there. Its steady clock stays as it is."""

    def __init__(self, folder):
        self.file = pathlib.Path(folder, "now")
        found = list(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        assert found, "there is no libfaketime: apt-get install faketime"
        self.environment = {"LD_PRELOAD": str(found[0]), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1", "TZ": "UTC"}

    def set(self, text):
        # In one piece: it is read at every look at the clock.
        made = self.file.with_suffix(".made")
        made.write_text("@" + text + "\n")
        made.replace(self.file)


@check("a clock that jumps gives nobody more than a budget, forth, back, and over a kill -9")
def _():
    folder = tempfile.mkdtemp(prefix="seaway-clock-")
    clock = Clock(folder)

    def served(gateway, key):
        """How many answers come until the cap says no, or so many."""
        with client(url=gateway.url, api_key=key, max_retries=0) as one:
            for count in range(5):
                try:
                    one.chat.completions.create(**ask("[[say hi]]", model="claude-opus-4-1", max_completion_tokens=100))
                except openai.RateLimitError as error:
                    equal("code", error.code, "insufficient_quota")
                    return count
            return count + 1

    def spent(gateway, key):
        request = urllib.request.Request(gateway.url + "/v1/key", headers={"x-api-key": key})
        return json.load(urllib.request.urlopen(request, timeout=10))["budgets"][0]["spent_micros"]

    try:
        clock.set("2027-03-10 23:30:00")
        options = ["--set", "time_zone=UTC", "--state-dir", folder + "/state"]
        with Seaway(*options, environment=clock.environment) as gateway:
            key = key_with_budget(gateway, "clock", 100)
            equal("the day is used up", served(gateway, key), 0)
            clock.set("2027-03-11 00:30:00")
            equal("the next day begins at nothing", (spent(gateway, key), served(gateway, key)), (0, 5))
            tomorrow = spent(gateway, key)
            true("what it cost is that day's", tomorrow > 0, tomorrow)
            clock.set("2027-03-10 23:40:00")
            equal("set back, the day is used up still", (served(gateway, key), spent(gateway, key)), (0, 100_000_000))
            clock.set("2027-03-09 12:00:00")
            equal("the day before has its own", (spent(gateway, key), served(gateway, key)), (0, 5))
            clock.set("2027-03-11 00:40:00")
            equal("forth again, what was spent then is there", spent(gateway, key), tomorrow)
            gateway.process.kill()
            gateway.process.wait()
        clock.set("2027-03-10 23:50:00")
        with Seaway(*options, environment=clock.environment) as gateway:
            equal("killed and set back, nothing is forgotten", (served(gateway, key), spent(gateway, key)), (0, 100_000_000))
            clock.set("2027-03-11 00:50:00")
            equal("nor of the day after", spent(gateway, key), tomorrow)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- answers
@check("a completion comes back whole, with usage, finish reason and request id")
def _():
    completion = say("hello there, wörld 🐙")
    choice = completion.choices[0]
    equal("text", choice.message.content, "hello there, wörld 🐙")
    equal("shape", (completion.object, completion.model, choice.finish_reason, choice.message.role), ("chat.completion", MODEL, "stop", "assistant"))
    true("usage", completion.usage.prompt_tokens > 0 and completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens, completion.usage)
    true("a request id is there", completion._request_id, completion._request_id)
    true("the id is the upstream's", completion.id.startswith("chatcmpl-msg_"), completion.id)


@check("the async client gets an answer, and twenty at once each their own")
def _():
    async def all_at_once():
        async with client(AsyncOpenAI) as its:
            return await asyncio.gather(*(its.chat.completions.create(**ask(f"number {n} [[slow 50ms]]")) for n in range(20)))
    equal("answers", [completion.choices[0].message.content for completion in asyncio.run(all_at_once())], [f"number {n}" for n in range(20)])


@check("a stream has the role first, text in pieces, one finish reason, and usage only when asked for")
def _():
    chunks = list(client().chat.completions.create(**ask("[[say one two three four five six seven]]"), stream=True))
    equal("role", chunks[0].choices[0].delta.role, "assistant")
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    true("several pieces", len(pieces) > 2, pieces)
    equal("joined", "".join(pieces), "one two three four five six seven")
    equal("finish", [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason], ["stop"])
    equal("no usage", {chunk.usage for chunk in chunks}, {None})
    counted = list(client().chat.completions.create(**ask("hi"), stream=True, stream_options={"include_usage": True}))
    equal("the last chunk has no choices", counted[-1].choices, [])
    true("usage", counted[-1].usage.completion_tokens > 0, counted[-1].usage)


@check("a stream and a whole answer say the same: text, thinking, tools, citations, refusals, unknown blocks")
def _():
    scripts = ["plain words", "[[think hm, let me see]] [[say so]]", "[[redacted]] [[say so]]", '[[tool get_time {"zone":"CET"}]]', "[[say one]] [[say two]]",
               "[[stop pause_turn]] wait", '[[block {"type":"brand_new","x":{"y":[1,2.50]}}]] [[say so]]',
               '[[tool get_time {"zone":"CET"}]] [[tool get_weather {"city":"Oslo"}]]', "[[stop max_tokens]] cut",
               '[[block {"type":"text","text":"It rains.","citations":[{"type":"web_search_result_location","url":"https://x.example","title":"X","cited_text":"r"}]}]]']
    for script in scripts:
        # What stopped for a pause is not finished either.
        if "max_tokens" in script or "pause_turn" in script:
            raises(openai.LengthFinishReasonError, final, script)
        else:
            equal(script, plain(final(script, tools=TOOLS)), plain(say(script, tools=TOOLS)))
    raises(openai.ContentFilterFinishReasonError, final, "[[refuse]]")
    equal("whole refusal", say("[[refuse]]").choices[0].finish_reason, "content_filter")


@check("a stream of two hundred thousand characters arrives uncorrupted")
def _():
    equal("text", final("[[repeat 20000 0123456789]]", max_tokens=64000).choices[0].message.content == "0123456789" * 20000, True)


@check("a request of 200 kB with every kind of character comes back as it was")
def _():
    text = "aé漢🐙\\\"\n\t\u2028\x7f" * 8000
    equal("echo is equal", say(text, max_tokens=128000).choices[0].message.content == text.strip(), True)


@check("the first words arrive before the upstream has written the last")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        texts = []
        for chunk in client(url=gateway.url).chat.completions.create(**ask("GATE"), stream=True):
            if chunk.choices[0].delta.content:
                texts.append(chunk.choices[0].delta.content)
                upstream.released.set()
        equal("texts", texts, ["first ", "last"])


@check("system, developer and assistant messages keep their places, and a mid-conversation instruction is heard")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        messages = [{"role": "system", "content": "S"}, {"role": "developer", "content": "D"}, {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
                    {"role": "user", "content": "3"}, {"role": "developer", "content": "now in verse"}]
        client(url=gateway.url).chat.completions.create(model=MODEL, messages=messages)
        sent = json.loads(upstream.requests[0]["body"])
        equal("system", [block["text"] for block in sent["system"]], ["S", "D"])
        equal("turns", [(turn["role"], turn["content"][0]["text"]) for turn in sent["messages"]], [("user", "1"), ("assistant", "2"), ("user", "3"), ("system", "now in verse")])


# ---------------------------------------------------------------- tools
@check("a tool is called, answered, and the answer used, in a whole loop")
def _():
    messages = [{"role": "user", "content": '[[tool get_weather {"city":"Paris"}]]'}]
    first = client().chat.completions.create(model=MODEL, tools=TOOLS, messages=messages).choices[0]
    call = first.message.tool_calls[0]
    equal("call", (first.finish_reason, call.function.name, json.loads(call.function.arguments)), ("tool_calls", "get_weather", {"city": "Paris"}))
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 °C"}]
    last = client().chat.completions.create(model=MODEL, tools=TOOLS, messages=messages).choices[0]
    equal("answer", (last.finish_reason, last.message.content), ("stop", "The tool answered: sunny, 21 °C"))


@check("two parallel calls stream with stable indexes, and both results come back")
def _():
    messages = [{"role": "user", "content": 'ask both [[tool get_weather {"city":"Paris"}]] [[tool get_time {"zone":"CET"}]]'}]
    with client().chat.completions.stream(model=MODEL, tools=TOOLS, messages=messages) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    equal("calls", [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls], [("get_weather", {"city": "Paris"}), ("get_time", {"zone": "CET"})])
    messages.append({"role": "assistant", "tool_calls": [call.to_dict() for call in message.tool_calls]})
    messages += [{"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": call.function.name + " done"}]} for call in reversed(message.tool_calls)]
    equal("answer", client().chat.completions.create(model=MODEL, tools=TOOLS, messages=messages).choices[0].message.content, "The tool answered: get_time done; get_weather done")


@check("tool arguments with brackets, quotes, numbers and other scripts survive streaming")
def _():
    given = {"city": 'a"]]\\ é漢🐙', "deep": [[1, 2.5], {"x": None}], "big": 12345678901234567890}
    script = f"[[tool get_weather {json.dumps(given, ensure_ascii=False)}]]"
    equal("streamed", json.loads(final(script, tools=TOOLS).choices[0].message.tool_calls[0].function.arguments), given)
    equal("whole", json.loads(say(script, tools=TOOLS).choices[0].message.tool_calls[0].function.arguments), given)


@check("a forced tool is called where the model can be forced, and asked for where it cannot")
def _():
    choice = {"type": "function", "function": {"name": "get_time"}}
    call = say("go", model="claude-haiku-4-5", tools=TOOLS, tool_choice=choice).choices[0].message.tool_calls[0]
    equal("call", (call.function.name, list(json.loads(call.function.arguments))), ("get_time", ["zone"]))
    softened = client().chat.completions.with_raw_response.create(**ask("go", tools=TOOLS, tool_choice=choice))
    within("the note", "tool_choice", softened.headers["seaway-note"])


@check("a tool whose name Claude does not take is called by the client's name")
def _():
    tools = [{"type": "function", "function": {"name": "files.read", "parameters": {"type": "object", "properties": {}}}}]
    completion = say("go", model="claude-haiku-4-5", tools=tools, tool_choice="required")
    equal("name", completion.choices[0].message.tool_calls[0].function.name, "files.read")
    equal("arguments", completion.choices[0].message.tool_calls[0].function.arguments, "{}")


@check("thinking survives a tool loop when its message is sent back as it came")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        first = say('[[think hm]] [[tool get_time {"zone":"CET"}]]', tools=TOOLS, reasoning_effort="high").choices[0].message
        equal("the text", first.reasoning_content, "hm")
        sent_back = [{"role": "user", "content": "?"}, first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "9"}]
        client(url=gateway.url).chat.completions.create(model=MODEL, tools=TOOLS, messages=sent_back)
        blocks = json.loads(upstream.requests[0]["body"])["messages"][1]["content"]
        equal("blocks", [block["type"] for block in blocks], ["thinking", "tool_use"])
        equal("the thought", blocks[0], first.thinking_blocks[0])


@check("legacy functions are called by `function_call`")
def _():
    functions = [TOOLS[0]["function"]]
    message = say('[[tool get_weather {"city":"Rom"}]]', functions=functions).choices[0]
    equal("call", (message.finish_reason, message.message.function_call.name, message.message.function_call.arguments), ("function_call", "get_weather", '{"city":"Rom"}'))


# ---------------------------------------------------------------- schemas
class Person(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=1)
    tags: list[str]


@check("`.parse` gives an instance of a Pydantic model, streamed too")
def _():
    parsed = client().chat.completions.parse(**ask("who?"), response_format=Person).choices[0].message.parsed
    true("an instance", isinstance(parsed, Person), parsed)
    with client().chat.completions.stream(**ask("who?"), response_format=Person) as stream:
        for _ in stream:
            pass
        true("streamed", isinstance(stream.get_final_completion().choices[0].message.parsed, Person))


@check("`.parse` gives the arguments of a strict tool as its model")
def _():
    tool = openai.pydantic_function_tool(Person)
    call = client().chat.completions.parse(**ask("go", model="claude-haiku-4-5", tools=[tool], tool_choice="required")).choices[0].message.tool_calls[0]
    true("an instance", isinstance(call.function.parsed_arguments, Person), call)


# ---------------------------------------------------------------- images and files
@check("images and files reach the upstream as blocks")
def _():
    pdf = base64.b64encode(b"%PDF-1.4\n%%EOF").decode()
    content = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}},
               {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}}, {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64," + pdf}}]
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        client(url=gateway.url).chat.completions.create(**ask(content))
        blocks = json.loads(upstream.requests[0]["body"])["messages"][0]["content"]
        equal("kinds", [(block["type"], block.get("source", {}).get("type")) for block in blocks], [("text", None), ("image", "base64"), ("image", "url"), ("document", "base64")])
        equal("the picture", blocks[1]["source"]["data"], PNG)
    true("the sandbox takes them", say(content).choices[0].message.content)


# ---------------------------------------------------------------- models
@check("the models are listed and found, aliases among them; a client that insists on gpt-4o is served")
def _():
    ids = [model.id for model in client().models.list()]
    true("sandbox models and the alias", "sandbox-opus-1" in ids and "gpt-4o" in ids, ids)
    found = client().models.retrieve("sandbox-opus-1")
    equal("one", (found.id, found.object, type(found.created)), ("sandbox-opus-1", "model", int))
    equal("alias", say("hi", model="gpt-4o").model, MODEL)
    equal("a pattern, and the newest of a family", say("hi", model="gpt-5-nano").model, "sandbox-haiku-1")
    error = raises(openai.NotFoundError, client().models.retrieve, "nobody")
    within("the model", "nobody", error.message)


@check("a preset is used by path and by header")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        OpenAI(base_url=gateway.url + "/v1/terse", api_key=LOCAL_KEY).chat.completions.create(**ask("hi"))
        client(url=gateway.url).chat.completions.create(**ask("hi"), extra_headers={"seaway-preset": "terse"})
        for request in upstream.requests:
            within("system", "briefly", json.loads(request["body"])["system"][0]["text"])


# ---------------------------------------------------------------- what goes up
@check("the upstream gets our credential, our name, and no word of OpenAI's")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        client(url=gateway.url, organization="org-x").chat.completions.create(**ask("hi"), extra_body={"top_k": 3, "betas": ["x-2026-01-01"], "seed": 1}, user="u" * 300)
        headers = {name.lower(): value for name, value in upstream.requests[0]["headers"]}
        equal("credential", headers.get("x-api-key"), UPSTREAM_KEY)
        equal("nothing of the client's", [name for name in headers if name.startswith(("openai-", "x-stainless-", "authorization"))], [])
        equal("beta", headers["anthropic-beta"], "x-2026-01-01")
        within("name", "seaway/", headers["user-agent"])
        body = json.loads(upstream.requests[0]["body"])
        equal("members", sorted(body), ["max_tokens", "messages", "metadata", "model"])
        equal("a hashed user", len(body["metadata"]["user_id"]), 64)


@check("what cannot be carried over is told in a header, and refused when strict")
def _():
    answer = client().chat.completions.with_raw_response.create(**ask("hi", seed=7, temperature=0.2, n=1, frequency_penalty=0))
    equal("note", answer.headers["seaway-note"], "temperature left out, seed ignored")
    with Seaway("--strict", "true") as gateway:
        error = raises(openai.BadRequestError, client(url=gateway.url).chat.completions.create, **ask("hi", seed=7))
        equal("param", (error.param, error.code), ("seed", "unsupported_parameter"))


# ---------------------------------------------------------------- errors
@check("mistakes are refused with the member's name")
def _():
    for options, param in [({"n": 2}, "n"), ({"temperature": 3}, "temperature"), ({"reasoning_effort": "much"}, "reasoning_effort"), ({"tool_choice": "required"}, "tool_choice"),
                           ({"modalities": ["text", "audio"]}, "modalities"), ({"max_tokens": 0}, "max_tokens")]:
        error = raises(openai.BadRequestError, say, "hi", **options)
        equal(param, (error.param, error.type), (param, "invalid_request_error"))
    error = raises(openai.BadRequestError, say, [{"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,aGk="}}])
    equal("an image", (error.code, error.param), ("unsupported_image_media_type", "messages[0].content[0].image_url.url"))


@check("every status of the upstream's becomes the SDK's own error, in the upstream's words")
def _():
    table = [(400, "invalid_request_error", openai.BadRequestError, 400), (403, "permission_error", openai.PermissionDeniedError, 403), (404, "not_found_error", openai.NotFoundError, 404),
             (429, "rate_limit_error", openai.RateLimitError, 429), (500, "api_error", openai.InternalServerError, 500), (529, "overloaded_error", openai.InternalServerError, 503),
             (401, "authentication_error", openai.InternalServerError, 500)]
    for status, kind, error_class, seen in table:
        for stream in (False, True):
            error = raises(error_class, say, f"[[error {status} {kind} word for word]]", stream=stream)
            equal(f"{status}", (error.status_code, error.body["message"]), (seen, "word for word"))
    error = raises(openai.AuthenticationError, client(api_key="wrong").chat.completions.create, **ask("hi"))
    equal("code", error.code, "invalid_api_key")
    raises(openai.NotFoundError, client().completions.create, model=MODEL, prompt="hi")


@check("an error in the place of a stream's first event is an ordinary error")
def _():
    error = raises(openai.InternalServerError, say, "[[error-first overloaded_error Overloaded]]", stream=True)
    equal("status", (error.status_code, error.code), (503, "overloaded"))


@check("a stream that fails or breaks off in its midst raises, and never looks whole")
def _():
    for script in ["[[say first words]] [[error-event overloaded_error Overloaded]]", "[[say one two three four]] [[cut 700]]", "[[say one two three four]] [[end 700]]"]:
        stream = say(script, stream=True)
        seen = []
        try:
            for chunk in stream:
                seen.append(chunk)
            raise AssertionError(f"{script}: the stream ended as if it were whole")
        except openai.APIError as error:
            true("a message", error.message, error)
        equal(script, [chunk.choices[0].finish_reason for chunk in seen if chunk.choices[0].finish_reason], [])


@check("the SDK repeats what may be repeated, and obeys retry-after")
def _():
    text = f"{once()} [[error 529 overloaded_error x]] [[header retry-after: 0]] [[times 2]] [[say well]]"
    equal("after two failures", client(max_retries=2).chat.completions.create(**ask(text)).choices[0].message.content, "well")
    error = raises(openai.RateLimitError, say, "[[error 429 rate_limit_error x]] [[header retry-after: 7]]")
    equal("retry-after", (error.response.headers["retry-after"], error.code), ("7", "rate_limit_exceeded"))


@check("rate limits have the names that OpenAI's clients read")
def _():
    script = "hi [[header anthropic-ratelimit-requests-remaining: 41]] [[header anthropic-ratelimit-tokens-limit: 900]] [[header anthropic-ratelimit-tokens-reset: 2020-01-01T00:00:00Z]]"
    headers = client().chat.completions.with_raw_response.create(**ask(script)).headers
    equal("limits", [headers[f"x-ratelimit-{name}"] for name in ("remaining-requests", "limit-tokens", "reset-tokens")], ["41", "900", "0ms"])
    true("request id", headers["x-request-id"])


@check("a client that leaves stops the upstream's work")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        stream = client(url=gateway.url).chat.completions.create(**ask("GATE"), stream=True)
        next(iter(stream))
        stream.close()
        true("the upstream noticed", upstream.gone.wait(10))


@check("an upstream that is asked for streams only still gives whole answers")
def _():
    with Seaway("--set", "upstream.sandbox.kind=sandbox", "--set", "upstream.sandbox.stream=always") as gateway:
        completion = client(url=gateway.url).chat.completions.create(**ask('[[think hm]] [[say so]] [[tool get_time {"zone":"CET"}]]', tools=TOOLS))
        message = completion.choices[0].message
        equal("message", (message.content, message.reasoning_content, message.tool_calls[0].function.arguments), ("so", "hm", '{"zone":"CET"}'))


if __name__ == "__main__":
    with GATEWAY:
        support.run_checks(workers=4)
