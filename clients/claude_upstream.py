"""End-to-end checks of the Claude Code upstream: real SDKs, Seaway, the official program, and a scripted API behind it.

The program runs with a closed environment and folders of its own, a fake token, and loopback addresses only.
"""
import sys

sys.dont_write_bytecode = True
import base64, contextlib, json, os, pathlib, shutil, signal, subprocess, tempfile, threading, time, urllib.error, urllib.request
import support
from support import LOCAL_KEY, MOCK, Mock, Seaway, check, equal, raises, true, within

support.in_venv("anthropic==2.11.0", "openai==3.57.0")
import anthropic, openai

CLAUDE = support.claude_program()
MODEL = "claude-sonnet-5-5"
OLDER = "claude-sonnet-4-5"     # thinks when told to, and takes sampling parameters
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF").decode()
WEATHER = {"name": "get_weather", "description": "Weather for a city", "input_schema": {"type": "object", "properties": {"city": {"$ref": "#/$defs/c"}}, "$defs": {"c": {"type": "string"}}, "additionalProperties": False}}
READ = {"name": "Read", "input_schema": {"type": "object", "properties": {"x": {"type": "number"}}}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


# A login as the program keeps one; the tokens are nobody's.
LOGIN = {"claudeAiOauth": {"accessToken": "sk-ant-oat01-nobodys", "refreshToken": "sk-ant-ort01-nobodys", "expiresAt": int(time.time() * 1000) + 864_000_000, "scopes": ["user:inference", "user:profile"],
                           "subscriptionType": "max", "rateLimitTier": "default_claude_max_20x"}}


def files(folder, but=()):
    """The files below a folder with what is in them, but for some folders at its top. What goes meanwhile is none."""
    found = {}
    for place, folders, names in os.walk(folder):
        if pathlib.Path(place) == pathlib.Path(folder):
            folders[:] = [name for name in folders if name not in but]
        for name in names:
            try:
                found[pathlib.Path(place, name)] = pathlib.Path(place, name).read_bytes()
            except OSError:
                pass
    return found


class House:
    """A scripted API, and Seaway in front of the program in front of it. Nothing is left of them afterwards."""

    def __init__(self, *args, bearer="fake-token", home=None, login=False, program=CLAUDE):
        self.login, self.program = login, program
        self.args = args
        self.home = home
        self.killed = False
        self.bearer = bearer

    def __enter__(self):
        self.mock = Mock().__enter__()
        settings = {"upstream.cc.kind": "claude-code", "upstream.cc.base_url": self.mock.url, "claude_code.path": self.program}
        if self.bearer and not self.login:
            settings["upstream.cc.bearer"] = self.bearer
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.gateway = Seaway(*words, *self.args, upstream=False, home=self.home)
        self.folder = pathlib.Path(self.home or self.gateway.folder)
        if self.login:
            (self.folder / ".claude").mkdir(exist_ok=True)
            (self.folder / ".claude/.credentials.json").write_text(json.dumps(LOGIN))
        try:
            self.gateway.__enter__()
        except BaseException:
            self.mock.__exit__()
            raise
        self.url = self.gateway.url
        self.client = anthropic.Anthropic(base_url=self.url, api_key=LOCAL_KEY, max_retries=0)
        self.chat = openai.OpenAI(base_url=self.url + "/v1", api_key=LOCAL_KEY, max_retries=0)
        return self

    def __exit__(self, kind, *_):
        mine = self.children()
        process = self.gateway.process
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        left = [pid for pid in mine if alive(pid)]
        files = [str(path) for path in self.gateway.temporary.iterdir()]
        self.gateway.__exit__()
        self.mock.__exit__()
        if kind is None and not self.killed:
            equal("processes that are left", left, [])
            equal("temporary files that are left", files, [])

    def children(self):
        """The program's processes, by their ids."""
        return [pid for pid, name in started_by(self.gateway.process.pid) if name != WATCH]

    def say(self, text, **options):
        return self.client.messages.create(**{"model": MODEL, "max_tokens": 500, "messages": [user(text)], **options})

    def asked(self):
        return self.mock.log("/v1/messages")

    def mock_queue(self, directives):
        """What the next requests are answered with, whatever they say."""
        request = urllib.request.Request(self.mock.url + "/__mock/queue", json.dumps({"directives": directives}).encode(), {"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    def bodies(self):
        return [entry["body"] for entry in self.asked()]

    def files_with(self, text):
        """The files, wherever the program or we may have written, that hold a text."""
        return [str(path) for place in {self.folder, pathlib.Path(self.gateway.folder)} for path, content in files(place).items() if text.encode() in content]

    def api(self, method, path, body=None, key=LOCAL_KEY):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body is not None else None, {"x-api-key": key, "content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


WATCH = "claude-watch"  # not the program's: it looks after the program's


def started_by(parent):
    """The processes that a process started, with their names."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            head, fields = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(fields.split()[1]) == parent and fields.split()[0] != "Z":
            found.append((int(stat.parent.name), head.split("(", 1)[1]))
    return found


def told(pid, what):
    """What the system tells of a process: nothing of one that has gone since its id was read."""
    try:
        return pathlib.Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def send(number, pids):
    """Sends a signal to those of the processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def user(content):
    return {"role": "user", "content": content}


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def eventually(what, ask, seconds=20):
    end = time.time() + seconds
    while not (found := ask()):
        assert time.time() < end, f"{what}: did not come to pass within {seconds} s"
        time.sleep(0.05)
    return found


def spoken(body):
    """The messages of a request but for what the program adds by itself."""
    def kept(message):
        content = [message["content"]] if isinstance(message["content"], str) else message["content"]
        content = [{key: value for key, value in block.items() if key != "cache_control"} if isinstance(block, dict) else {"type": "text", "text": block} for block in content]
        content = [block for block in content if not block.get("text", "").startswith(("<system-reminder>", "# Environment"))]
        return {"role": message["role"], "content": content}
    return [message for message in map(kept, body["messages"]) if message["role"] != "system"]


# ---------------------------------------------------------------- conversations
@check("ten turns stay with one process and keep the prompt cache, by a client that knows nothing of sessions")
def _():
    with House() as house:
        messages, reads, served = [], [], set()
        for turn in range(10):
            messages.append(user(f"SAY:answer {turn}"))
            message = house.say(None, system="Be brief.", messages=messages)
            equal("text", text_of(message), f"answer {turn}")
            messages.append({"role": "assistant", "content": [block.model_dump() for block in message.content]})
            reads.append(message.usage.cache_read_input_tokens)
        log = house.asked()
        true("reads grow with every turn", reads == sorted(reads) and len(set(reads)) == 10, reads)
        equal("requests of the program", len(log), 10)
        served = {dict(entry["headers"])["X-Claude-Code-Session-Id"] for entry in log}
        equal("sessions of the program", len(served), 1)
        equal("what the API heard last", spoken(log[-1]["body"]), [{"role": one["role"], "content": one["content"] if one["role"] == "assistant" else [{"type": "text", "text": one["content"]}]} for one in clean(messages[:-1])])
        def settled():
            listed = house.api("GET", "/v1/sessions")["sessions"]
            return listed if [one["turns"] for one in listed] == [10] else None

        sessions = eventually("the session of ten turns", settled)
        equal("warm, but not kept", [(one["kind"], one["warm"], one["kept"]) for one in sessions], [("messages", True, False)])
        house.api("DELETE", "/v1/sessions/" + sessions[0]["id"])
        equal("after it was deleted", house.api("GET", "/api/sessions")["sessions"], [])


def clean(messages):
    """What an SDK dumps, without the members that are null."""
    def block(one):
        return {key: value for key, value in one.items() if value is not None} if isinstance(one, dict) else one
    return [{**message, "content": [block(one) for one in message["content"]] if isinstance(message["content"], list) else message["content"]} for message in messages]


@check("the same in Chat")
def _():
    with House() as house:
        messages = [{"role": "system", "content": "Be brief."}]
        for turn in range(3):
            messages.append(user(f"SAY:answer {turn}"))
            completion = house.chat.chat.completions.create(model=MODEL, messages=messages)
            equal("text", completion.choices[0].message.content, f"answer {turn}")
            messages.append({"role": "assistant", "content": completion.choices[0].message.content})
        sessions = {dict(entry["headers"])["X-Claude-Code-Session-Id"] for entry in house.asked()}
        equal("requests and sessions of the program", (len(house.asked()), len(sessions)), (3, 1))
        equal("cached tokens", completion.usage.prompt_tokens_details.cached_tokens > 0, True)


@check("a response goes on from the one before in the process that gave it, by its id and by its items")
def _():
    with House() as house:
        tools = [{"type": "function", "name": "get_weather", "description": "Weather", "parameters": WEATHER["input_schema"]}]
        settings = {"model": MODEL, "tools": tools, "instructions": "Be brief.", "max_output_tokens": 500}
        ask = lambda input, **options: house.chat.responses.create(input=input, **settings, **options)
        first = ask("SAY:answer 0")
        equal("text", first.output_text, "answer 0")
        second = ask("TOOL:get_weather{\"city\":\"Oslo\"}", previous_response_id=first.id)
        call = next(item for item in second.output if item.type == "function_call")
        equal("call", (call.name, json.loads(call.arguments)), ("get_weather", {"city": "Oslo"}))
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        with house.chat.responses.stream(input=[result], previous_response_id=second.id, **settings) as stream:
            third = stream.get_final_response()
        equal("status", third.status, "completed")
        items = [user("SAY:answer 0"), *first.output, user("TOOL:get_weather{\"city\":\"Oslo\"}"), *second.output, result, *third.output, user("SAY:answer 3")]
        equal("by items", ask([one if isinstance(one, dict) else one.to_dict(warnings=False) for one in items], store=False).output_text, "answer 3")
        sessions = {dict(entry["headers"])["X-Claude-Code-Session-Id"] for entry in house.asked()}
        equal("requests and sessions of the program", (len(house.asked()), len(sessions)), (4, 1))


@check("a history that no process heard is told in order, with thinking, signatures, tools and pictures")
def _():
    history = [
        user([{"type": "text", "text": "first"}, IMAGE]),
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "text", "text": "I look"}, {"type": "tool_use", "id": "toolu_1", "name": "old_tool", "input": {"a": [1, "x"]}}]},
        user([{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [{"type": "text", "text": "broken"}]}]),
        {"role": "assistant", "content": [{"type": "text", "text": "a pity"}]},
        user([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}, {"type": "text", "text": "SAY:told"}]),
    ]
    with House() as house:
        equal("text", text_of(house.say(None, messages=history)), "told")
        equal("requests", len(house.asked()), 1)
        equal("what the API heard", spoken(house.bodies()[0]), history)


