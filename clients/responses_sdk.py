"""End-to-end checks with the `openai` Python SDK and the OpenAI Agents SDK against Seaway's Responses surface."""
import sys

sys.dont_write_bytecode = True
import support

support.in_venv("openai==3.57.0", "openai-agents==0.24.0")

import asyncio, base64, json, os
import openai, pydantic
from openai import AsyncOpenAI, OpenAI
from support import LOCAL_KEY, Seaway, Upstream, check, equal, raises, true, within

GATEWAY = Seaway()
MODEL = "claude-opus-4-8"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {"type": "function", "name": "get_weather", "description": "Weather", "strict": False, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def client(kind=OpenAI, url=None, **options):
    return kind(**{"base_url": (url or GATEWAY.url) + "/v1", "api_key": LOCAL_KEY, "max_retries": 0, "timeout": 20, **options})


def ask(input, **options):
    return client().responses.create(**{"model": MODEL, "input": input, **options})


def final(input, **options):
    """The whole response, as the SDK's own accumulator makes it from events, and the types of the events."""
    kinds = []
    with client().responses.stream(**{"model": MODEL, "input": input, **options}) as stream:
        for event in stream:
            kinds.append(event.type)
        return stream.get_final_response(), kinds


def plain(response):
    """What does not differ from request to request."""
    out = []
    for item in response.output:
        item = item.to_dict(warnings=False)
        for key in ("id", "call_id", "parsed_arguments"):
            item.pop(key, None)
        for part in item.get("content") or []:
            part.pop("parsed", None)
        out.append(item)
    return response.status, out, response.usage.to_dict(warnings=False)


@check("a response comes back whole, streamed and not, and is the same")
def _():
    for words in ("hello wörld 🐙", "[[think a thought]][[say one]][[say two]]", '[[say look]][[tool get_weather {"city":"Oslo"}]][[tool get_weather {"city":"Rome"}]]', "[[redacted]][[say x]]", "[[cite the source]]"):
        options = {"tools": [WEATHER], "reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        whole = ask(words, **options)
        streamed, kinds = final(words, **options)
        equal(f"output of {words!r}", plain(streamed), plain(whole))
        equal("first and last events", (kinds[:2], kinds[-1]), (["response.created", "response.in_progress"], "response.completed"))
        equal("kept", client().responses.retrieve(whole.id).to_dict(warnings=False), whole.to_dict(warnings=False))


# What Open Responses (openresponses.org) asks of every response: the members that have to be there, and of what type.
RESOURCE = {
    "id": str, "object": str, "created_at": int, "completed_at": (int, type(None)), "status": str, "incomplete_details": (dict, type(None)), "model": str,
    "previous_response_id": (str, type(None)), "instructions": (str, type(None)), "output": list, "error": (dict, type(None)), "tools": list, "tool_choice": (str, dict), "truncation": str,
    "parallel_tool_calls": bool, "text": dict, "top_p": (int, float), "presence_penalty": (int, float), "frequency_penalty": (int, float), "top_logprobs": int, "temperature": (int, float),
    "reasoning": (dict, type(None)), "usage": (dict, type(None)), "max_output_tokens": (int, type(None)), "max_tool_calls": (int, type(None)), "store": bool, "background": bool,
    "service_tier": str, "metadata": dict, "safety_identifier": (str, type(None)), "prompt_cache_key": (str, type(None)),
}
USAGE = {"input_tokens": int, "output_tokens": int, "total_tokens": int, "input_tokens_details": dict, "output_tokens_details": dict}
ITEM = {"message": {"id": str, "status": str, "role": str, "content": list}, "function_call": {"id": str, "status": str, "call_id": str, "name": str, "arguments": str}}

# Its public compliance cases, in our words: what is asked, streamed or not, and what the output has to hold.
COMPLIANCE = [
    ("a plain text answer", {"input": [{"type": "message", "role": "user", "content": "Say hello in three words."}]}, False, "message"),
    ("a streamed answer", {"input": [{"type": "message", "role": "user", "content": "Count to five."}]}, True, "message"),
    ("a system prompt", {"input": [{"type": "message", "role": "system", "content": "Speak as a pirate."}, {"type": "message", "role": "user", "content": "Say hello."}]}, False, "message"),
    ("a tool call", {"input": [{"type": "message", "role": "user", "content": '[[tool get_weather {"city":"San Francisco"}]]'}], "tools": [WEATHER]}, False, "function_call"),
    ("a picture in a data URL", {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}]}]}, False, "message"),
    ("several turns", {"input": [{"type": "message", "role": "user", "content": "I am Alice."}, {"type": "message", "role": "assistant", "content": "Hello Alice!"}, {"type": "message", "role": "user", "content": "Who am I?"}]}, False, "message"),
]


