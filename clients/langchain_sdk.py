"""End-to-end checks with LangChain's `ChatOpenAI`, and LangChain's standard tests of ../shared/conformance where they exist."""
import sys

sys.dont_write_bytecode = True
import support

support.in_venv("langchain-openai==1.7.4", "langchain-anthropic==1.7.10", "langchain-tests==1.1.9", "pytest==9.2.0", "pytest-asyncio==1.5.0", "anthropic==2.11.0", "jsonschema")

import os, pathlib, re, subprocess
import openai, pydantic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from support import LOCAL_KEY, REPO, Seaway, check, equal, true

GATEWAY = Seaway()
CONFORMANCE = REPO.parent / "shared/conformance"


def model(**options):
    return ChatOpenAI(**{"model": "claude-opus-5-5", "base_url": GATEWAY.url + "/v1", "api_key": LOCAL_KEY, "max_retries": 0, "stream_usage": True, **options})


@tool
def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    return "rain in " + city


class Person(pydantic.BaseModel):
    """A person."""
    name: str
    age: int


@check("LangChain: an answer and a stream say the same")
def _():
    whole = model().invoke("[[say one two three]]")
    streamed = None
    for piece in model().stream("[[say one two three]]"):
        streamed = piece if streamed is None else streamed + piece
    equal("text", (whole.content, streamed.content), ("one two three", "one two three"))
    equal("usage", streamed.usage_metadata["total_tokens"], whole.usage_metadata["total_tokens"])


@check("LangChain: a whole tool loop")
def _():
    bound = model().bind_tools([get_weather])
    messages = [HumanMessage('[[tool get_weather {"city":"Oslo"}]]')]
    first = bound.invoke(messages)
    call = first.tool_calls[0]
    equal("call", (call["name"], call["args"]), ("get_weather", {"city": "Oslo"}))
    messages += [first, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    equal("answer", bound.invoke(messages).content, "The tool answered: rain in Oslo")


@check("LangChain: structured output by schema and by function")
def _():
    for method in ("json_schema", "function_calling"):
        answer = model(model="claude-haiku-4-5").with_structured_output(Person, method=method).invoke("who?")
        true(method, isinstance(answer, Person), answer)


@check("LangChain: errors are the SDK's own")
def _():
    try:
        model().invoke("[[error 429 rate_limit_error slow]]")
    except openai.RateLimitError as error:
        equal("words", error.body["message"], "slow")
    else:
        raise AssertionError("expected an error, came an answer")


class Brain:
    """The mock upstream with the rule-based model."""

    def __enter__(self):
        port = support.reserved_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-B", CONFORMANCE / "brainmock.py", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def standard_tests():
    """Runs LangChain's own tests, one line each; returns how many passed and failed."""
    with Brain() as brain, Seaway(upstream=brain.url) as gateway:
        environment = {"PATH": os.environ["PATH"], "HOME": gateway.folder, "GW_BASE": gateway.url, "GW_KEY": LOCAL_KEY, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider", "-k", "TestChat or TestMessages", "-o", "asyncio_mode=auto",
                   "-o", "asyncio_default_test_loop_scope=session", CONFORMANCE / "external/test_langchain_standard.py"]
        run = subprocess.run(command, env=environment, cwd=gateway.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    summary = run.stdout.strip().splitlines()[-1]
    figure = lambda word: int(found[1]) if (found := re.search(rf"(\d+) {word}", summary)) else 0
    passed, failed = figure("passed"), figure("failed") + figure("error")
    assert passed, "LangChain's tests did not run: " + support.short(run.stdout + run.stderr, 2000)
    print(run.stdout[-6000:] if failed else f"ok    LangChain's standard tests: {summary}")
    return passed, failed


if __name__ == "__main__":
    with GATEWAY:
        passed, failed = support.count_checks()
    if CONFORMANCE.exists() and not sys.argv[1:]:
        more = standard_tests()
        passed, failed = passed + more[0], failed + more[1]
    support.finish(passed, failed)