@check("system prompt, limits, sampling, stop sequences, tool choice and effort arrive as they were asked")
def _():
    with House() as house:
        house.say("SAY:x", model=OLDER, system=[{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}], max_tokens=77, extra_body={"temperature": 0.25, "top_k": 7}, stop_sequences=["\n\nZ"],
                  tools=[WEATHER, READ], tool_choice={"type": "tool", "name": "Read", "disable_parallel_tool_use": True})
        house.say("SAY:x", max_tokens=5000, output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}})
        house.say("SAY:plain")
        first, second, third = house.bodies()
    equal("settings", {key: first.get(key) for key in ("max_tokens", "temperature", "top_k", "stop_sequences", "tool_choice", "model", "stream")},
          {"max_tokens": 77, "temperature": 0.25, "top_k": 7, "stop_sequences": ["\n\nZ"], "tool_choice": {"type": "tool", "name": "Read", "disable_parallel_tool_use": True}, "model": OLDER, "stream": True})
    equal("system", first["system"][-1]["text"], "One.\n\nTwo.")
    equal("tools", [{key: tool.get(key) for key in ("name", "input_schema")} for tool in first["tools"]], [{key: tool[key] for key in ("name", "input_schema")} for tool in (WEATHER, READ)])
    equal("effort and format", (second["output_config"]["effort"], second["output_config"]["format"]["type"], second["max_tokens"]), ("low", "json_schema", 5000))
    equal("the API's default effort, and nothing left over", (third["output_config"], third.get("stop_sequences")), ({"effort": "high"}, None))
    true("no system prompt but the program's own", all("brief" not in json.dumps(block) for block in third["system"]), third["system"])


@check("thinking comes with its signature and goes back with it")
def _():
    with House() as house:
        first = house.say("THINK:deep thought ;; SAY:so", model=OLDER, max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000})
        equal("blocks", [(block.type, getattr(block, "signature", None)) for block in first.content], [("thinking", "bW9jay1zaWduYXR1cmU="), ("text", None)])
        equal("thought", first.content[0].thinking, "deep thought")
        again = [user("THINK:deep thought ;; SAY:so"), {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}, user("SAY:next")]
        house.say(None, model=OLDER, max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000}, messages=again)
        quiet = house.say("SAY:quiet", model=OLDER)
        first, second, third = house.bodies()
    equal("budget", first["thinking"]["budget_tokens"], 2000)
    equal("thinking that the API got back", second["messages"][1]["content"][0], {"type": "thinking", "thinking": "deep thought", "signature": "bW9jay1zaWduYXR1cmU="})
    equal("off where nobody asked for it", third["thinking"], {"type": "disabled"})


@check("streams carry every event, and the first words come long before the last")
def _():
    with House() as house:
        house.say("SAY:warm")
        arrivals = []
        with house.client.messages.stream(model=MODEL, max_tokens=500, messages=[user("SAY:one two three four five six seven eight ;; PACE:0.3")]) as stream:
            for event in stream:
                if event.type == "content_block_delta":
                    arrivals.append(time.time())
            equal("text", text_of(stream.get_final_message()), "one two three four five six seven eight")
            equal("usage", stream.get_final_message().usage.output_tokens > 1, True)
        true("words spread over time", arrivals[-1] - arrivals[0] > 0.5, arrivals)


# ---------------------------------------------------------------- tools
@check("a tool loop with two parallel calls goes on in the process that holds them")
def _():
    with House() as house:
        messages = [user('SAY:looking ;; TOOL:get_weather{"city":"Oslo"} ;; TOOL:Read{"x":3}')]
        first = house.say(None, tools=[WEATHER, READ], messages=messages)
        calls = [block for block in first.content if block.type == "tool_use"]
        equal("calls", (first.stop_reason, [(call.name, call.input) for call in calls]), ("tool_use", [("get_weather", {"city": "Oslo"}), ("Read", {"x": 3})]))
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": f"SAY:result {index}", "is_error": index == 1} for index, call in enumerate(calls)]
        messages += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}, user(list(reversed(results)))]
        second = house.say(None, tools=[WEATHER, READ], messages=messages)
        equal("text", text_of(second), "result 0result 1")
        messages += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in second.content]}, user("SAY:bye")]
        equal("text", text_of(house.say(None, tools=[WEATHER, READ], messages=messages)), "bye")
        log = house.asked()
        sessions = {dict(entry["headers"])["X-Claude-Code-Session-Id"] for entry in log}
        equal("requests and sessions of the program", (len(log), len(sessions)), (3, 1))
        heard = spoken(log[1]["body"])[-1]["content"]
        equal("results", [(block["tool_use_id"], block.get("is_error", False)) for block in heard], [(calls[0].id, False), (calls[1].id, True)])
        true("the prompt cache was read", second.usage.cache_read_input_tokens > 0, second.usage)


@check("a tool loop in Chat, streamed")
def _():
    tool = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER["input_schema"]}}
    with House() as house:
        messages = [user('TOOL:get_weather{"city":"Oslo"} ;; TOOL:get_weather{"city":"Rome"}')]
        calls, reason = {}, None
        for chunk in house.chat.chat.completions.create(model=MODEL, messages=messages, tools=[tool], max_completion_tokens=500, stream=True):
            for part in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
                call = calls.setdefault(part.index, {"id": part.id, "type": "function", "function": {"name": part.function.name, "arguments": ""}})
                call["function"]["arguments"] += part.function.arguments or ""
            reason = chunk.choices[0].finish_reason or reason if chunk.choices else reason
        equal("calls", (reason, [json.loads(call["function"]["arguments"]) for call in calls.values()]), ("tool_calls", [{"city": "Oslo"}, {"city": "Rome"}]))
        messages.append({"role": "assistant", "content": None, "tool_calls": list(calls.values())})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": f"SAY:{index}"} for index, call in enumerate(calls.values())]
        equal("text", house.chat.chat.completions.create(model=MODEL, messages=messages, tools=[tool], max_completion_tokens=500).choices[0].message.content, "01")
        sessions = {dict(entry["headers"])["X-Claude-Code-Session-Id"] for entry in house.asked()}
        equal("requests and sessions of the program", (len(house.asked()), len(sessions)), (2, 1))


def tool_turn(house, result, extra=()):
    messages = [user('TOOL:get_weather{"city":"Oslo"}')]
    first = house.say(None, tools=[WEATHER], messages=messages)
    messages += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}, user([{"type": "tool_result", "tool_use_id": first.content[0].id, **result}, *extra])]
    answer = house.say(None, tools=[WEATHER], messages=messages)
    return answer, spoken(house.bodies()[-1])[-1]["content"]


