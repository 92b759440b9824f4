"""Walks the typed parameters of the newest `anthropic` and `openai` SDKs and sends each: none may be lost without a trace.

Every member at every depth, every alternative of a union and every value of an enumeration is a case: a small request that
holds just that. Of Messages the upstream has to get the very bytes. A case of Chat or Responses passes if it is refused by
name, named in `seaway-note`, or changes what the upstream gets; `NOTHING`, `HISTORY` and `ANSWERED` list what needs none of
that. For newer SDKs change the versions below. Arguments choose by part of a path, such as `chat` or `input.function_call`.
"""
import sys

sys.dont_write_bytecode = True
import support

support.in_venv("anthropic==2.14.0", "openai==3.57.0")

import base64, collections, collections.abc, functools, http.client, http.server, json, pydantic, re, types, typing
from anthropic.types import message_create_params as messages_types
from anthropic.types.beta import message_create_params as beta_types
from openai.types.chat import completion_create_params as chat_types
from openai.types.responses import response_create_params as responses_types, response_input_item_param as item_types
from support import LOCAL_KEY, Seaway, Upstream
from typing_extensions import Literal, Required, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

MODEL, OTHER_MODEL = "claude-opus-4-6", "claude-sonnet-4-6"  # newer ones take less, such as no `temperature`
LISTS, UNIONS = (list, collections.abc.Iterable, collections.abc.Sequence), (Union, types.UnionType)

# Values that say what holds without them: the vendor's defaults, kinds that may be left out, and what Claude does anyway
# (it keeps strictly to a format; nothing is obfuscated).
NOTHING = {"chat": {
    "function_call": ["auto"], "logprobs": [False], "messages.content.image_url.detail": ["auto"], "modalities": ["text"], "parallel_tool_calls": [True],
    "response_format.json_schema.strict": [True, False], "response_format.type": ["text"], "service_tier": ["auto"], "store": [False], "stream": [False],
    "stream_options.include_obfuscation": [False], "stream_options.include_usage": [False], "tools.function.strict": [False], "verbosity": ["medium"],
    "tools.custom.format.type": ["text"], "web_search_options.search_context_size": ["medium"]}, "responses": {
    "background": [False], "input.content.detail": ["auto"], "input.output.detail": ["auto"], "input.type": ["message", "item_reference", "configuration_update"],
    "input.caller.type": ["direct"], "input.execution": ["client"], "input.tools.defer_loading": [True, False], "input.tools.tools.defer_loading": [True, False],
    "input.tools.external_web_access": [True], "input.tools.search_context_size": ["medium"], "input.tools.user_location.type": ["approximate"],
    "input.tools.format.type": ["text"], "input.tools.tools.format.type": ["text"], "input.tools.tools.strict": [False], "parallel_tool_calls": [True],
    "service_tier": ["auto"], "stream": [False], "stream_options.include_obfuscation": [False], "text.format.strict": [True, False], "text.format.type": ["text"],
    "text.verbosity": ["medium"], "tools.external_web_access": [True], "tools.format.type": ["text"], "tools.search_context_size": ["medium"],
    "reasoning.context": ["auto"], "reasoning.mode": ["standard"], "tools.defer_loading": [False], "tools.tools.defer_loading": [False],
    "tools.tools.format.type": ["text"], "tools.tools.strict": [False], "tools.user_location.type": ["approximate"], "truncation": ["disabled"]}}
# What only the API that made an item has a use for, whatever it says: its own id (not a call's), and how far the item got.
HISTORY = {"chat": set(), "responses": {"input.id", "input.status"}}
# What is about the answer, which has to repeat it, or to differ.
ANSWERED = {"chat": {"stream_options.include_usage"}, "responses": {"include", "metadata", "prompt_cache_key", "store"}}


# ---------------------------------------------------------------- types and values
def is_record(hint):
    """True for a dictionary's type, and for a part of an answer that may be sent back."""
    return is_typeddict(hint) or isinstance(hint, type) and issubclass(hint, pydantic.BaseModel)