def has(what, value, members):
    for name, kind in members.items():
        assert name in value and isinstance(value[name], kind), f"{what}: `{name}` is {value.get(name, 'missing')!r}"


@check("the public compliance cases of Open Responses hold")
def _():
    for name, request, streamed, kind in COMPLIANCE:
        with client().responses.with_streaming_response.create(model=MODEL, stream=streamed, **request) as raw:
            equal(f"{name}: kind of answer", raw.headers["content-type"].split(";")[0], "text/event-stream" if streamed else "application/json")
            text = raw.read().decode()
        if streamed:
            events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            equal(f"{name}: numbered", [event["sequence_number"] for event in events], list(range(len(events))))
            equal(f"{name}: ends", events[-1]["type"], "response.completed")
        response = events[-1]["response"] if streamed else json.loads(text)
        has(name, response, RESOURCE)
        has(name, response["usage"], USAGE)
        equal(f"{name}: status", response["status"], "completed")
        item = next((item for item in response["output"] if item["type"] == kind), None)
        true(f"{name}: a {kind}", item, response["output"])
        has(name, item, ITEM[kind])


@check("what ends early says so")
def _():
    cut = ask("[[repeat 400 word ]]", max_output_tokens=50)
    equal("limit", (cut.status, cut.incomplete_details.reason), ("incomplete", "max_output_tokens"))
    refused = ask("[[say no]][[refuse]]")
    equal("refusal", (refused.status, refused.incomplete_details.reason, refused.output_text), ("incomplete", "content_filter", "no"))


@check("`.parse` fills a Pydantic model")
def _():
    class Person(pydantic.BaseModel):
        name: str
        age: int

    parsed = client().responses.parse(model=MODEL, input="who?", text_format=Person)
    true("parsed", isinstance(parsed.output_parsed, Person), parsed.output_text)


@check("a tool loop goes round with thinking that is returned, by items and by previous_response_id")
def _():
    words = '[[think I look]][[tool get_weather {"city":"Oslo"}]]'
    options = {"tools": [WEATHER], "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"}}
    first = ask(words, store=False, **options)
    call = next(item for item in first.output if item.type == "function_call")
    equal("arguments", json.loads(call.arguments), {"city": "Oslo"})
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    items = [{"role": "user", "content": words}, *[item.to_dict(warnings=False) for item in first.output], answer]
    equal("by items", ask(items, store=False, **options).output_text, "The tool answered: sunny")
    raises(openai.NotFoundError, ask, "x", previous_response_id=first.id)
    first = ask(words, **options)
    call = next(item for item in first.output if item.type == "function_call")
    second, _ = final([{**answer, "call_id": call.call_id}], previous_response_id=first.id, **options)
    equal("by id", second.output_text, "The tool answered: sunny")
    third = ask("[[say and on]]", previous_response_id=second.id)
    equal("further", (third.output_text, third.previous_response_id), ("and on", second.id))
    listed = client().responses.input_items.list(second.id)
    equal("input items", [item.type for item in listed.data], ["function_call_output"])
    client().responses.delete(second.id)
    raises(openai.NotFoundError, client().responses.retrieve, second.id)