@check("results that a held call cannot carry are told to another process, as they are")
def _():
    with House() as house:
        answer, heard = tool_turn(house, {"content": [{"type": "text", "text": "SAY:seen"}, IMAGE]})
        equal("a picture", (text_of(answer), heard[0]["content"][1]), ("seen", IMAGE))
        long = "SAY:long " + "x" * 200_000
        answer, heard = tool_turn(house, {"content": long})
        equal("a long text", (text_of(answer)[:9], heard[0]["content"]), ("long xxxx", long))
        answer, heard = tool_turn(house, {"content": "quiet"}, [{"type": "text", "text": "SAY:and more"}])
        equal("text beside it", (text_of(answer), len(heard)), ("and more", 2))
        eventually("the processes that held the calls go", lambda: len(house.children()) <= 4)


@check("calls that are held go with their process, and nobody asks the API on their behalf")
def _():
    with House("--set", "claude_code.sessions=1") as house:
        house.say('TOOL:get_weather{"city":"Oslo"}', tools=[WEATHER])
        eventually("the process holds the call", lambda: house.api("GET", "/v1/sessions")["sessions"])
        equal("text", text_of(house.say("SAY:other")), "other")
        time.sleep(0.5)     # time in which it would ask
        equal("requests", len(house.asked()), 2)
        messages = [user('TOOL:get_weather{"city":"Oslo"}')]
        first = house.say(None, tools=[WEATHER], messages=messages)
        messages += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}, user([{"type": "tool_result", "tool_use_id": first.content[0].id, "content": "SAY:done"}])]
        equal("text", text_of(house.say(None, tools=[WEATHER], messages=messages, max_tokens=77)), "done")
        equal("limit of the turn with the results", house.bodies()[-1]["max_tokens"], 77)
        time.sleep(0.5)
        equal("requests", len(house.asked()), 4)


# ---------------------------------------------------------------- hidden requests
def hidden(script, reason):
    @check(f"{script!r} is one request to the API, not more")
    def _():
        with House() as house:
            message = house.say(script)
            equal("stop reason", message.stop_reason, reason)
            time.sleep(0.5)     # time in which the program would ask again
            equal("requests", len(house.asked()), 1)
            equal("text of the next turn", text_of(house.say("SAY:after")), "after")


for script, reason in (("SAY:cut short ;; STOP:max_tokens", "max_tokens"), ("SAY:x ;; STOP:model_context_window_exceeded", "model_context_window_exceeded"),
                       ("SAY:no ;; STOP:refusal", "refusal"), ("SAY:", "end_turn"), ("THINK:only thoughts", "end_turn"), ("SAY:p ;; STOP:pause_turn", "pause_turn"), ("SAY:s ;; STOPSEQ:ZZ", "stop_sequence")):
    hidden(script, reason)


@check("a call of a tool that the client does not have, and two models, are one request each")
def _():
    with House() as house:
        stray = house.say('SAY:hm ;; TOOL:nobody_has_it{"x":1}', tools=[READ])
        equal("call", (stray.stop_reason, stray.content[-1].name), ("tool_use", "nobody_has_it"))
        for model in (MODEL, OLDER, MODEL):
            equal("model", house.say("SAY:x", model=model).model, model)
        time.sleep(0.5)
        equal("requests", len(house.asked()), 4)


@check("a stream that is cut ends with an error, and the program is not let ask again")
def _():
    with House() as house:
        for script in ("SAY:some words that take a while ;; CUT:5", "SAY:one ;; SAY:some words that take a while ;; CUT:9", "SAY:some words that take a while ;; ERRSSE:overloaded_error:Over",
                       "SAY:some words that take a while ;; EOF:6", 'SAY:hm ;; TOOL:get_weather{"city":"Oslo"} ;; CUT:9'):
            before = len(house.asked())
            seen = []

            def stream():
                with house.client.messages.stream(model=MODEL, max_tokens=500, messages=[user(script)], tools=[WEATHER]) as events:
                    seen.extend(event.type for event in events)

            error = raises_some(anthropic.APIError, stream)
            true(f"words before the error of {script!r}", "content_block_delta" in seen and "message_stop" not in seen, seen)
            whole = raises_some(anthropic.APIStatusError, lambda: house.say(script, tools=[WEATHER]))
            true("status", whole.status_code in (502, 529), whole)
            time.sleep(0.4)
            equal(f"requests for {script!r}", len(house.asked()) - before, 2)


def raises_some(kind, function):
    try:
        came = function()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, came {came!r}")


@check("user text that looks like a file or a command is text")
def _():
    with House() as house:
        for text in ("SAY:ok\n@/etc/passwd", "@/etc/passwd", "/clear", "/context", "--version", "!ls"):
            house.say(text)
        heard = [spoken(body)[0]["content"][0]["text"] for body in house.bodies()]
        equal("texts", heard, ["SAY:ok\n@/etc/passwd", "@/etc/passwd", "/clear", "/context", "--version", "!ls"])
        true("no file was read", "root:" not in json.dumps(house.bodies()), "root:")


@check("a prompt of a mebibyte arrives whole, and is on no command line")
def _():
    text = "SAY:got it\n" + "x" * (1 << 20)
    with House() as house:
        equal("text", text_of(house.say(text)), "got it")
        equal("prompt", house.bodies()[0]["messages"][0]["content"][0]["text"], text)
        lines = [line for pid in house.children() if (line := told(pid, "cmdline"))]
        true("no prompt on a command line", lines and not any(b"got it" in line for line in lines), lines)
        true("no key of ours in its environment", not any(LOCAL_KEY.encode() in told(pid, "environ") for pid in house.children()), "a local key")


# ---------------------------------------------------------------- errors
@check("errors of the API have their status, type and words")
def _():
    table = [("ERR:400:invalid_request_error:bad thing", anthropic.BadRequestError, "bad thing"), ("ERR:401", anthropic.AuthenticationError, "401"), ("ERR:403", anthropic.PermissionDeniedError, ""),
             ("ERR:404", anthropic.NotFoundError, ""), ("ERR:413", anthropic.APIStatusError, ""), ("ERR:429", anthropic.RateLimitError, ""), ("ERR:529", anthropic.APIStatusError, "")]
    with House() as house:
        for script, kind, words in table:
            error = raises_some(anthropic.APIStatusError, lambda: house.say(script))
            status = int(script.split(":")[1])
            equal(f"status of {script}", error.status_code, status)
            true(f"kind of {script}", isinstance(error, kind), error)
            within("words", words, error.message)
            true("request id of the API", (error.response.headers["request-id"] or "").startswith("req_mock_"), error.response.headers)
        equal("requests for the first four", True, len(house.asked()) >= 7)
        error = raises_some(openai.OpenAIError, lambda: house.chat.chat.completions.create(model=MODEL, messages=[user("ERR:529")]))
        equal("529 in Chat", error.status_code, 503)


@check("a lost connection before the first word is tried again, in the middle it is not")
def _():
    with House() as house:
        equal("text", text_of(house.say("SAY:back ;; RESET ;; TIMES:1")), "back")
        equal("requests", len(house.asked()), 2)
    with House("--set", "upstream.cc.retries=0") as house:
        error = raises_some(anthropic.APIStatusError, lambda: house.say("RESET"))
        equal("status", error.status_code, 502)
        equal("requests", len(house.asked()), 1)