@functools.cache
def members(record):
    """The members of a record: name to type and whether it is required."""
    if not is_typeddict(record):
        fields = {field.alias or name: field for name, field in record.model_fields.items()}
        record = TypedDict(record.__name__, {name: Required[field.annotation] if field.is_required() else field.annotation for name, field in fields.items()})
    told = get_type_hints(record, include_extras=True)  # `__required_keys__` does not see through annotations that are text
    return {name: (hint, get_origin(told[name]) is Required) for name, hint in get_type_hints(record).items()}


def alternatives(hint):
    """The parts of a union, without files and bytes: the SDK makes text of them."""
    return [part for part in get_args(hint) if getattr(get_origin(part) or part, "__name__", "") not in ("IO", "bytes", "PathLike")]


def kind(record):
    """What tells a record from others in its place: its `type`, else its `role`, else the name of its class."""
    hints = [members(record).get(name, (None,))[0] for name in ("type", "role")]
    tags = [get_args(part) for hint in hints for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
    return next((tag[0] for tag in tags if len(tag) <= 2), record.__name__)


pdf = lambda word: base64.b64encode(f"%PDF-1.4\n%{word}\n%%EOF".encode()).decode()
FILE, IMAGE = {"filename": "some.pdf", "file_data": "data:application/pdf;base64," + pdf("some")}, {"image_url": "https://files.example/some.png"}
# Members that the types do not require, without which a part says nothing.
NEEDS = {
    "ChatCompletionAssistantMessageParam": {"content": "some answer"}, "JSONSchema": {"schema": {"type": "object", "properties": {}, "additionalProperties": False}},
    "FileFile": FILE, "ResponseInputFileParam": FILE, "ResponseInputFileContentParam": FILE, "ResponseInputImageParam": IMAGE, "ResponseInputImageContentParam": IMAGE,
    "FunctionCallOutput": {"call_id": "some_call_id"}, "ContextManagement": {"type": "compaction"}}
SOURCES = {"image_url", "file_id", "file_url", "file_data"}  # of a file; two of them would contradict each other


def fill(hint, keys):
    """The least that a type takes. `keys` are the members on the way to it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in UNIONS:
        return fill(next(part for part in alternatives(hint) if part is not type(None)), keys)
    if origin is Literal:
        return arguments[0]
    if origin in LISTS:
        return [fill(arguments[0], keys)]
    if is_record(hint):
        required = {name: fill(inner, (*keys, name)) for name, (inner, required) in members(hint).items() if required}
        return {**required, **NEEDS.get(hint.__name__, {})}
    return sample(hint, keys, "some")


def sample(hint, keys, word):
    """A value where any value may be; the words "some" and "probe" give different ones."""
    name, probed = keys[-1], word == "probe"
    chosen = {"name": "other" if probed else "lookup"}
    if hint in (bool, int, float):
        return {bool: (False, True), int: (3, 7), float: (0.25, 0.5)}[hint][probed]
    if hint is not str and keys[0] == "tool_choice":
        return {"type": "function", **({"function": chosen} if "allowed_tools" in keys else chosen)}
    if hint is not str:
        schema = {"type": "object", "properties": {word: {"type": "string"}}, "required": [word], "additionalProperties": False}
        return schema if name.endswith(("schema", "parameters")) else {word: word}
    if name == "name" and keys[0] in ("tool_choice", "function_call"):
        return chosen["name"]
    if name.endswith("url"):
        return f"https://files.example/{word}.png"
    special = {"model": OTHER_MODEL if probed else MODEL, "filename": f"{word}.pdf", "file_data": f"data:application/pdf;base64,{pdf(word)}", "data": pdf(word),
               "arguments": json.dumps({word: word})}
    return special.get(name) or (f"{word}_{name}" if name.endswith(("id", "name", "namespace")) else f"{word} {name}")


# ---------------------------------------------------------------- cases
class Place(typing.NamedTuple):
    """Somewhere in a request."""
    put: typing.Callable        # makes the request with a value here
    without: dict               # the request without the nearest thing around it that may be left out
    keys: tuple                 # the members on the way
    words: tuple                # the same, with the alternatives of unions
    required: bool
    seen: frozenset = frozenset()  # the records on the way


# `others`: requests from one of which it has to differ. `status`: 0 if the connection was dropped. `body`, `headers`: what the upstream got.
Case = collections.namedtuple("Case", "place value request others")
Reply = collections.namedtuple("Reply", "status note answer body headers")


class Surface(typing.NamedTuple):
    """One of the APIs."""
    name: str
    path: str
    parameters: tuple           # the types of whole requests
    base: dict                  # a request that cases are put into
    turns: typing.Callable = lambda value: [value]  # makes a conversation around one turn
    beside: dict = {}           # what has to stand beside some members; null for what must not

    def cases(self):
        whole, streamed = map(members, self.parameters)
        for name in whole:
            hint, required = Union[whole[name][0], streamed[name][0]], whole[name][1] and streamed[name][1]
            base = {key: value for key, value in {**self.base, **self.beside.get(name, {})}.items() if value is not None}
            without = base if name in ("messages", "input", "tools", "model") else {key: value for key, value in base.items() if key != name}
            yield from self.walk(hint, Place(lambda value, base=base, name=name: {**base, name: value}, without, (name,), (name,), required))

    def walk(self, hint, place):
        """Yields a case for everything that may be here."""
        origin, arguments = get_origin(hint), get_args(hint)
        case = lambda value, *others: Case(place, value, place.put(value), others or [place.without])
        if origin in UNIONS:
            kinds = collections.Counter(kind(part) for part in alternatives(hint) if is_record(part))
            for part in alternatives(hint):
                told = (kind(part),) if is_record(part) and len(kinds) > 1 else ()
                told += (part.__name__,) if told and kinds[told[0]] > 1 else ()
                yield from self.walk(part, place._replace(words=place.words + told))
        elif origin is Literal or hint is bool:
            values = (True, False) if hint is bool else arguments
            differ = place.required and place.keys[-1] != "type"  # a kind may have two names that say the same
            for value in values:
                yield case(value, *(place.put(other) for other in values if differ and other is not value))
        elif origin in LISTS:
            around = {("messages",): self.turns, ("input",): self.turns, ("tools",): lambda value: [*self.base.get("tools", []), value]}
            listed = around.get(place.keys, lambda value: [value])
            yield from self.walk(arguments[0], place._replace(put=lambda value: place.put(listed(value))))
        elif origin is dict and arguments[1] is not object:
            yield from self.walk(arguments[1], place._replace(put=lambda value: place.put({"key": value})))
        elif is_record(hint) and hint not in place.seen and members(hint):
            yield from self.walk_record(hint, place)
        elif is_record(hint) or hint is type(None):  # a record within itself is not walked again
            yield case(fill(hint, place.keys) if is_record(hint) else None)
        else:
            others = [place.put(sample(hint, place.keys, "some"))] if place.required else []
            yield case(sample(hint, place.keys, "probe"), *others)

    def walk_record(self, record, place):
        base = fill(record, place.keys)
        for name, (hint, required) in members(record).items():
            rest = {key: value for key, value in base.items() if key == name or not (key in SOURCES and name in SOURCES)}
            needed = required or name in base
            put = lambda value, name=name, rest=rest: place.put({**(base if value is None else rest), name: value})
            without = place.without if needed else place.put(base)
            yield from self.walk(hint, Place(put, without, (*place.keys, name), (*place.words, name), needed, place.seen | {record}))


# ---------------------------------------------------------------- the APIs
HELLO, GO_ON = {"role": "user", "content": "hello"}, {"role": "user", "content": "go on"}
FUNCTIONS = [{"name": name, "description": name, "parameters": {"type": "object", "properties": {}}} for name in ("lookup", "other")]
TOOLS, FLAT_TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS], [{"type": "function", **function} for function in FUNCTIONS]
SPACE = {"type": "namespace", "name": "probe_namespace", "description": "some", "tools": FLAT_TOOLS}


def chat_turns(value):
    """A conversation around a message, with what calls and results demand of each other."""
    before, after = [], [{"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in value.get("tool_calls") or []]
    if value.get("function_call"):
        after = [{"role": "function", "name": value["function_call"]["name"], "content": "done"}]
    if value["role"] == "tool":
        before = [{"role": "assistant", "tool_calls": [{"id": value["tool_call_id"], "type": "function", "function": {"name": "lookup", "arguments": "{}"}}]}]
    if value["role"] == "function":
        before = [{"role": "assistant", "function_call": {"name": value["name"], "arguments": "{}"}}]
    return [HELLO, *before, value, *after, GO_ON]


# The kinds of calls and of their outputs, and the members that tie them together.
PAIRS = [(call, call + "_output", "call_id", "call_id") for call in ("function_call", "custom_tool_call", "computer_call", "shell_call", "apply_patch_call", "program")]
PAIRS += [("local_shell_call", "local_shell_call_output", "call_id", "id"), ("tool_search_call", "tool_search_output", "call_id", "call_id"),
          ("mcp_approval_request", "mcp_approval_response", "id", "approval_request_id")]
ITEMS = {kind(item): item for item in get_args(item_types.ResponseInputItemParam)}


def responses_turns(value):
    before, after = [], []
    for call, output, tie, tied in PAIRS:
        if value.get("type") == call and value.get(tie):
            after = [{**fill(ITEMS[output], ("input",)), tied: value[tie]}]
        if value.get("type") == output and value.get(tied):
            before = [{**fill(ITEMS[call], ("input",)), tie: value[tied]}]
    return [HELLO, *before, value, *after, GO_ON]


ASK = {"model": MODEL, "max_tokens": 9, "messages": [HELLO]}
SURFACES = [
    Surface("messages", "/v1/messages", get_args(messages_types.MessageCreateParams), ASK),
    Surface("messages-beta", "/v1/messages?beta=true", get_args(beta_types.MessageCreateParams), ASK),
    Surface("chat", "/v1/chat/completions", get_args(chat_types.CompletionCreateParams), {"model": MODEL, "messages": [HELLO, GO_ON], "tools": TOOLS}, chat_turns,
            {"functions": {"tools": None}, "function_call": {"tools": None, "functions": FUNCTIONS}, "stream_options": {"stream": True}}),
    Surface("responses", "/v1/responses", get_args(responses_types.ResponseCreateParams), {"model": MODEL, "input": [HELLO, GO_ON], "tools": FLAT_TOOLS}, responses_turns,
            {"input": {"tools": [*FLAT_TOOLS, SPACE]}, "tool_choice": {"tools": [*FLAT_TOOLS, {"type": "web_search"}]}, "stream_options": {"stream": True}}),
]
HEADERS = {"betas": "anthropic-beta", "user_profile_id": "anthropic-user-profile-id", "workspace_id": "anthropic-workspace-id"}  # as the SDK sends them


# ---------------------------------------------------------------- sending
# Head and body of the upstream's answers are sent apart; the second must not wait until the first was acknowledged.
http.server.BaseHTTPRequestHandler.disable_nagle_algorithm = True
support.WHOLE["content"].insert(0, {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"})  # so that `include` can show


def sender(url, upstream):
    """What sends requests one after the other on one connection, each once."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)

    @functools.cache
    def send(path, request):
        upstream.requests.clear()
        headers, body = split(json.loads(request))
        try:
            connection.request("POST", path, body, {"authorization": f"Bearer {LOCAL_KEY}", "content-type": "application/json", **headers})
            response = connection.getresponse()
            status, note, answer = response.status, response.headers.get("seaway-note") or "", response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Reply(0, "", f"{type(error).__name__}: {error}", None, {})
        got = next((one for one in upstream.requests if one["method"] == "POST"), {"body": None, "headers": []})
        return Reply(status, note, answer, got["body"], {name.lower(): value for name, value in got["headers"]})

    return lambda path, request: send(path, json.dumps(request))


def split(request):
    """What the SDK sends as headers, and the body."""
    headers = {HEADERS[name]: ",".join(value) if isinstance(value, list) else value for name, value in request.items() if name in HEADERS}
    return headers, json.dumps({name: value for name, value in request.items() if name not in HEADERS}, separators=(",", ":")).encode()


# ---------------------------------------------------------------- judging
def problem(surface, case, send):
    """What is wrong with how a case went, if anything."""
    reply = send(surface.path, case.request)
    if reply.status == 0 or reply.status >= 500:
        return f"{reply.status or 'dropped'}: {reply.answer}"
    if surface.name.startswith("messages"):
        headers, body = split(case.request)
        arrived = {name: reply.headers.get(name) for name in headers}
        return None if (reply.status, reply.body, arrived) == (200, body, headers) else f"{reply.status}; the upstream got {reply.body} and {arrived}"
    if reply.status != 200:
        error = json.loads(reply.answer)["error"]
        named = reply.status in (400, 404) and is_named(case, error.get("param") or error["message"].split(":")[0])
        return None if named else f"{reply.status} that names nothing of it: {reply.answer}"
    if reply.body is None:
        return "200, and nothing came to the upstream"
    others = [send(surface.path, other) for other in case.others]
    carried = any(reply.body != other.body for other in others)
    if case.value is None:
        return "null is not the same as nothing" if carried and not case.place.required else None
    name = ".".join(case.place.keys)
    silent = name in HISTORY[surface.name] or case.value in NOTHING[surface.name].get(name, [])
    if carried or silent or is_noted(case, reply.note) or {name, case.place.keys[0]} & ANSWERED[surface.name] and is_answered(case, reply, others):
        return None
    return f"200 without a trace; seaway-note: {reply.note or 'none'}"


def is_named(case, param):
    """True if an error is about the member, what it is in, or what is in it; about a list as a whole it says nothing of an element."""
    keys = case.place.keys
    words = re.sub(r"\[\d+\]", "", param).split(".")
    words = words[:-1] if words[-1] in ("type", "role") and len(words) > 1 else words
    at = re.match(r"(?:messages|input)\[(\d+)\]", param)
    if param in ("messages", "input", "tools") and len(keys) > 1 or at and not 0 < int(at[1]) < len(case.request[keys[0]]) - 1:
        return False
    return keys[:len(words)] == tuple(words) or tuple(words[:len(keys)]) == keys


def is_noted(case, note):
    """True if a note names the member, or says that what it is in was left out."""
    keys = case.place.keys
    for name, what in re.findall(r"(?:^|, )(\S+) ([^,]+)", note):
        words, way = re.sub(r"\[\d+\]", "", name).split("."), iter(case.place.words)
        around = what.startswith(("ignored", "left out")) and all(word in way for word in words)
        if words[0] == keys[0] and (words[-1] == keys[-1] or around or name in (".".join([*keys, str(case.value)]), ".".join([*keys[:-1], re.sub(r"\W", "", str(case.value))]))):
            return True
    return False


def is_answered(case, reply, others):
    """True if the answer repeats a member, or differs for it."""
    name, *inside = case.place.keys
    steady = lambda answer: re.sub(r'"(\w*id|\w*_at|created)":("[^"]*"|\d+)', "", answer)  # without what always differs
    repeated = not inside and reply.answer.startswith("{") and json.loads(reply.answer).get(name) == case.request[name]
    return repeated or any(steady(reply.answer) != steady(other.answer) for other in others)


def main():
    passed, failures = 0, {}
    with Upstream() as upstream, Seaway("--set", "upstream.m.web_search=web_search_20250305", upstream=upstream.url) as gateway:
        send = sender(gateway.url, upstream)
        kept = send("/v1/responses", {"model": MODEL, "input": "keep this", "store": True})
        NEEDS["ItemReference"] = {"id": json.loads(kept.answer)["output"][0]["id"]}  # any other would be unknown
        for surface in SURFACES:
            before = passed
            for case in surface.cases():
                path = f"{surface.name} {'.'.join(case.place.words)}"
                if len(sys.argv) > 1 and not any(word in path for word in sys.argv[1:]):
                    continue
                if came := problem(surface, case, send):
                    failures.setdefault(path, []).append((json.dumps(case.value), came))
                else:
                    passed += 1
            if passed > before:
                print(f"ok    {surface.name}: {passed - before} cases", flush=True)
    for path, cases in failures.items():
        print(f"FAIL  {path} = {support.short(', '.join(value for value, _ in cases), 200)}\n      {support.short(cases[0][1])}")
    support.finish(passed, sum(map(len, failures.values())))


if __name__ == "__main__":
    main()
