"""End-to-end checks with LiteLLM's SDK, as an OpenAI client of Seaway's Chat surface."""
import sys

sys.dont_write_bytecode = True
import support

support.in_venv("litellm==1.110.2")

import asyncio, json, os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would be fetched
import litellm
from support import LOCAL_KEY, Seaway, check, equal, raises, true

litellm.suppress_debug_info = True
GATEWAY = Seaway()
MODEL = "openai/claude-opus-5-5"
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "w", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def call(content, **options):
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return litellm.completion(**{"model": MODEL, "messages": messages, "api_base": GATEWAY.url + "/v1", "api_key": LOCAL_KEY, "max_retries": 0, "timeout": 20, **options})


@check("LiteLLM: an answer, with usage and reasoning")
def _():
    answer = call("[[think hm]] [[say so, wörld]]")
    equal("answer", (answer.choices[0].message.content, answer.choices[0].message.reasoning_content, answer.choices[0].finish_reason), ("so, wörld", "hm", "stop"))
    true("usage", answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, answer.usage)


@check("LiteLLM: a stream, put together by its own builder")
def _():
    chunks = list(call('[[say one two three four]] [[tool get_weather {"city":"Kiel"}]]', stream=True, tools=[TOOL], stream_options={"include_usage": True}))
    message = litellm.stream_chunk_builder(chunks).choices[0].message
    equal("message", (message.content, message.tool_calls[0].function.name, json.loads(message.tool_calls[0].function.arguments)), ("one two three four", "get_weather", {"city": "Kiel"}))


@check("LiteLLM: a whole tool loop")
def _():
    messages = [{"role": "user", "content": '[[tool get_weather {"city":"Oslo"}]]'}]
    first = call(messages, tools=[TOOL]).choices[0].message
    messages += [first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}]
    equal("answer", call(messages, tools=[TOOL]).choices[0].message.content, "The tool answered: rain")


@check("LiteLLM: the async client, ten at once")
def _():
    async def all_at_once():
        return await asyncio.gather(*(litellm.acompletion(model=MODEL, messages=[{"role": "user", "content": f"number {n}"}], api_base=GATEWAY.url + "/v1", api_key=LOCAL_KEY) for n in range(10)))
    equal("answers", [answer.choices[0].message.content for answer in asyncio.run(all_at_once())], [f"number {n}" for n in range(10)])


@check("LiteLLM: errors are its own, by status")
def _():
    for script, kind in [("[[error 429 rate_limit_error slow]] [[header retry-after: 1]]", litellm.RateLimitError), ("[[error 404 not_found_error m]]", litellm.NotFoundError),
                         ("[[error 400 invalid_request_error prompt is too long: 9 tokens > 8 maximum]]", litellm.ContextWindowExceededError)]:
        raises(kind, call, script)
    raises(litellm.AuthenticationError, call, "hi", api_key="wrong")


if __name__ == "__main__":
    with GATEWAY:
        support.run_checks()