@check("what the program cannot express is refused by name, or noted")
def _():
    with House() as house:
        for options, name in (({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"), ({"messages": [user("x"), {"role": "assistant", "content": "{"}]}, "ends with the assistant"),
                              ({"extra_body": {"container": "c"}}, "container"), ({"model": "--version"}, "no name of a model"), ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].text: field required"),
                              ({"messages": [user([{"type": "tool_result", "tool_use_id": "t", "content": "r"}])]}, "unexpected `tool_use_id`")):
            within("message", name, raises(anthropic.BadRequestError, house.say, "x", **options).message)
        raw = house.client.messages.with_raw_response.create(model=MODEL, max_tokens=50, metadata={"user_id": "u"}, thinking={"type": "disabled"}, tools=[{**READ, "strict": True}],
                                                             messages=[user([{"type": "text", "text": "SAY:x", "cache_control": {"type": "ephemeral"}}])])
        note = raw.headers["seaway-note"]
        for part in ("metadata not passed on", "thinking kept", "tools.strict not passed on", "cache_control left to the program"):
            within("note", part, note)
        counted = house.client.messages.with_raw_response.count_tokens(model=MODEL, messages=[user("x" * 400)])
        equal("estimate", (json.loads(counted.text())["estimated"], counted.headers["seaway-note"]), (True, "input_tokens estimated"))
        equal("requests", len(house.asked()), 1)
    with House("--strict", "true") as house:
        within("message", "metadata", raises(anthropic.BadRequestError, house.say, "x", metadata={"user_id": "u"}).message)


@check("the models are the program's")
def _():
    with House() as house:
        models = [model.id for model in house.client.models.list()]
        true("models", "claude-opus-5-5" in models and "claude-haiku-5-5" in models and "default" not in models, models)
        equal("the newest opus", house.say("SAY:x", model="opus").model, "claude-opus-5-5")
        equal("no request was made for the list", len(house.asked()), 1)


# ---------------------------------------------------------------- leaving and waiting
@check("a client that leaves stops the work upstream and ends the process")
def _():
    with House() as house:
        before = set(house.children())
        with house.client.messages.stream(model=MODEL, max_tokens=500, messages=[user("BIG:6000 ;; PACE:0.05")]) as stream:
            next(event for event in stream if event.type == "content_block_delta")
            working = set(house.children()) - before
        eventually("the API saw the client leave", lambda: [entry for entry in house.asked() if entry["reply"].get("client_gone")], 5)
        eventually("the process is gone", lambda: not any(alive(pid) for pid in working))


@check("eight requests on two workers are all served, two at a time, first come first served")
def _():
    with House("--set", "claude_code.workers=2") as house:
        done, threads = [], []

        def ask(index):
            house.say(f"SAY:{index} ;; SLOW:0.4")
            done.append(index)

        for index in range(8):
            threads.append(threading.Thread(target=ask, args=(index,)))
            threads[-1].start()
            time.sleep(0.08)
        for thread in threads:
            thread.join()
        log = house.asked()
        equal("requests", len(log), 8)
        order = [int(spoken(entry["body"])[0]["content"][0]["text"][4]) for entry in sorted(log, key=lambda entry: entry["t"])]
        true("in order, but for the two that work side by side", all(abs(order.index(index) - index) <= 1 for index in range(8)), order)
        spans = [(entry["t"], entry["reply"]["done_t"]) for entry in log]
        most = max(sum(start <= at < end for start, end in spans) for at, _ in spans)
        true("two at a time at most", most <= 2, most)


@check("a full queue and a long wait are refused at once and in time")
def _():
    with House("--set", "claude_code.workers=1", "--set", "upstream.cc.queue=1", "--set", "upstream.cc.queue_timeout=1s") as house:
        slow = threading.Thread(target=lambda: house.say("SAY:x ;; SLOW:4"))
        slow.start()
        eventually("the first is under way", house.asked)
        waiting = []
        second = threading.Thread(target=lambda: waiting.append(raises(anthropic.RateLimitError, house.say, "SAY:y")))
        second.start()
        eventually("the second waits", lambda: house.api("GET", "/health")["queue"] == 1)
        full = raises(anthropic.RateLimitError, house.say, "SAY:z")
        equal("retry-after", full.response.headers["retry-after"], "5")
        second.join()
        within("message", "no place became free within 1 seconds", waiting[0].message)
        slow.join()
        equal("requests", len(house.asked()), 1)


@check("a process that is killed in the middle is an error for its client alone")
def _():
    with House() as house:
        def stream():
            with house.client.messages.stream(model=MODEL, max_tokens=500, messages=[user("BIG:6000 ;; PACE:0.05")]) as events:
                for index, event in enumerate(event for event in events if event.type == "content_block_delta"):
                    if index == 2:
                        send(signal.SIGKILL, house.children())

        error = raises_some(anthropic.APIError, stream)
        within("message", "Claude Code ended without an answer", str(error))
        equal("text", text_of(house.say("SAY:alive")), "alive")


@check("nothing is started before somebody asks, but what was asked for")
def _():
    with House() as house:
        time.sleep(0.3)
        equal("processes", house.children(), [])
    with House("--set", "claude_code.prewarm=1", "--set", f"model.default={MODEL}") as house:
        # Not the one that tells what the program adds to a prompt, which comes first. One look: it may go between two.
        def spare():
            found = house.children()
            return found if len(found) == 1 and b"--resume" in told(found[0], "cmdline") else None

        waiting = eventually("one process waits", spare)
        equal("text", text_of(house.say("SAY:x")), "x")
        true("it was used", waiting[0] in house.children(), (waiting, house.children()))


@check("an API key uses the program's smallest mode")
def _():
    with House("--set", "upstream.cc.api_key=fake-key", bearer=None) as house:
        equal("text", text_of(house.say("SAY:x", tools=[READ])), "x")
        entry = house.asked()[0]
        equal("key", dict(entry["headers"]).get("x-api-key"), "fake-key")
        true("no environment text", len(json.dumps(entry["body"]["messages"])) < 400, entry["body"]["messages"])


# ---------------------------------------------------------------- sessions
def turn(house, text, name, history=(), **options):
    return house.say(None, messages=[*history, user(text)], extra_headers={"seaway-session": name}, **options)


@check("eleven requests in a row make no session")
def _():
    with House() as house:
        for index in range(11):
            equal("text", text_of(house.say(f"SAY:{index}")), str(index))
        equal("kept sessions", [one for one in house.api("GET", "/v1/sessions")["sessions"] if one["kept"]], [])


@check("a named session survives a restart, is its owner's, and can be deleted")
def _():
    folder = tempfile.mkdtemp(prefix="seaway-state-")
    keys = ("--set", 'keys={"other":"sk-other"}', "--state-dir", folder + "/state")
    history = [user("SAY:first"), {"role": "assistant", "content": "first"}]
    try:
        with House(*keys, home=folder) as house:
            equal("text", text_of(turn(house, "SAY:first", "mine")), "first")
            eventually("it is kept", lambda: [one for one in house.api("GET", "/v1/sessions")["sessions"] if one["kept"]])
        with House(*keys, home=folder) as house:
            listed = house.api("GET", "/v1/sessions")["sessions"]
            equal("known, not warm", [(one["id"], one["kind"], one["warm"], one["turns"]) for one in listed], [("mine", "messages", False, 1)])
            equal("text", text_of(turn(house, "SAY:second", "mine", history)), "second")
            equal("what the API heard", [message["role"] for message in spoken(house.bodies()[0])], ["user", "assistant", "user"])
            eventually("two turns", lambda: house.api("GET", "/v1/sessions")["sessions"][0]["turns"] == 2 or house.api("GET", "/v1/sessions")["sessions"][0]["warm"])
            house.api("DELETE", "/v1/sessions/mine")
            equal("sessions", house.api("GET", "/v1/sessions")["sessions"], [])
            error = raises(urllib.error.HTTPError, house.api, "DELETE", "/v1/sessions/mine")
            equal("twice", error.code, 404)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@check("two requests of one session are strictly one after the other, in order")
def _():
    with House() as house:
        threads = [threading.Thread(target=turn, args=(house, f"SAY:{index} ;; SLOW:0.5", "one")) for index in range(3)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        spans = sorted((entry["t"], entry["reply"]["done_t"]) for entry in house.asked())
        true("no overlap", all(spans[index][1] <= spans[index + 1][0] for index in range(2)), spans)
        equal("order", [spoken(entry["body"])[0]["content"][0]["text"][4] for entry in sorted(house.asked(), key=lambda entry: entry["t"])], ["0", "1", "2"])


# ---------------------------------------------------------------- runs
RUN = ("--set", 'claude_code.tools=["Read","Write","Bash(echo:*)","Bash"]')


def workspace(house):
    return pathlib.Path(house.gateway.folder, "state/claude-code/workspace")


@check("a run uses the program's own tools in its workspace, and says what it cost")
def _():
    with House(*RUN) as house:
        house.api("POST", "/v1/run", {"prompt": "SAY:hello"})
        path = workspace(house) / "note.txt"
        path.write_text("SAY:the note says 4711")
        answer = house.api("POST", "/v1/run", {"prompt": f'TOOL:Read{{"file_path":"{path}"}}', "allowedTools": ["Read"], "model": MODEL})
        within("result", "4711", answer["result"])
        equal("turns and session", (answer["turns"], answer["sessionId"], answer["model"]), (2, None, MODEL))
        true("cost, usage and time", answer["cost"] > 0 and answer["usage"]["output_tokens"] > 0 and answer["durationMs"] > 0, answer)
        refused = house.api("POST", "/api/run", {"prompt": 'TOOL:Read{"file_path":"/etc/passwd"}', "allowedTools": ["Read"]})
        true("a file elsewhere is not read", "root:" not in json.dumps(house.bodies()) and "outside of the workspace" in refused["result"], refused)
        refused = house.api("POST", "/v1/run", {"prompt": 'TOOL:Bash{"command":"touch made","description":"d"}', "allowedTools": ["Bash(echo:*)"]})
        true("a command beside the rule is refused", refused["permissionDenials"] and not (workspace(house) / "made").exists(), refused)
        house.api("POST", "/v1/run", {"prompt": 'TOOL:Write{"file_path":"new.txt","content":"x"}', "allowedTools": ["Write"]})
        equal("written", (workspace(house) / "new.txt").read_text(), "x")
        equal("no sessions", house.api("GET", "/v1/sessions")["sessions"], [])


@check("what a run may not do, or cannot be, is refused before any work")
def _():
    with House("--set", "claude_code.tools=Read") as house:
        table = [({"prompt": ""}, 400), ({"prompt": "x", "allowedTools": ["Bash"]}, 403), ({"prompt": "x", "workingDirectory": "/etc"}, 403), ({"prompt": "x", "workingDirectory": "../.."}, 403),
                 ({"prompt": "x", "sessionId": "nothing"}, 404), ({"prompt": "x", "model": "--help"}, 400), ({"promt": "x"}, 400),
                 ({"prompt": "x", "allowedTools": ["Read(x) Bash"]}, 400), ({"prompt": "x", "allowedTools": ["Read(//etc/**)"]}, 403)]
        for body, status in table:
            error = raises(urllib.error.HTTPError, house.api, "POST", "/v1/run", body)
            equal(f"status of {body}", error.code, status)
            true("an error in the dialect", json.loads(error.read())["error"]["message"], body)
        equal("requests", house.asked(), [])
        error = raises(urllib.error.HTTPError, house.api, "POST", "/v1/run", {"prompt": "ERR:529 ;; SHOULDRETRY:false"})
        equal("an error of the API", error.code, 529)
        limited = raises(urllib.error.HTTPError, house.api, "POST", "/v1/run", {"prompt": 'TOOL:Read{"file_path":"a"}', "maxTurns": 1})
        within("maxTurns", "maxTurns", json.loads(limited.read())["error"]["message"])


def watch(house, body, seen):
    request = urllib.request.Request(house.url + "/v1/run", json.dumps({**body, "stream": True}).encode(), {"x-api-key": LOCAL_KEY, "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        name = None
        for line in answer:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                if seen(name, json.loads(line[6:])) is False:
                    return


@check("a run is told as it happens")
def _():
    with House(*RUN) as house:
        events = []
        house.api("POST", "/v1/run", {"prompt": "SAY:warm"})
        (workspace(house) / "a.txt").write_text("SAY:read it")
        watch(house, {"prompt": 'SAY:I look ;; TOOL:Read{"file_path":"a.txt"}'}, lambda name, data: events.append((name, data)))
        names = [name for name, _ in events]
        equal("events", [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name], ["start", "text", "tool_use", "tool_result", "text", "result"])
        within("tool result", "read it", json.dumps(events[names.index("tool_result")][1]))
        equal("ids", events[0][1]["id"], events[-1][1]["id"])


@check("a run that asks waits for the answer over its stream")
def _():
    with House("--set", "claude_code.tools=Read", "--set", "claude_code.permission=ask") as house:
        for allow in (True, False):
            events = []

            def seen(name, data):
                events.append((name, data))
                if name == "start":
                    seen.run = data["id"]
                if name == "permission":
                    house.api("POST", f"/v1/run/{seen.run}/permissions/{data['id']}", {"allow": allow})

            watch(house, {"prompt": 'TOOL:Bash{"command":"echo made > asked","description":"d"}'}, seen)
            asked = dict(events)["permission"]
            equal("question", (asked["tool"], asked["input"]["command"]), ("Bash", "echo made > asked"))
            equal("done", (workspace(house) / "asked").exists(), allow)
            (workspace(house) / "asked").unlink(missing_ok=True)
        error = raises(urllib.error.HTTPError, house.api, "POST", f"/v1/run/{seen.run}/permissions/x", {"allow": True})
        equal("too late", error.code, 404)


@check("a client that leaves a run ends it")
def _():
    with House(*RUN) as house:
        watch(house, {"prompt": "BIG:6000 ;; PACE:0.05"}, lambda name, data: name != "text")
        eventually("the API saw it leave", lambda: [entry for entry in house.asked() if entry["reply"].get("client_gone")])
        eventually("the process is gone", lambda: not house.children())


@check("a session of runs goes on where it was, one run at a time")
def _():
    with House(*RUN) as house:
        first = house.api("POST", "/v1/run", {"prompt": "SAY:first", "keepSession": True})
        second = house.api("POST", "/v1/run", {"prompt": "SAY:second", "sessionId": first["sessionId"]})
        equal("session", second["sessionId"], first["sessionId"])
        equal("what the API heard", [message["role"] for message in spoken(house.bodies()[-1])], ["user", "assistant", "user"])
        equal("listed", [(one["id"], one["kind"], one["kept"]) for one in house.api("GET", "/v1/sessions")["sessions"]], [(first["sessionId"], "run", True)])
        threads = [threading.Thread(target=house.api, args=("POST", "/v1/run", {"prompt": f"SAY:{index} ;; SLOW:0.5", "sessionId": first["sessionId"]})) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spans = sorted((entry["t"], entry["reply"]["done_t"]) for entry in house.asked()[2:])
        true("no overlap", spans[0][1] <= spans[1][0], spans)
        house.api("DELETE", "/v1/sessions/" + first["sessionId"])
        equal("gone", raises(urllib.error.HTTPError, house.api, "POST", "/v1/run", {"prompt": "x", "sessionId": first["sessionId"]}).code, 404)


@check("tasks work in the background, are cancelled, and are told after a restart that they failed")
def _():
    folder = tempfile.mkdtemp(prefix="seaway-state-")
    state = ("--state-dir", folder + "/state")
    try:
        with House(*RUN, *state, home=folder) as house:
            begun = house.api("POST", "/v1/tasks", {"prompt": "SAY:done"})
            equal("status", begun["status"], "queued")
            done = eventually("it is done", lambda: (task := house.api("GET", "/v1/tasks/" + begun["id"]))["status"] == "completed" and task)
            equal("result", (done["answer"]["result"], done["error"]), ("done", None))
            slow = house.api("POST", "/api/tasks", {"prompt": "SAY:x ;; SLOW:30"})
            eventually("it runs", lambda: house.api("GET", "/v1/tasks/" + slow["id"])["status"] == "running" and len(house.asked()) == 2)
            equal("cancelling", house.api("DELETE", "/v1/tasks/" + slow["id"])["status"], "cancelling")
            eventually("it is cancelled", lambda: house.api("GET", "/v1/tasks/" + slow["id"])["status"] == "cancelled")
            failed = house.api("POST", "/v1/tasks", {"prompt": "ERR:403"})
            failed = eventually("it failed", lambda: (task := house.api("GET", "/v1/tasks/" + failed["id"]))["status"] == "failed" and task)
            equal("error", failed["error"]["type"], "permission_error")
            equal("listed", [task["status"] for task in house.api("GET", "/v1/tasks")["tasks"]], ["failed", "cancelled", "completed"])
        with House(*RUN, *state, home=folder) as house:
            stopped = house.api("POST", "/v1/tasks", {"prompt": "SAY:x ;; SLOW:30"})
            eventually("it works", house.asked)
        with House(*RUN, *state, home=folder) as house:
            task = house.api("GET", "/v1/tasks/" + stopped["id"])
            equal("after a shutdown, which ended its process", (task["status"], task["error"]["type"]), ("failed", "server_restart"))
            left = house.api("POST", "/v1/tasks", {"prompt": "SAY:x ;; SLOW:30"})
            eventually("it runs", lambda: house.api("GET", "/v1/tasks/" + left["id"])["status"] == "running")
            orphans = house.children()
            house.gateway.process.kill()
            house.killed = True
        with House(*RUN, *state, home=folder) as house:
            eventually("the killed gateway's process was ended", lambda: not any(alive(pid) for pid in orphans))
            equal("its temporary files", list(house.gateway.temporary.iterdir()), [])
            # A gateway that was killed said nothing; its word is good for ten seconds.
            task = eventually("it failed", lambda: (task := house.api("GET", "/v1/tasks/" + left["id"]))["status"] == "failed" and task)
            equal("after a restart", task["error"]["type"], "server_restart")
            equal("deleted", house.api("DELETE", "/v1/tasks/" + left["id"])["status"], "deleted")
            equal("gone", raises(urllib.error.HTTPError, house.api, "GET", "/v1/tasks/" + left["id"]).code, 404)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- what a run may do
def run(house, prompt, key=LOCAL_KEY, **options):
    return house.api("POST", "/v1/run", {"prompt": prompt, **options}, key=key)


def results(body):
    """For each result of a tool in a request, whether it is an error."""
    return [block.get("is_error", False) for message in body["messages"] for block in message["content"] if isinstance(block, dict) and block.get("type") == "tool_result"]


def tool(name, /, **arguments):
    return f"TOOL:{name}{json.dumps(arguments)}"


@check("a run reads no transcript but its own, nobody's memory, and a deleted session is gone from the disk")
def _():
    secret, poison = "word-of-another-caller", "POISONED-INSTRUCTION"
    with House("--set", 'claude_code.tools=["Read","Grep","Glob","Write","Edit"]', "--set", 'keys={"other":"sk-other"}', login=True) as house:
        kept = run(house, f"SAY:{secret}", key="sk-other", keepSession=True)
        held = eventually("one transcript, when the child's own has gone with it", lambda: (found := house.files_with(secret)) if len(house.files_with(secret)) == 1 else None)
        within("our own folder", "/state/claude-code/sessions/", held[0])
        slug = str(workspace(house)).replace("/", "-").replace(".", "-").replace("_", "-")
        owners = house.folder / ".claude/projects" / slug
        (owners / "memory").mkdir(parents=True)
        (owners / "own.jsonl").write_text(secret)
        (owners / "memory/MEMORY.md").write_text(poison)
        owners_files = lambda: files(house.folder, ("state", "tmp"))
        before = owners_files()
        asked = len(house.asked())
        for path in (held[0], str(owners / "own.jsonl"), str(owners / "memory/MEMORY.md"), str(house.folder / ".claude/.credentials.json")):
            folder = str(pathlib.Path(path).parent)
            # What a tool refuses by itself, before anybody is asked, is refused as well.
            for use in (tool("Read", file_path=path), tool("Grep", pattern=".", path=folder, output_mode="content"), tool("Glob", pattern="**/*", path=folder), tool("Glob", pattern=folder + "/*"),
                        tool("Write", file_path=path, content="x"), tool("Edit", file_path=path, old_string=".", new_string="y")):
                run(house, use)
                true(f"a refusal of {use}", results(house.bodies()[-1]) == [True], house.bodies()[-1]["messages"][-1])
        run(house, tool("Write", file_path=str(house.folder / ".claude/agent-memory/x/MEMORY.md"), content="x"))
        house.say("SAY:chat")
        heard = json.dumps(house.bodies()[asked:])
        true("nothing of it reached the model", secret not in heard and poison not in heard and "sk-ant-o" not in heard, heard)
        equal("the owner's files", owners_files(), before)
        house.api("DELETE", "/v1/sessions/" + kept["sessionId"], key="sk-other")
        equal("files that hold a word of it", [path for path in house.files_with(secret) if path != str(owners / "own.jsonl")], [])


@check("what the program reads in another way than it stands leads nowhere either")
def _():
    secret = "word-of-somebody"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="seaway-outside-"))
    try:
        (folder / "own").mkdir()
        (folder / "own/s.txt").write_text(secret)
        with House("--set", 'claude_code.tools=["Read(*)","Grep","Glob","Bash(cd:*)"]', login=True) as house:
            run(house, "SAY:warm")
            (workspace(house) / "sub").mkdir()
            (workspace(house) / "sub/link").symlink_to(folder)
            asked = len(house.asked())
            paths = [f"{blank}{folder}" for blank in ("\ufeff", "\u00a0", "\u2003", "\u2028", " ", "\t")] + [f"{folder}\ufeff", "\ufeff~/.claude", "~/.claude", "~"]
            for path in paths:
                for use in (tool("Grep", pattern=".", path=path, output_mode="content"), tool("Glob", pattern="**/*", path=path), tool("Glob", pattern=path + "/*")):
                    run(house, use)
                    true(f"a refusal of {use!r}", results(house.bodies()[-1]) == [True], house.bodies()[-1]["messages"][-1])
            run(house, tool("Read", file_path=str(folder / "own/s.txt")))
            # Another folder than it began in: the second prompt of a session says it in the midst of its turn.
            kept = run(house, tool("Bash", command="cd sub", description="d"), keepSession=True)
            run(house, tool("Grep", pattern=".", path="link", output_mode="content"), sessionId=kept["sessionId"])
            house.mock_queue([tool("Bash", command="cd sub", description="d"), tool("Grep", pattern=".", path="link", output_mode="content"), tool("Glob", pattern="link/**"), "SAY:done"])
            run(house, "go")
            heard = json.dumps(house.bodies()[asked:])
            true("nothing of it reached the model", secret not in heard and "sk-ant-o" not in heard and "own/s.txt" not in heard.replace(str(folder / "own/s.txt"), ""), heard[-3000:])
    finally:
        shutil.rmtree(folder)
    with House("--set", 'keys={"other":"sk-other"}') as house:
        kept = run(house, "SAY:mine", keepSession=True)["sessionId"]
        other = anthropic.Anthropic(base_url=house.url, api_key="sk-other", max_retries=0)
        for name in (kept, kept.upper()):
            other.messages.create(model=MODEL, max_tokens=50, messages=[user("SAY:x")], extra_headers={"seaway-session": name})
            eventually("it is there", lambda: any(one["id"] == name for one in house.api("GET", "/v1/sessions", key="sk-other")["sessions"]))
            house.api("DELETE", f"/v1/sessions/{name}", key="sk-other")
        equal("the session of the first", run(house, "SAY:on", sessionId=kept)["sessionId"], kept)


@check("a rule for the shell means the commands that it names and no others")
def _():
    with House("--set", 'claude_code.tools=["Bash(echo:*)"]') as house:
        refused = ["id", "ps aux", "lsof", "ip addr", "find .", "test -f /etc/shadow", "ls", "pwd", "git status", "cat /etc/passwd", "echo x && id", "echo x; id", "echo $(id)", "echo `id`", "echo x | sh", "echo x > made", "env echo x",
                   "(echo x)", "echo x & id", "echo=1 id", "ech? x", "command echo x", "true", "which id", "uname -a", "date", "whoami", "cd /etc && echo x"]
        for line in refused:
            answer = run(house, tool("Bash", command=line, description="d"), allowedTools=["Bash(echo:*)"])
            true(f"a denial of {line!r}", [use["tool_name"] for use in answer["permissionDenials"]] == ["Bash"], answer)
        equal("files", list(workspace(house).iterdir()), [])
        answer = run(house, tool("Bash", command="echo 47 && echo '11 $x' | echo last", description="d"), allowedTools=["Bash(echo:*)"])
        true("what it names is done", not answer["permissionDenials"] and "47" in answer["result"] and "last" in answer["result"], answer)


@check("no tool of the program is used beyond what was granted, whatever tools it has")
def _():
    with House() as house:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(house.folder), "CLAUDE_CONFIG_DIR": str(house.folder / "own"), "ANTHROPIC_BASE_URL": house.mock.url, "ANTHROPIC_API_KEY": "k", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                       "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_ENABLE_TASKS": "1"}
        lines = subprocess.run([CLAUDE, "-p", "SAY:x", "--output-format", "stream-json", "--verbose", "--model", MODEL, "--tools", "default"], env=environment, cwd=house.folder, capture_output=True, text=True, timeout=60).stdout.splitlines()
        names = next(line["tools"] for line in map(json.loads, lines) if line.get("subtype") == "init")
    names = sorted({*names, "Glob", "Grep", "MultiEdit", "Skill", "ToolSearch", "SlashCommand"})
    true("tools", len(names) > 20 and "Bash" in names, names)
    uses = {"Bash": {"command": "touch made", "description": "d"}, "Read": {"file_path": "/etc/passwd"}, "Write": {"file_path": "/tmp/seaway-made", "content": "x"}, "Edit": {"file_path": "/etc/hostname", "old_string": "a", "new_string": "b"},
            "Glob": {"pattern": "/etc/*"}, "Grep": {"pattern": "root", "path": "/etc"}, "NotebookEdit": {"notebook_path": "/tmp/x.ipynb", "new_source": "x"}, "WebFetch": {"url": "http://127.0.0.1:1/", "prompt": "x"},
            "WebSearch": {"query": "x y"}, "Task": {"description": "d", "prompt": "SAY:x", "subagent_type": "general-purpose"}, "Monitor": {"description": "d", "command": "touch made", "timeout_ms": 1000},
            "CronCreate": {"cron": "* * * * *", "prompt": "x"}, "CronDelete": {"id": "x"}, "ExitPlanMode": {}, "EnterWorktree": {"name": "x"}, "ExitWorktree": {"action": "keep"}, "RemoteTrigger": {"action": "list"}, "SendMessage": {"to": "x", "message": "y", "summary": "z"},
            "TaskStop": {"task_id": "x"}, "Workflow": {"script": "export const meta = {}"}, "ScheduleWakeup": {"delaySeconds": 60, "reason": "x", "prompt": "y"}, "ReportFindings": {"level": "low", "findings": []},
            "AskUserQuestion": {"questions": [{"question": "q?", "header": "h", "multiSelect": False, "options": [{"label": "a", "description": "b"}, {"label": "c", "description": "d"}]}]}}
    # Each is offered to the model, by a rule that covers no use of it.
    granted = json.dumps([f"{name}(nothing-at-all)" for name in names])
    for permission in ("deny", "allow"):
        with House("--set", f"claude_code.tools={granted}", "--set", f"claude_code.permission={permission}") as house:
            for name in names:
                asked = len(house.asked())
                # With `allow` a client that asks for one tool gets no other.
                options = {"allowedTools": [f"{name}(nothing-at-all)"]} if permission == "allow" else {}
                answer = run(house, tool(name, **uses.get(name, {})), **options)
                came = [error for body in house.bodies()[asked:] for error in results(body)]
                true(f"{name} is refused or not there", came and all(came), (answer, house.bodies()[-1]["messages"][-1]))
            equal("files", list(workspace(house).iterdir()), [])
    true("nothing was written elsewhere", not pathlib.Path("/tmp/seaway-made").exists(), "a file")


@check("what a run asks for narrows in every mode, and a run has its time")
def _():
    with House("--set", "claude_code.permission=allow") as house:
        answer = run(house, tool("Bash", command="touch made", description="d"), allowedTools=["Read"])
        true("a tool that was not asked for", not (workspace(house) / "made").exists(), answer)
        run(house, tool("Bash", command="touch asked-for", description="d"), allowedTools=["Bash"])
        run(house, tool("Bash", command="touch by-nobody", description="d"))
        equal("files", sorted(path.name for path in workspace(house).iterdir()), ["asked-for", "by-nobody"])
        equal("a tool that nobody knows", raises(urllib.error.HTTPError, run, house, "x", allowedTools=["Monitor"]).code, 403)
    with House("--set", "claude_code.tools=Bash", "--set", "claude_code.run_timeout=2s") as house:
        began = time.time()
        error = raises(urllib.error.HTTPError, run, house, tool("Bash", command="(setsid sleep 613 &) ; sleep 613", description="d", timeout=600000))
        true("in time", error.code == 504 and "run_timeout" in error.read().decode() and time.time() - began < 12, (error.code, time.time() - began))
        eventually("what it started is gone", lambda: not sleeping("613"))


def sleeping(seconds):
    found = []
    for line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if line.read_bytes() == f"sleep\0{seconds}\0".encode() and alive(int(line.parent.name)):
                found.append(int(line.parent.name))
        except OSError:
            pass
    return found


@check("the model that was asked for answers, and another one is told")
def _():
    with House() as house:
        for model in ("claude-opus-4-20250514", "claude-opus-4-0", "claude-opus-4-1-20250805"):
            raw = house.client.messages.with_raw_response.create(model=model, max_tokens=50, messages=[user("SAY:x")])
            equal("model that the API was asked for", house.bodies()[-1]["model"], model)
            true("no note", "answered by" not in raw.headers.get("seaway-note", ""), raw.headers.get("seaway-note"))
        raw = house.client.messages.with_raw_response.create(model=MODEL, max_tokens=50, messages=[user("SAY:x ;; MODEL:claude-opus-9-1")])
        within("note", "model answered by claude-opus-9-1", raw.headers["seaway-note"])
    with House("--strict", "true") as house:
        error = raises(anthropic.BadRequestError, house.say, "SAY:x ;; MODEL:claude-opus-9-1")
        within("message", "claude-opus-9-1", error.message)


# ---------------------------------------------------------------- when the gateway dies, and what is left
@check("nobody works for a gateway that was killed")
def _():
    with House("--set", "claude_code.tools=Bash", "--set", "claude_code.workers=4") as house:
        house.say("SAY:warm")
        threads = [threading.Thread(target=quietly, args=(house.say, "BIG:60000 ;; PACE:0.05")), threading.Thread(target=quietly, args=(run, house, tool("Bash", command="(setsid sleep 614 &) ; sleep 614", description="d", timeout=600000)))]
        for thread in threads:
            thread.start()
        house.say(tool("get_weather", city="Oslo"), tools=[WEATHER])
        eventually("the run's tool works", lambda: len(sleeping("614")) == 2)
        eventually("all of them are at work", lambda: len(house.asked()) == 4)
        before = house.children()
        true("processes", len(before) >= 3, before)
        house.gateway.process.kill()
        house.killed = True
        eventually("they are gone", lambda: not any(alive(pid) for pid in before), 5)
        eventually("and what they started", lambda: not sleeping("614"), 5)
        eventually("and their files", lambda: not list(house.gateway.temporary.iterdir()), 5)
        for thread in threads:
            thread.join()
        time.sleep(1)       # time in which the program would ask again
        equal("requests", len(house.asked()), 4)


def quietly(function, *args):
    try:
        function(*args)
    except Exception:
        pass


@check("nothing of a prompt or of a tool's result is left anywhere")
def _():
    secret = "nobody-may-read-this"
    folder = tempfile.mkdtemp(prefix="seaway-state-")
    try:
        with House(home=folder, login=True) as house:
            tool_turn(house, {"content": [{"type": "text", "text": f"failed: {secret}"}], "is_error": True})
            run(house, tool("Read", file_path=secret))
            house.say(f"SAY:{secret} ;; STOP:max_tokens")
            house.say(f"SAY:{secret}")
            turn(house, f"SAY:{secret}", "named")
            eventually("a spare is there", lambda: house.children())
            send(signal.SIGKILL, house.children())
        left = sorted(str(path.relative_to(folder)) for path in files(folder))
        equal("files of the owner's", left, [".claude/.credentials.json"])
        with House(home=folder, login=True) as house:
            house.say(f"SAY:{secret}")
            house.gateway.process.kill()
            house.killed = True
            eventually("nothing is left", lambda: sorted(str(path.relative_to(folder)) for path in files(folder)) == [".claude/.credentials.json"])
            ours = [path for path in house.files_with(secret)]
            equal("files of ours that hold a word of it", ours, [])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@check("a process that hangs is replaced in ten seconds, and its client does not notice")
def _():
    with House() as house:
        messages = [user("SAY:first")]
        first = house.say(None, messages=messages)
        messages += [{"role": "assistant", "content": text_of(first)}, user("SAY:second")]
        eventually("a spare waits", lambda: len(house.children()) == 2)
        time.sleep(61)      # one that was started a moment ago has a minute
        hung = house.children()
        send(signal.SIGSTOP, hung)
        began = time.time()
        equal("text", text_of(house.say(None, messages=messages)), "second")
        true("in time", time.time() - began < 30, time.time() - began)
        eventually("those that hung are gone", lambda: not any(alive(pid) for pid in hung))


# ---------------------------------------------------------------- a plan
def limited(kind, wait):
    reset = int(time.time()) + wait
    headers = {"status": "rejected", "reset": reset, "representative-claim": kind, "5h-utilization": "1.0", "5h-reset": reset}
    return "ERR:429:rate_limit_error:limit ;; " + " ;; ".join(f"HDR:anthropic-ratelimit-unified-{name}={value}" for name, value in headers.items())


@check("a plan's limit is told with its true wait, and nobody asks again before")
def _():
    with House(login=True) as house:
        patient = anthropic.Anthropic(base_url=house.url, api_key=LOCAL_KEY)
        began = time.time()
        error = raises(anthropic.RateLimitError, patient.messages.create, model=MODEL, max_tokens=50, messages=[user(limited("five_hour", 9000))])
        true("at once", time.time() - began < 10 and len(house.asked()) == 1, (time.time() - began, len(house.asked())))
        headers = error.response.headers
        equal("headers", (headers["x-should-retry"], headers["anthropic-ratelimit-unified-status"], headers["anthropic-ratelimit-unified-representative-claim"], headers["anthropic-ratelimit-unified-5h-utilization"]), ("false", "rejected", "five_hour", "1"))
        true("retry-after", 8900 < int(headers["retry-after"]) <= 9000, headers["retry-after"])
        within("message", "it resets at 20", error.message)
        chat = openai.OpenAI(base_url=house.url + "/v1", api_key=LOCAL_KEY)
        raises(openai.RateLimitError, chat.chat.completions.create, model=MODEL, messages=[user(limited("five_hour", 9000))])
        equal("requests", len(house.asked()), 2)
        health = raises(urllib.error.HTTPError, house.api, "GET", "/health/ready")
        within("health", "the plan's limit is reached", health.read().decode())
    with House(login=True) as house:
        error = raises(anthropic.RateLimitError, house.say, limited("seven_day_opus", 9000), model="claude-opus-5-5")
        within("message", "the plan's limit for opus models (`seven_day_opus`) is reached", error.message)
        equal("other models are served", text_of(house.say("SAY:x")), "x")
        equal("and it is ready", house.api("GET", "/health/ready")["status"], "ok")
        limits = house.api("GET", "/auth/status")["limits"]
        equal("told by type", [(limit["status"], limit["rateLimitType"]) for limit in limits if limit["rateLimitType"] == "seven_day_opus"], [("rejected", "seven_day_opus")])


@check("errors are in the API's words, and who watches a silent stream is told that it is not forgotten")
def _():
    with House() as house:
        table = [("ERR:404:not_found_error:model: claude-x", 404, "model: claude-nope-5"), ("ERR:400:invalid_request_error:prompt is too long: 210000 tokens > 200000 maximum", 400, "prompt is too long"),
                 ("ERR:413:request_too_large:x", 413, "request exceeds the maximum size"), ("ERR:529:overloaded_error:Overloaded", 529, "Overloaded"), ("ERR:400:invalid_request_error:odd thing", 400, "odd thing")]
        for script, status, words in table:
            error = raises_some(anthropic.APIStatusError, lambda: house.say(script, model="claude-nope-5"))
            equal(f"{script}", (error.status_code, error.body["error"]["message"]), (status, words))
        error = raises_some(anthropic.APIStatusError, lambda: house.say("ERR:429:rate_limit_error:slow down ;; RETRY:7"))
        equal("message", error.body["error"]["message"], "slow down")
        within("note", "retry-after a usual wait", error.response.headers["seaway-note"])
        for surface in ("messages", "chat"):
            arrivals = []
            began = time.time()
            path, body = ("/v1/messages", {"max_tokens": 50}) if surface == "messages" else ("/v1/chat/completions", {})
            request = urllib.request.Request(house.url + path, json.dumps({"model": MODEL, "stream": True, "messages": [user("SAY:late ;; SLOW:20")], **body}).encode(), {"x-api-key": LOCAL_KEY, "content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                whole = b""
                while piece := answer.read1(65536):
                    arrivals.append(time.time() - began)
                    whole += piece
            true(f"a sign of life of {surface}", arrivals[0] < 18 and b"late" in whole, (arrivals, whole))
        with house.client.messages.stream(model=MODEL, max_tokens=50, messages=[user("SAY:x ;; SLOW:13")]) as stream:
            equal("text", text_of(stream.get_final_message()), "x")

        def late_error():
            with house.client.messages.stream(model=MODEL, max_tokens=50, messages=[user("ERR:529:overloaded_error:Over ;; SLOW:13")]) as stream:
                stream.get_final_message()

        error = raises_some(anthropic.APIStatusError, late_error)
        within("a late error", "Over", str(error))


@check("who signs in from afar is shown an address that works from there")
def _():
    with House(bearer=None) as house:
        begun = house.api("POST", "/auth/login")
        within("address", "code_challenge=", begun["url"])
        within("address", "redirect_uri=https", begun["url"])


@check("an installation that is exchanged is seen, and one that is too old says what to do")
def _():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="seaway-programs-"))
    try:
        for name, version in (("new", None), ("old", "2.1.100 (Claude Code)")):
            (folder / name).write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "{version}"; exit; }}\nexec false\n' if version else f'#!/bin/sh\nexec "{CLAUDE}" "$@"\n')
            (folder / name).chmod(0o755)
            os.utime(folder / name, (499_162_500, 499_162_500))     # as npm has it
        (folder / "claude").symlink_to(folder / "new")
        with House(program=folder / "claude") as house:
            equal("text", text_of(house.say("SAY:x")), "x")
            (folder / "claude").unlink()
            (folder / "claude").symlink_to(folder / "old")
            error = raises_some(anthropic.APIStatusError, lambda: house.say("SAY:a conversation of its own", system="another"))
            within("message", "2.1.100", str(error))
            within("remedy", "npm install", str(error))
    finally:
        shutil.rmtree(folder)


# ---------------------------------------------------------------- the prompt cache of a plan
LONG = "y" * 3000


def growing(house, last, turns=5, **options):
    """Turns of a conversation, the last of which is another kind; returns what was read and written anew in the turn behind."""
    messages = []
    for index in range(turns - 1):
        messages.append(user(f"SAY:answer {index}\n{LONG}"))
        message = house.say(None, messages=messages, **options)
        messages.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]})
    return last(messages)


