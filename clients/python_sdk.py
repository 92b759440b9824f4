"""End-to-end checks with the `anthropic` Python SDK against Seaway: answers, streams, tools, errors, retries."""
import sys

sys.dont_write_bytecode = True
import support

support.in_venv("anthropic==2.11.0")

import asyncio, json, urllib.error, urllib.request, uuid
import anthropic, pydantic
from anthropic import Anthropic, AsyncAnthropic
from support import LOCAL_KEY, UPSTREAM_KEY, Seaway, Upstream, check, equal, raises, true, within

GATEWAY = Seaway("--body-limit", "256KiB")
MODEL = "claude-opus-5-5"
# One that takes what MODEL does not: any number of tokens, a forced tool, a budget for thinking.
LARGE = "sandbox-opus-1"
TOOLS = [{"name": name, "description": name, "input_schema": {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}}
         for name, key in [("get_weather", "city"), ("get_time", "zone")]]


def client(kind=Anthropic, **options):
    return kind(**{"base_url": GATEWAY.url, "api_key": LOCAL_KEY, "max_retries": 0, "timeout": 20, **options})


def ask(text, **options):
    return {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": text}], **options}


def say(text, **options):
    return client().messages.create(**ask(text, **options))


def streamed(text, **options):
    with client().messages.stream(**ask(text, **options)) as stream:
        return stream.get_final_message()


def plain(message):
    """A message as JSON, without what differs from request to request."""
    out = message.to_dict(warnings=False)
    for block in out["content"]:
        block.pop("id", None)
        block.pop("parsed_output", None)
    return {key: out[key] for key in ("role", "model", "content", "stop_reason", "stop_sequence")}


def once():
    """Words that no other request has, so that `[[times N]]` counts this one alone."""
    return uuid.uuid4().hex


# ---------------------------------------------------------------- answers
@check("a message comes back whole, with usage, stop reason and request id")
def _():
    message = say("hello there, wörld 🐙")
    equal("text", message.content[0].text, "hello there, wörld 🐙")
    equal("shape", (message.type, message.role, message.model, message.stop_reason), ("message", "assistant", MODEL, "end_turn"))
    true("usage counts input and output", message.usage.input_tokens > 0 and message.usage.output_tokens > 0, message.usage)
    true("a request id is there", message._request_id, message._request_id)


@check("the async client gets an answer, and twenty at once each their own")
def _():
    async def all_at_once():
        async with client(AsyncAnthropic) as its:
            return await asyncio.gather(*(its.messages.create(**ask(f"number {n} [[slow 50ms]]")) for n in range(20)))
    answers = [message.content[0].text for message in asyncio.run(all_at_once())]
    equal("answers", answers, [f"number {n}" for n in range(20)])


@check("the async stream helper gives text in pieces and the final message")
def _():
    async def read():
        async with client(AsyncAnthropic) as its, its.messages.stream(**ask("[[say one two three four five six seven]]")) as stream:
            return [text async for text in stream.text_stream], await stream.get_final_message()
    pieces, message = asyncio.run(read())
    true("several pieces", len(pieces) > 2, pieces)
    equal("joined", "".join(pieces), "one two three four five six seven")
    equal("final", (message.content[0].text, message.stop_reason), ("one two three four five six seven", "end_turn"))


@check("the stream helper gives text in pieces and the final message")
def _():
    with client().messages.stream(**ask("[[say one two three four five six seven]]")) as stream:
        pieces, message = list(stream.text_stream), stream.get_final_message()
        true("a request id is there", stream.request_id, stream.request_id)
    true("several pieces", len(pieces) > 2, pieces)
    equal("joined", "".join(pieces), "one two three four five six seven")
    equal("final", (message.content[0].text, message.stop_reason), ("one two three four five six seven", "end_turn"))
    true("usage", message.usage.output_tokens > 1, message.usage)


@check("a raw stream has every event in order, with no piece lost or doubled")
def _():
    events = list(client().messages.create(**ask("[[say 123456789012345678901234567890]]"), stream=True))
    expected = ["message_start", "content_block_start"] + ["content_block_delta"] * 3 + ["content_block_stop", "message_delta", "message_stop"]
    equal("events", [event.type for event in events], expected)
    equal("pieces", [event.delta.text for event in events if event.type == "content_block_delta"], ["123456789012", "345678901234", "567890"])
    equal("stop reason", events[-2].delta.stop_reason, "end_turn")


@check("a stream of a million characters arrives uncorrupted")
def _():
    equal("text", streamed("[[repeat 100000 0123456789]]", model=LARGE, max_tokens=900000).content[0].text == "0123456789" * 100000, True)


@check("a request of 200 kB with every kind of character comes back as it was")
def _():
    text = "aé漢🐙\\\"\n\t\u2028\x7f" * 8000
    equal("echo is equal", say(text, model=LARGE, max_tokens=900000).content[0].text == text.strip(), True)


@check("the first words arrive before the upstream has written the last")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        stream = client(base_url=gateway.url).messages.create(**ask("GATE"), stream=True)
        texts = []
        for event in stream:
            if event.type == "content_block_delta":
                texts.append(event.delta.text)
                upstream.released.set()
        equal("texts", texts, ["first ", "last"])


@check("a stream and a whole answer say the same: text, thinking, redacted thinking, tools, citations, unknown blocks")
def _():
    scripts = ["plain words", "[[think hm, let me see]] [[say so]]", "[[redacted]] [[say so]]", "[[cite the sky is blue]]",
               '[[tool get_time {"zone":"CET"}]]', '[[say one]] [[say two]]', "[[refuse]]", "[[stop pause_turn]] wait",
               '[[block {"type":"brand_new","x":{"y":[1,2.50]}}]] [[say so]]']
    for script in scripts:
        equal(script, plain(streamed(script, tools=TOOLS)), plain(say(script, tools=TOOLS)))


# ---------------------------------------------------------------- tools
@check("a tool is called, answered, and the answer used, in a whole loop")
def _():
    messages = [{"role": "user", "content": '[[tool get_weather {"city":"Paris"}]]'}]
    first = client().messages.create(model=MODEL, max_tokens=500, tools=TOOLS, messages=messages)
    call = first.content[-1]
    equal("call", (first.stop_reason, call.type, call.name, call.input), ("tool_use", "tool_use", "get_weather", {"city": "Paris"}))
    messages += [{"role": "assistant", "content": first.content},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny, 21 °C"}]}]
    last = client().messages.create(model=MODEL, max_tokens=500, tools=TOOLS, messages=messages)
    equal("answer", (last.stop_reason, last.content[0].text), ("end_turn", "The tool answered: sunny, 21 °C"))


@check("two parallel tool calls stream with their own ids, and both results come back")
def _():
    messages = [{"role": "user", "content": 'ask both [[tool get_weather {"city":"Paris"}]] [[tool get_time {"zone":"CET"}]]'}]
    with client().messages.stream(model=MODEL, max_tokens=500, tools=TOOLS, messages=messages) as stream:
        first = stream.get_final_message()
    calls = [block for block in first.content if block.type == "tool_use"]
    equal("calls", [(call.name, call.input) for call in calls], [("get_weather", {"city": "Paris"}), ("get_time", {"zone": "CET"})])
    equal("ids differ", len({call.id for call in calls}), 2)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": f"{call.name} done"}]} for call in calls]
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    with client().messages.stream(model=MODEL, max_tokens=500, tools=TOOLS, messages=messages) as stream:
        equal("answer", stream.get_final_text(), "The tool answered: get_weather done; get_time done")


@check("tool arguments with brackets, quotes, numbers and other scripts survive streaming")
def _():
    given = {"city": 'a"]]\\ é漢🐙', "deep": [[1, 2.5], {"x": None}], "big": 12345678901234567890}
    script = f"[[tool get_weather {json.dumps(given, ensure_ascii=False)}]]"
    equal("streamed", streamed(script, tools=TOOLS).content[-1].input, given)
    equal("whole", say(script, tools=TOOLS).content[-1].input, given)


@check("a forced tool is called with arguments that fit its schema")
def _():
    message = say("go", model=LARGE, tools=TOOLS, tool_choice={"type": "tool", "name": "get_time"})
    equal("call", (message.content[0].type, message.content[0].name, list(message.content[0].input)), ("tool_use", "get_time", ["zone"]))


@check("the SDK's tool runner gets through its loop by the beta route")
def _():
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: where
        """
        asked.append(city)
        return "rain in " + city

    runner = client().beta.messages.tool_runner(model=MODEL, max_tokens=500, tools=[get_weather], messages=[{"role": "user", "content": '[[tool get_weather {"city":"Oslo"}]]'}])
    equal("answer", runner.until_done().content[0].text, "The tool answered: rain in Oslo")
    equal("the tool was run for", asked, ["Oslo"])


# ---------------------------------------------------------------- kinds of answers
@check("a thinking block has its signature and can be sent back")
def _():
    thinking = {"type": "adaptive"}
    with client().messages.stream(**ask("[[think first this, then that]] [[say done]]", max_tokens=2000, thinking=thinking)) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_message()
    equal("events", {"thinking", "signature", "text"} <= kinds, True)
    equal("blocks", [block.type for block in message.content], ["thinking", "text"])
    equal("thought", message.content[0].thinking, "first this, then that")
    true("a signature", len(message.content[0].signature) > 10, message.content[0])
    again = client().messages.create(model=MODEL, max_tokens=2000, thinking=thinking, messages=[
        {"role": "user", "content": "x"}, {"role": "assistant", "content": message.content}, {"role": "user", "content": "next"}])
    equal("next turn", again.content[0].text, "next")


@check("a citation arrives with its place, streamed too")
def _():
    for message in (say("[[cite the sky is blue]]"), streamed("[[cite the sky is blue]]")):
        cited = message.content[0].citations
        equal("citation", [(one.type, one.cited_text, one.start_char_index, one.end_char_index) for one in cited], [("char_location", "the sky is blue", 0, 15)])


@check("a refusal is a refusal")
def _():
    for message in (say("[[refuse]]"), streamed("[[refuse]]")):
        equal("stop reason", message.stop_reason, "refusal")
        equal("details", message.stop_details and message.stop_details.type, "refusal")


@check("an answer stops at max_tokens")
def _():
    for message in (say("[[repeat 100 word]]", max_tokens=5), streamed("[[repeat 100 word]]", max_tokens=5)):
        equal("stop reason and tokens", (message.stop_reason, message.usage.output_tokens), ("max_tokens", 5))
        equal("text", message.content[0].text, "word" * 5)


@check("an answer stops at a stop sequence and names it")
def _():
    for message in (say("one END two", stop_sequences=["END"]), streamed("one END two", stop_sequences=["END"])):
        equal("stop", (message.stop_reason, message.stop_sequence, message.content[0].text), ("stop_sequence", "END", "one "))


@check("structured output is parsed into its class")
def _():
    class Place(pydantic.BaseModel):
        name: str
        size: int
    came = client().messages.parse(**ask("where?"), output_format=Place).parsed_output
    equal("class", type(came), Place)


@check("cached tokens are counted the second time")
def _():
    request = ask("go", system=[{"type": "text", "text": once() * 500, "cache_control": {"type": "ephemeral"}}])
    first, second = (client().messages.create(**request).usage for _ in range(2))
    true("written, then read", first.cache_creation_input_tokens > 0 == first.cache_read_input_tokens, first)
    equal("read again", second.cache_read_input_tokens, first.cache_creation_input_tokens)


@check("tokens are counted, more for more")
def _():
    count = lambda text: client().messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": text}]).input_tokens
    few, many = count("hi"), count("hi " * 1000)
    true("0 < few < many - 500", 0 < few < many - 500, (few, many))


# ---------------------------------------------------------------- models
@check("models are listed, page by page the same as at once, forwards and backwards")
def _():
    listed = client().models.list()
    ids = [model.id for model in listed.data]
    true("sandbox models", "sandbox-opus-1" in ids and len(ids) >= 3, ids)
    equal("no more", listed.has_more, False)
    page = client().models.list(limit=1)
    equal("first page", ([model.id for model in page.data], page.has_more, page.has_next_page()), (ids[:1], True, True))
    equal("paged", [model.id for model in page], ids)
    before = client().models.list(limit=1, before_id=ids[2])
    equal("before the third", [model.id for model in before.data], ids[1:2])


@check("one model is found by its id, and an unknown one is not")
def _():
    equal("id", client().models.retrieve("sandbox-haiku-1").id, "sandbox-haiku-1")
    error = raises(anthropic.NotFoundError, client().models.retrieve, "no-such-model")
    within("message", "no-such-model", error.message)
    true("request id", error.request_id, error.request_id)


# ---------------------------------------------------------------- errors
ERRORS = [(400, anthropic.BadRequestError, "invalid_request_error"), (401, anthropic.AuthenticationError, "authentication_error"),
          (402, anthropic.PaymentRequiredError, "billing_error"), (403, anthropic.PermissionDeniedError, "permission_error"),
          (404, anthropic.NotFoundError, "not_found_error"), (408, anthropic.RequestTimeoutError, "timeout_error"),
          (409, anthropic.ConflictError, "invalid_request_error"), (413, anthropic.RequestTooLargeError, "request_too_large"),
          (422, anthropic.UnprocessableEntityError, "invalid_request_error"), (429, anthropic.RateLimitError, "rate_limit_error"),
          (500, anthropic.InternalServerError, "api_error"), (503, anthropic.ServiceUnavailableError, "api_error"),
          (504, anthropic.GatewayTimeoutError, "timeout_error"), (529, anthropic.OverloadedError, "overloaded_error")]


def error_check(status, kind, name):
    @check(f"an upstream's {status} is {kind.__name__}, streamed or not")
    def _():
        for stream in (False, True):
            error = raises(kind, say, f"[[error {status} {name} words of the upstream]]", stream=stream)
            equal("status, type, words", (error.status_code, error.type, error.api_message), (status, name, "words of the upstream"))
            true("request id", error.request_id, error.request_id)


for row in ERRORS:
    error_check(*row)


@check("a wrong local key is AuthenticationError and says that a retry is of no use")
def _():
    for options in ({"api_key": "sk-wrong"}, {"api_key": None, "auth_token": "sk-wrong"}):
        error = raises(anthropic.AuthenticationError, client(**options).messages.create, **ask("x"))
        equal("type", error.type, "authentication_error")
        equal("x-should-retry", error.response.headers.get("x-should-retry"), "false")
        true("request id", error.request_id, error.request_id)
        true("the key is not shown", "sk-wrong" not in str(error), str(error))


@check("a request without any key is refused")
def _():
    bare = urllib.request.Request(GATEWAY.url + "/v1/messages", json.dumps(ask("x")).encode(), {"content-type": "application/json"})
    error = raises(urllib.error.HTTPError, urllib.request.urlopen, bare)
    equal("status and type", (error.code, json.load(error)["error"]["type"]), (401, "authentication_error"))


@check("a bad request is BadRequestError with the field named")
def _():
    within("message", "max_tokens", raises(anthropic.BadRequestError, say, "x", max_tokens=0).message)
    within("message", "messages", raises(anthropic.BadRequestError, client().messages.create, model=MODEL, max_tokens=5, messages=[]).message)


@check("a body past the limit is RequestTooLargeError, and the connection serves on")
def _():
    its = client()
    for size in (300_000, 6_000_000):
        error = raises(anthropic.RequestTooLargeError, its.messages.create, **ask("x" * size))
        equal("type", error.type, "request_too_large")
        true("request id", error.request_id, error.request_id)
        equal("afterwards", its.messages.create(**ask("still there")).content[0].text, "still there")


@check("an unknown path is NotFoundError, a wrong method is 405")
def _():
    error = raises(anthropic.NotFoundError, client().get, "/v1/nothing", cast_to=object)
    equal("type", error.type, "not_found_error")
    equal("status", raises(anthropic.APIStatusError, client().get, "/v1/messages", cast_to=object).status_code, 405)


@check("an upstream that is not there is an error the SDK may retry")
def _():
    with Seaway(upstream="http://127.0.0.1:9") as gateway:
        error = raises_any(anthropic.InternalServerError, client(base_url=gateway.url).messages.create, **ask("x"))
        true("a 5xx", error.status_code >= 500, error.status_code)
        true("request id", error.request_id, error.request_id)
        true("no key is shown", UPSTREAM_KEY not in str(error) and LOCAL_KEY not in str(error), str(error))


def raises_any(kind, function, *args, **named):
    try:
        came = function(*args, **named)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, came an answer: {came!r}")


# ---------------------------------------------------------------- retries and broken answers
@check("two 529 are overcome by two retries and not by one")
def _():
    text = f"fine {once()} [[error 529]] [[times 2]]"
    within("answer", "fine", client(max_retries=2).messages.create(**ask(text)).content[0].text)
    raises(anthropic.OverloadedError, client(max_retries=1).messages.create, **ask(f"{once()} [[error 529]] [[times 2]]"))


@check("a 429 keeps its retry-after, and is overcome by a retry")
def _():
    text = f"fine {once()} [[error 429]] [[header retry-after: 1]] [[times 1]]"
    within("answer", "fine", client(max_retries=1).messages.create(**ask(text)).content[0].text)
    error = raises(anthropic.RateLimitError, say, "[[error 429]] [[header retry-after: 1]] [[header anthropic-ratelimit-requests-remaining: 0]]")
    equal("headers", (error.response.headers.get("retry-after"), error.response.headers.get("anthropic-ratelimit-requests-remaining")), ("1", "0"))


@check("an upstream's x-should-retry is obeyed")
def _():
    text = f"{once()} [[error 529]] [[header x-should-retry: false]] [[times 1]]"
    raises(anthropic.OverloadedError, client(max_retries=3).messages.create, **ask(text))


@check("a stream that is cut raises and never looks complete, wherever it is cut")
def _():
    whole = "[[say one two three four five six seven]]"
    for place in (1, 200, 400, 600, 800, 1000, 1200):
        for pace in ("", "[[pace 2ms]]"):
            error = raises_any(Exception, streamed, f"{whole} [[cut {place}]] {pace}")
            # Before the first event is whole nothing has begun: that is told with a status.
            told = getattr(error, "status_code", None) == 502 if place <= 400 else "the upstream's answer was cut off" in str(error)
            true(f"cut at {place} {pace}: a 502, or an error in the stream that says so once it has begun", told, repr(error))


@check("a whole answer that is cut raises")
def _():
    raises_any(anthropic.APIConnectionError, say, "[[cut 100]] [[say some words]]")


@check("what came before a cut reaches the client")
def _():
    for pace in ("[[pace 2ms]]", ""):
        came = before_the_break(client().messages, f"[[say one two three four five six seven]] [[cut 900]] {pace}")
        true(f"words before the cut ({pace or 'at once'}) begin well", came.startswith("one two thre"), came)


@check("what an upstream sends right before it breaks off reaches the client")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        for name, url in (("without the gateway", upstream.url), ("through the gateway", gateway.url)):
            came = [before_the_break(client(base_url=url).messages, "BREAK") for _ in range(10)]
            equal(f"words before the break {name}", came, ["first "] * 10)


def before_the_break(messages, text):
    came = ""
    try:
        for event in messages.create(**ask(text), stream=True):
            came += event.delta.text if event.type == "content_block_delta" else ""
    except Exception:
        return came
    raise AssertionError(f"expected a broken stream, came a clean end after {came!r}")


@check("a stream that ends before its end does not end cleanly")
def _():
    error = raises_any(Exception, streamed, "[[say one two three four five six seven]] [[end 900]] [[pace 2ms]]")
    true("an error that says so", "the upstream's answer was cut off" in str(error), repr(error))


@check("an error event in a stream raises with its type and words")
def _():
    for script in ("[[error-event overloaded_error Overloaded]]", "[[error-first overloaded_error Overloaded]]"):
        error = raises_any(anthropic.APIStatusError, streamed, "words " + script)
        equal("type and words", (error.type, error.api_message), ("overloaded_error", "Overloaded"))
        true("request id", error.request_id, error.request_id)
    raises(anthropic.OverloadedError, say, "words [[error-event overloaded_error Overloaded]]")


@check("a client that gives up leaves the gateway serving, and the upstream is told")
def _():
    raises(anthropic.APITimeoutError, client(timeout=0.3).messages.create, **ask("[[slow 5s]]"))
    equal("afterwards", say("still there").content[0].text, "still there")
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        stream = client(base_url=gateway.url).messages.create(**ask("GATE"), stream=True)
        next(iter(stream))
        stream.close()
        true("the upstream sees the client leave", upstream.gone.wait(5), "nothing within 5 s")


# ---------------------------------------------------------------- keys, addresses, bytes
@check("the key is taken as x-api-key and as a bearer")
def _():
    # The header is set by hand too, as the SDK may choose either for its `api_key`.
    by_hand = {"api_key": "sk-other", "default_headers": {"x-api-key": LOCAL_KEY}}
    for options in ({"api_key": LOCAL_KEY}, {"api_key": None, "auth_token": LOCAL_KEY}, by_hand):
        equal(f"answer by {list(options)}", client(**options).messages.create(**ask("in")).content[0].text, "in")


@check("the address may end in a slash or in /anthropic")
def _():
    for ending in ("/", "/anthropic", "/anthropic/"):
        its = client(base_url=GATEWAY.url + ending)
        equal(f"message by {ending}", its.messages.create(**ask("in")).content[0].text, "in")
        equal(f"model by {ending}", its.models.retrieve("sandbox-opus-1").id, "sandbox-opus-1")
        true(f"count by {ending}", its.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "x"}]).input_tokens > 0)


@check("body and headers reach the upstream as the SDK wrote them, but for the key and our name")
def _():
    def send(url):
        for key in ({"api_key": LOCAL_KEY}, {"api_key": None, "auth_token": LOCAL_KEY}):
            send_with(client(base_url=url, default_headers={"anthropic-beta": "a-1,b-2", "x-own": "kept"}, **key))

    def send_with(its):
        its.messages.create(**ask("héllo", tools=TOOLS, extra_body={"temperature": 1.0, "brand_new": {"z": 1.50, "a": [1e3]}}), extra_query={"beta": "true"})
        its.beta.messages.create(**ask("x"), betas=["c-3"])
    with Upstream() as direct:
        send(direct.url)
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        send(gateway.url)
    equal("number of requests", len(upstream.requests), len(direct.requests))
    for sent, came in zip(direct.requests, upstream.requests):
        equal("body", came["body"], sent["body"])
        equal("path", came["path"], sent["path"])
        ours = {"host", "user-agent", "x-api-key", "authorization", "accept-encoding", "connection", "content-length"}
        rest = lambda one: sorted((name.lower(), value) for name, value in one["headers"] if name.lower() not in ours)
        equal("headers", rest(came), rest(sent))
        named = {name.lower(): value for name, value in came["headers"]}
        within("user-agent", " seaway/", named["user-agent"])
        equal("credentials", (named.get("x-api-key"), named.get("authorization")), (UPSTREAM_KEY, None))
        true("no local key", LOCAL_KEY not in str(came["headers"]), came["headers"])


@check("files and batches pass byte for byte")
def _():
    def send(url):
        its = client(base_url=url)
        its.messages.batches.create(requests=[{"custom_id": "a", "params": ask("x")}])
        its.beta.files.upload(file=("name.bin", bytes(range(256)) * 1000, "application/octet-stream"), extra_headers={"content-type": "multipart/form-data; boundary=fixed"})
        its.messages.batches.list(limit=3)
    with Upstream() as direct:
        send(direct.url)
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        send(gateway.url)
    view = lambda server: [(one["method"], one["path"], one["body"]) for one in server.requests]
    equal("requests", view(upstream), view(direct))
    equal("kinds", [one["path"].split("?")[0] for one in upstream.requests], ["/v1/messages/batches", "/v1/files", "/v1/messages/batches"])


if __name__ == "__main__":
    with GATEWAY:
        support.run_checks()
