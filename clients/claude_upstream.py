"""End-to-end checks of the Claude Code upstream: real SDKs, Seaway, the official program, and a scripted API behind it.

The program runs with a closed environment and folders of its own, a fake token, and loopback addresses only.
"""
import sys

sys.dont_write_bytecode = True
import base64, json, os, pathlib, shutil, signal, tempfile, threading, time, urllib.error, urllib.request
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


class House:
    """A scripted API, and Seaway in front of the program in front of it. Nothing is left of them afterwards."""

    def __init__(self, *args, bearer="fake-token", home=None):
        self.args = args
        self.home = home
        self.killed = False
        self.bearer = bearer

    def __enter__(self):
        self.mock = Mock().__enter__()
        settings = {"upstream.cc.kind": "claude-code", "upstream.cc.base_url": self.mock.url, "claude_code.path": CLAUDE}
        if self.bearer:
            settings["upstream.cc.bearer"] = self.bearer
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.gateway = Seaway(*words, *self.args, upstream=False, home=self.home)
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

    def bodies(self):
        return [entry["body"] for entry in self.asked()]

    def api(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body is not None else None, {"x-api-key": LOCAL_KEY, "content-type": "application/json"}, method=method)
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
        heard = [body["messages"][0]["content"][0]["text"] for body in house.bodies()]
        equal("texts", heard, ["SAY:ok\n@/etc/passwd", "@/etc/passwd", "/clear", "/context", "--version", "!ls"])
        true("no file was read", "root:" not in json.dumps(house.bodies()), "root:")


@check("a prompt of a mebibyte arrives whole, and is on no command line")
def _():
    text = "SAY:got it\n" + "x" * (1 << 20)
    with House() as house:
        equal("text", text_of(house.say(text)), "got it")
        equal("prompt", house.bodies()[0]["messages"][0]["content"][0]["text"], text)
        lines = [pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in house.children()]
        true("no prompt on a command line", lines and not any(b"got it" in line for line in lines), lines)
        true("no key of ours in its environment", not any(LOCAL_KEY.encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes() for pid in house.children()), "a local key")


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
        order = [int(entry["body"]["messages"][0]["content"][0]["text"][4]) for entry in sorted(log, key=lambda entry: entry["t"])]
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
                        for pid in house.children():
                            os.kill(pid, signal.SIGKILL)

        error = raises_some(anthropic.APIError, stream)
        within("message", "Claude Code ended without an answer", str(error))
        equal("text", text_of(house.say("SAY:alive")), "alive")


@check("nothing is started before somebody asks, but what was asked for")
def _():
    with House() as house:
        time.sleep(0.3)
        equal("processes", house.children(), [])
    with House("--set", "claude_code.prewarm=1", "--set", f"model.default={MODEL}") as house:
        eventually("one process waits", lambda: len(house.children()) == 1)
        waiting = house.children()
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
            session = dict(house.asked()[0]["headers"])["X-Claude-Code-Session-Id"]
        with House(*keys, home=folder) as house:
            listed = house.api("GET", "/v1/sessions")["sessions"]
            equal("known, not warm", [(one["id"], one["kind"], one["warm"], one["turns"]) for one in listed], [("mine", "messages", False, 1)])
            equal("text", text_of(turn(house, "SAY:second", "mine", history)), "second")
            equal("session of the program", dict(house.asked()[0]["headers"])["X-Claude-Code-Session-Id"], session)
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
        equal("order", [entry["body"]["messages"][0]["content"][0]["text"][4] for entry in sorted(house.asked(), key=lambda entry: entry["t"])], ["0", "1", "2"])


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
    with House("--set", "claude_code.tools=Bash", "--set", "claude_code.permission=ask") as house:
        for allow in (True, False):
            events = []

            def seen(name, data):
                events.append((name, data))
                if name == "start":
                    seen.run = data["id"]
                if name == "permission":
                    house.api("POST", f"/v1/run/{seen.run}/permissions/{data['id']}", {"allow": allow})

            watch(house, {"prompt": 'TOOL:Bash{"command":"echo made > asked","description":"d"}', "allowedTools": []}, seen)
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
            task = house.api("GET", "/v1/tasks/" + left["id"])
            equal("after a restart", (task["status"], task["error"]["type"]), ("failed", "server_restart"))
            equal("deleted", house.api("DELETE", "/v1/tasks/" + left["id"])["status"], "deleted")
            equal("gone", raises(urllib.error.HTTPError, house.api, "GET", "/v1/tasks/" + left["id"]).code, 404)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if not MOCK.exists():
        print(f"skipped: there is no {MOCK}")
        print("0 passed, 0 failed")
        sys.exit(0)
    support.run_checks(workers=2)