def read_share(usage):
    return usage.cache_read_input_tokens / (usage.cache_read_input_tokens + usage.cache_creation_input_tokens + usage.input_tokens)


def follow_up(house, messages, script, **options):
    """A turn that ends in a way, and the one behind it."""
    messages = [*messages, user(f"{script}\n{LONG}")]
    message = house.say(None, messages=messages, **options)
    content = [block.model_dump(exclude_none=True) for block in message.content] or [{"type": "text", "text": "-"}]
    return house.say(None, messages=[*messages, {"role": "assistant", "content": content}, user("SAY:behind")], **options).usage


def with_result(house, messages, result, beside=()):
    messages = [*messages, user(tool("get_weather", city="Oslo") + f"\n{LONG}")]
    message = house.say(None, messages=messages, tools=[WEATHER])
    call = next(block for block in message.content if block.type == "tool_use")
    messages += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]}, user([{"type": "tool_result", "tool_use_id": call.id, "content": result}, *beside])]
    return house.say(None, messages=messages, tools=[WEATHER]).usage


CACHED = {
    "an answer that ends at max_tokens": lambda house: growing(house, lambda messages: follow_up(house, messages, "SAY:cut ;; STOP:max_tokens")),
    "a refusal": lambda house: growing(house, lambda messages: follow_up(house, messages, "SAY:no ;; STOP:refusal")),
    "a result over 40,000 characters": lambda house: growing(house, lambda messages: with_result(house, messages, "SAY:x " + "z" * 41_000), tools=[WEATHER]),
    "a picture as a result": lambda house: growing(house, lambda messages: with_result(house, messages, [{"type": "text", "text": "SAY:x"}, IMAGE]), tools=[WEATHER]),
    "text beside a result": lambda house: growing(house, lambda messages: with_result(house, messages, "quiet", [{"type": "text", "text": "SAY:x"}]), tools=[WEATHER]),
    "the first swipe of a chat of six turns": lambda house: growing(house, lambda messages: [house.say(None, messages=[*messages, user(f"SAY:one\n{LONG}")]), house.say(None, messages=[*messages, user(f"SAY:one\n{LONG}")])][1].usage, turns=6),
    "a branch": lambda house: growing(house, lambda messages: house.say(None, messages=[*messages[:6], user("SAY:another way")]).usage),
}
COLD = {"after the process was parked out": ("--set", "claude_code.sessions=0"), "after a sixth conversation": ("--set", "claude_code.sessions=1")}