@check("pictures, files, custom tools and instructions arrive")
def _():
    with Upstream() as upstream, Seaway(upstream=upstream.url) as gateway:
        pdf = base64.b64encode(b"%PDF-1.4\n%%EOF").decode()
        content = [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
                   {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{pdf}"}, {"type": "input_file", "file_url": "https://files.example/b.pdf"}]
        tools = [WEATHER, {"type": "custom", "name": "shell", "description": "Runs it", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}}]
        raw = client(url=gateway.url).responses.with_raw_response.create(model=MODEL, instructions="Be brief.", input=[{"role": "user", "content": content}], tools=tools, tool_choice="auto")
        body = json.loads(upstream.requests[-1]["body"])
        equal("blocks", [(block["type"], block.get("source", {}).get("type")) for block in body["messages"][0]["content"]], [("text", None), ("image", "base64"), ("document", "base64"), ("document", "url")])
        equal("system", body["system"], [{"type": "text", "text": "Be brief."}])
        equal("tools", [tool["name"] for tool in body["tools"]], ["get_weather", "shell"])
        within("note", "tools.format put into the description", raw.headers["seaway-note"])
    called = ask('[[tool shell {"input":"ls -l\\n"}]]', tools=tools)
    equal("custom call", [(item.type, item.name, item.input) for item in called.output], [("custom_tool_call", "shell", "ls -l\n")])
    items = [{"role": "user", "content": "go"}, called.output[0].to_dict(warnings=False), {"type": "custom_tool_call_output", "call_id": called.output[0].call_id, "output": "done"}]
    equal("after it", ask(items, tools=tools).output_text, "The tool answered: done")


@check("errors have their class and words")
def _():
    for words, kind in (("[[error 400]]", openai.BadRequestError), ("[[error 429 rate_limit_error slow down]]", openai.RateLimitError), ("[[error 529]]", openai.InternalServerError), ("[[error 404]]", openai.NotFoundError)):
        raises(kind, ask, words)
    within("named", "tools[0].type", raises(openai.BadRequestError, ask, "x", tools=[{"type": "file_search", "vector_store_ids": ["v"]}]).message)
    raises(openai.AuthenticationError, client(api_key="wrong").responses.create, model=MODEL, input="x")
    failed = None
    with client().responses.stream(model=MODEL, input="[[say begun]][[error-event overloaded_error Overloaded]]") as stream:
        for event in stream:
            failed = event.response if event.type == "response.failed" else failed
    equal("in the middle", (failed.status, failed.error.code, failed.error.message), ("failed", "server_error", "Overloaded"))


@check("many at once, asynchronously")
def _():
    async def all_of_them():
        async with client(AsyncOpenAI) as many:
            return await asyncio.gather(*(many.responses.create(model=MODEL, input=f"[[say {n}]]") for n in range(20)))

    equal("answers", [one.output_text for one in asyncio.run(all_of_them())], [str(n) for n in range(20)])


@check("the Agents SDK: a tool, a hand-off, a structured answer and a session by previous_response_id")
def _():
    os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
    from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled

    set_tracing_disabled(True)
    seen = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        seen.append(city)
        return "sunny"

    async def run():
        model = OpenAIResponsesModel(model=MODEL, openai_client=client(AsyncOpenAI))
        agent = Agent(name="Forecaster", instructions="Help.", model=model, tools=[get_weather])
        first = await Runner.run(agent, '[[tool get_weather {"city":"Oslo"}]]')
        again = await Runner.run(agent, "[[say still here]]", previous_response_id=first.last_response_id)
        streamed = Runner.run_streamed(agent, '[[tool get_weather {"city":"Rome"}]]')
        kinds = [event.type async for event in streamed.stream_events()]
        other = Agent(name="Poet", instructions="Rhyme.", model=model)
        triage = Agent(name="Triage", instructions="Hand off.", model=model, handoffs=[other])
        handed = await Runner.run(triage, "[[tool transfer_to_poet {}]]")
        return first.final_output, again.final_output, streamed.final_output, kinds, handed.last_agent.name

    first, again, streamed, kinds, last = asyncio.run(run())
    equal("answers", (first, again, streamed, seen), ("The tool answered: sunny", "still here", "The tool answered: sunny", ["Oslo", "Rome"]))
    within("events", "raw_response_event", kinds)
    equal("who answered last", last, "Poet")


if __name__ == "__main__":
    with GATEWAY:
        passed, failed = support.count_checks()
    support.finish(passed, failed)