def sixth(house):
    def behind(messages):
        house.say(None, messages=[user("SAY:other")], system="another conversation")
        return house.say(None, messages=[*messages, user("SAY:on")]).usage
    return growing(house, behind)


def key_share(ask):
    """What an API key reads of the same: the program adds nothing then, so every replay is read as far as it can be."""
    with House("--set", "upstream.cc.api_key=fake-key", bearer=None) as house:
        return read_share(ask(house))


@check("with a login a conversation is read from the prompt cache wherever it goes on, as with an API key")
def _():
    for name, ask in CACHED.items():
        with House(login=True) as house:
            usage = ask(house)
        own, key = read_share(usage), key_share(ask)
        true(f"{name}: at least 0.9 of what an API key reads", own >= 0.9 * key, f"{own:.3f} of the prompt, an API key {key:.3f}: {usage}")
    for name, settings in COLD.items():
        with House(*settings, login=True) as house:
            usage = sixth(house)
        true(f"{name}: it is read", read_share(usage) > 0.9, usage)


# ---------------------------------------------------------------- the program in front of a plan
@check("Claude Code itself, with its own tools, in front of a plan: chat, a tool loop and a sub-agent")
def _():
    with House(login=True) as house:
        home = pathlib.Path(tempfile.mkdtemp(prefix="seaway-claude-"))
        try:
            work = home / "work"
            work.mkdir()
            (work / "note.txt").write_text("SAY:the note says 4711")
            environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home), "CLAUDE_CONFIG_DIR": str(home / "config"), "ANTHROPIC_BASE_URL": house.url, "ANTHROPIC_API_KEY": LOCAL_KEY,
                           "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}

            def claude(prompt, *words):
                process = subprocess.run([CLAUDE, "-p", prompt, "--model", MODEL, "--output-format", "json", *words], cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
                return json.loads(process.stdout.splitlines()[-1])

            result = claude("SAY:hello")
            equal("chat", (result["is_error"], result["result"]), (False, "hello"))
            result = claude(tool("Read", file_path=str(work / "note.txt")), "--allowedTools", "Read")
            true("a tool loop", not result["is_error"] and "4711" in result["result"], result)
            result = claude(tool("Agent", description="d", prompt="SAY:from the sub-agent", subagent_type="general-purpose"), "--allowedTools", "Agent")
            true("a sub-agent", not result["is_error"] and "from the sub-agent" in json.dumps([body["messages"] for body in house.bodies()]), result)
            began = time.time()
            result = claude(limited("five_hour", 9000))
            true("a plan's limit is told at once", result["is_error"] and time.time() - began < 20, (result, time.time() - began))
        finally:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    if not MOCK.exists():
        print(f"skipped: there is no {MOCK}")
        print("0 passed, 0 failed")
        sys.exit(0)
    support.run_checks(workers=2)
