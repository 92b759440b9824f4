"""End-to-end checks with the real Claude Code program against Seaway: the nine of ../shared/CLAUDE_CODE.md 1.11, and turns on the sandbox.

It runs with a closed environment, folders of its own, a fake key and loopback addresses only.
"""
import sys

sys.dont_write_bytecode = True
import json, os, pathlib, re, shutil, signal, subprocess, tempfile, threading, time, urllib.parse, urllib.request, uuid
import support
import terminal
from support import LOCAL_KEY, MOCK, REPO, UPSTREAM_KEY, Mock, Seaway, asked_by, check, equal, key_with_budget, true, within

MODEL = "claude-opus-5-5"
DIRECT_KEY = "sk-fake-key-of-the-direct-run"
LIMIT = 100
CLAUDE = support.claude_program()


class Claude:
    """A home for one or more runs of the program; gone at the end of `with`."""

    def __init__(self, url, **environment):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="seaway-claude-"))
        self.work = self.home / "work"
        self.work.mkdir()
        (self.home / "tmp").mkdir()
        self.environment = {
            "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.home), "TMPDIR": str(self.home / "tmp"), "CLAUDE_CONFIG_DIR": str(self.home / "config"),
            "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": LOCAL_KEY, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", **environment}
        self.environment = {key: value for key, value in self.environment.items() if value is not None}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self, prompt, *args, lines=False):
        form = ["stream-json", "--verbose", "--include-partial-messages"] if lines else ["json"]
        command = [CLAUDE, "-p", prompt, "--model", MODEL, "--output-format", *form, *args]
        return subprocess.Popen(command, cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, prompt, *args, lines=False):
        """Returns the result object; with `lines`, every line of output."""
        process = self.start(prompt, *args, lines=lines)
        try:
            out, errors = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            end(process)
            raise AssertionError(f"expected an answer to {prompt!r} within {LIMIT} s, came none")
        try:
            found = [json.loads(line) for line in out.splitlines()]
            return found if lines else found[-1]
        except (ValueError, IndexError):
            raise AssertionError(f"expected JSON from claude, came {support.short(out)} and {support.short(errors)}") from None


def end(process):
    """Ends the program and what it started: it leads a session of its own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def turn(url, prompt, *args, environment={}, **options):
    with Claude(url, **environment) as claude:
        return claude.run(prompt, *args, **options)


def both(prompt, *args, settings=(), **options):
    """The same turn straight to a mock and through Seaway to another: (result, log) of each."""
    with Mock() as mock:
        direct = turn(mock.url, prompt, *args, **options), mock.log("/v1/messages")
    with Mock() as mock, Seaway(*settings, upstream=mock.url) as gateway:
        return direct, (turn(gateway.url, prompt, *args, **options), mock.log("/v1/messages"))


def outcome(result):
    """What a user sees of a result."""
    return {key: result.get(key) for key in ("is_error", "subtype", "api_error_status", "result", "stop_reason", "terminal_reason", "num_turns")}


def shape(log):
    """What the program asked, request by request: a change of its mind shows."""
    betas = [set((header(entry, "anthropic-beta") or "").split(",")) for entry in log]
    given_up = [sorted(betas[0] - one) for one in betas]
    bodies = [entry["body"] for entry in log]
    return [("stream" if body["stream"] else "whole", len(body["messages"]), body["max_tokens"], less) for body, less in zip(bodies, given_up)]


def header(entry, name):
    return next((value for key, value in entry["headers"] if key.lower() == name), None)


def same_outcome(prompt, *args, requests_too=True, **options):
    direct, through = both(prompt, *args, **options)
    clean = lambda result: json.loads(re.sub(r"req_[\w-]+|127\.0\.0\.1:\d+", "ID", json.dumps(outcome(result))))
    equal(f"outcome of {prompt!r}", clean(through[0]), clean(direct[0]))
    if requests_too:
        equal(f"requests for {prompt!r}", shape(through[1]), shape(direct[1]))
    return direct, through


def good(result, text):
    equal("result", (result.get("is_error"), result.get("result")), (False, text))


# ---------------------------------------------------------------- on the sandbox
@check("a plain turn on the sandbox")
def _():
    with Seaway() as gateway:
        good(turn(gateway.url, "[[say hello from the sandbox]]"), "hello from the sandbox")


@check("a turn on the sandbox with thinking streams text in pieces")
def _():
    with Seaway() as gateway:
        lines = turn(gateway.url, "[[think hm]] [[say hello from the sandbox]]", lines=True)
    deltas = [line["event"]["delta"]["text"] for line in lines if line["type"] == "stream_event" and line["event"].get("delta", {}).get("type") == "text_delta"]
    equal("pieces", deltas, ["hello from t", "he sandbox"])
    good(lines[-1], "hello from the sandbox")


@check("a tool turn on the sandbox reads a file and uses it")
def _():
    with Seaway() as gateway, Claude(gateway.url) as claude:
        path = claude.work / "note.txt"
        path.write_text("the file says 4711\n")
        result = claude.run(f'[[tool Read {{"file_path":"{path}"}}]]', "--allowedTools", "Read")
    equal("turns", (result["is_error"], result["num_turns"]), (False, 2))
    within("result", "4711", result["result"])


@check("two parallel tool calls on the sandbox run and come back")
def _():
    prompt = '[[tool Bash {"command":"echo first-$((20+1))","description":"a"}]] [[tool Bash {"command":"echo second-$((30+2))","description":"b"}]]'
    with Seaway() as gateway:
        result = turn(gateway.url, prompt, "--allowedTools", "Bash")
    within("result", "first-21", result["result"])
    within("result", "second-32", result["result"])


@check("a wrong local key fails at once, with the remedy")
def _():
    with Seaway() as gateway:
        start = time.time()
        result = turn(gateway.url, "x", environment={"ANTHROPIC_API_KEY": "sk-wrong"})
        tries = sum('status=401' in line for line in gateway.lines)
    equal("error and status", (result["is_error"], result["api_error_status"]), (True, 401))
    true("no retries with growing waits (three minutes in all)", time.time() - start < 30, f"{time.time() - start:.0f} s, {tries} requests")


# ---------------------------------------------------------------- budgets
def with_budget(gateway, key, prompt, **environment):
    return turn(gateway.url, prompt, lines=True, environment={"ANTHROPIC_API_KEY": None, "ANTHROPIC_AUTH_TOKEN": key, **environment})


@check("a budget is told by Claude Code itself: a warning from 75 and 95 % on, and the sentence of the 429, asked once")
def _():
    with Seaway() as gateway:
        for name, spent, threshold in [("calm", 10, None), ("early", 82, 0.75), ("late", 96, 0.95)]:
            lines = with_budget(gateway, key_with_budget(gateway, name, spent), "[[say hello]]", CLAUDE_CODE_USE_GATEWAY="1")
            good(lines[-1], "hello")
            events = [line["rate_limit_info"] for line in lines if line["type"] == "rate_limit_event"]
            told = [(event["status"], event.get("surpassedThreshold")) for event in events if event["status"] != "allowed"]
            equal(f"warnings of a budget of which {spent} of 100 dollars are spent", told, [("allowed_warning", threshold)] if threshold else [])
            if threshold:
                equal("utilization", events[0]["utilization"], spent / 100)
        with Claude(gateway.url, ANTHROPIC_BASE_URL=None, ANTHROPIC_API_KEY=None) as claude:
            command = [support.binary(), "--config", "/dev/null", "--state-dir", gateway.folder + "/state", "--listen", gateway.url.removeprefix("http://"), "connect", "claude", "--budget", "--key-file", "-", "--no-ask"]
            done = subprocess.run(command, env=claude.environment, input=key_with_budget(gateway, "set-up", 82), capture_output=True, text=True)
            equal("connect --budget", (done.returncode, "context_management" in done.stderr), (0, True))
            lines = claude.run("[[say hello]]", lines=True)
            told = [line["rate_limit_info"]["status"] for line in lines if line["type"] == "rate_limit_event"]
            equal("warnings of a program that `connect` set up", told[:1], ["allowed_warning"])
            undo = [word for word in command if word not in ("--budget", "--key-file", "-", "--no-ask")] + ["--undo"]
            subprocess.run(undo, env=claude.environment, check=True, capture_output=True)
            equal("what is left after --undo", (claude.home / "config/settings.json").exists(), False)
        key = key_with_budget(gateway, "over", 100)
        lines = with_budget(gateway, key, "[[say hello]]", CLAUDE_CODE_USE_GATEWAY="1")
        events = [line["rate_limit_info"]["status"] for line in lines if line["type"] == "rate_limit_event"]
        equal("events of a budget that is used up", events, ["rejected"])
        within("its own sentence", "the key `over` has used up its budget of 100 dollars a day; it begins anew at ", lines[-1]["result"])
        plain = with_budget(gateway, key, "[[say hello]]")[-1]
        within("the sentence without the variable", "the key `over` has used up its budget", plain["result"])
        equal("what was asked, each time once", asked_by(gateway, "over", 2), [429, 429])


# ---------------------------------------------------------------- signing in
def posted(url, **fields):
    ask = urllib.request.Request(url, urllib.parse.urlencode(fields).encode(), {"origin": "http://" + urllib.parse.urlsplit(url).netloc})
    with urllib.request.urlopen(ask, timeout=10) as answer:
        return answer.read().decode()


@check("/login: the program signs in at the gateway with a code and a key, takes its settings, is answered, shows dollars, and signs out")
def _():
    with Seaway("--set", 'managed={"companyAnnouncements":["Hello from the lab."]}') as gateway:
        key, url = key_with_budget(gateway, "anna", 82), gateway.url.replace("127.0.0.1", "localhost")
        with Claude(url, ANTHROPIC_BASE_URL=None, ANTHROPIC_API_KEY=None, BROWSER="/bin/true") as claude:
            config = claude.home / "config"
            config.mkdir()
            (config / "settings.json").write_text(json.dumps({"forceLoginMethod": "gateway", "forceLoginGatewayUrl": url}))
            (config / ".claude.json").write_text(json.dumps({"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(claude.work): {"hasTrustDialogAccepted": True}}}))
            with terminal.Terminal([CLAUDE, "--model", MODEL], claude.work, claude.environment) as program:
                program.wait_for(r"Not logged in")
                program.send("/login", terminal.ENTER)
                program.wait_for(r"Enter to connect")
                program.send(terminal.ENTER)
                program.wait_for(r"No, cancel login")
                program.send(terminal.UP, terminal.ENTER)
                code = program.wait_for(r"Code: +([A-Z]{4}-[A-Z]{4})")[1]
                page = urllib.request.urlopen(f"{url}/device?user_code={code}", timeout=10).read().decode()
                within("the page", "claude-code/2.", page)
                within("what it says", "signed in as `anna`", posted(f"{url}/dashboard/device", user_code=code, key=key, answer="approve"))
                program.wait_for(r"Signed in to Cloud gateway as anna")
                program.send(terminal.UP, terminal.ENTER)
                program.wait_for(r"Connected to Cloud gateway")
                program.send(terminal.ENTER)
                program.wait_for(r"Hello from the lab\.")
                program.send("[[say pineapple]]", terminal.ENTER)
                program.wait_for(r"● ?pineapple")
                program.send("/usage", terminal.ENTER)
                program.wait_for(r"\$82\.\d\d / \$100\.00 spent today")
                program.send(terminal.ESCAPE, "/logout", terminal.ENTER)
                program.wait_for(r"logged out")
        ask = urllib.request.Request(gateway.url + "/v1/admin/audit", headers={"x-api-key": LOCAL_KEY})
        events = [row["event"] for row in json.load(urllib.request.urlopen(ask, timeout=10))["audit"]]
        equal("sign-ins and sign-outs on record", [events.count(event) for event in ("client_sign_in", "client_sign_out")], [1, 1])


# ---------------------------------------------------------------- the nine, on the mock
@check("telemetry that the program sends is counted into its session, in protobuf and in JSON")
def _():
    with Seaway() as gateway:
        for protocol in ("http/protobuf", "http/json"):
            session = str(uuid.uuid4())
            told = {
                "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.url,
                "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer {LOCAL_KEY}", "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_LOGS_EXPORT_INTERVAL": "500"}
            result = turn(gateway.url, "hush", "--session-id", session, environment=told)
            equal("result", result.get("is_error"), False)
            counts = telemetry_of(gateway, session)
            true(f"{protocol}: a session that began", any(name.startswith("claude_code.session.count") for name in counts), counts)
            true(f"{protocol}: the event of a prompt", any("user_prompt" in name for name in counts), counts)
            true(f"{protocol}: no text", "hush" not in json.dumps(counts), counts)


def telemetry_of(gateway, session):
    """What was told of a session, once both metrics and events are there: the program sends the last when it ends."""
    counts = {}
    for _ in range(100):
        request = urllib.request.Request(gateway.url + "/v1/admin/usage?by=session", headers={"x-api-key": LOCAL_KEY})
        with urllib.request.urlopen(request, timeout=10) as answer:
            rows = json.load(answer)["usage"]
        counts = next((row.get("telemetry", {}) for row in rows if row["name"] == session), {})
        if any("session.count" in name for name in counts) and any("user_prompt" in name for name in counts):
            break
        time.sleep(0.1)
    return counts


def nine(name):
    return check(name) if MOCK.exists() else lambda function: function


@nine("1 body and headers reach the upstream as the program sent them")
def _():
    session = str(uuid.uuid4())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="seaway-claude-home-"))
    logs, texts = [], []
    with Mock() as mock, Seaway(upstream=mock.url) as gateway:
        for url in (mock.url, gateway.url):
            with Claude(url) as claude:     # the same folders both times, as they stand in the prompt
                shutil.rmtree(claude.home)
                for place in ("work", "tmp"):
                    (folder / place).mkdir(parents=True)
                claude.environment = {key: value.replace(str(claude.home), str(folder)) for key, value in claude.environment.items()}
                claude.home, claude.work = folder, folder / "work"
                good(claude.run('TOOL:Bash{"command":"echo hi"}', "--session-id", session, "--allowedTools", "Bash"), "result=hi")
        entries = mock.log("/v1/messages")
    half = len(entries) // 2
    equal("number of requests", len(entries), 4)
    for sent, came in zip(entries[:half], entries[half:]):
        equal("path and query", (came["path"], came["query"]), ("/v1/messages", "beta=true"))
        equal("body with the order of its keys", normal(came), normal(sent))
        equal("length as declared", header(came, "content-length"), str(came["bytes"]))
        equal("headers", others(came), others(sent))
        equal("user-agent", re.sub(r" seaway/\d[\w.-]*$", "", header(came, "user-agent")), header(sent, "user-agent"))
        true("user-agent ends in our name", re.search(r" seaway/\d[\w.-]*$", header(came, "user-agent")), header(came, "user-agent"))
        within("attribution block", "x-anthropic-billing-header:", came["body"]["system"][0]["text"])
        equal("credentials", (header(came, "x-api-key"), header(came, "authorization")), (UPSTREAM_KEY, None))
        true("no local key", LOCAL_KEY not in json.dumps(came["headers"]) + json.dumps(came["body"]), came["headers"])


def normal(entry):
    """A body as text: JSON from the mock keeps the order of keys. What is random in every run is left out."""
    text = json.dumps(entry["body"], ensure_ascii=False)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"toolu_mock_\w+", "TOOL-ID", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    return re.sub(r'(device_id\\": \\"|device_id\\":\\")[0-9a-f]{64}', "DEVICE", text)


def others(entry):
    own = {"user-agent", "x-api-key", "authorization", "host", "connection", "accept-encoding", "content-length"}
    return sorted((key.lower(), value) for key, value in entry["headers"] if key.lower() not in own)


@nine("2 the prompt cache is read more with every turn of a session")
def _():
    session = str(uuid.uuid4())
    with Mock() as mock, Seaway(upstream=mock.url) as gateway, Claude(gateway.url) as claude:
        first = claude.run("SAY:one", "--session-id", session)
        rest = [claude.run("SAY:" + word, "--resume", session) for word in ("two", "three")]
    reads = [result["usage"]["cache_read_input_tokens"] for result in (first, *rest)]
    true("reads grow", reads[0] < reads[1] < reads[2], reads)
    true("the second turn reads most of what the first wrote", reads[1] >= 0.9 * first["usage"]["cache_creation_input_tokens"], (reads, first["usage"]))


@nine("3a an upstream's 401 that says not to retry fails after one request")
def _():
    with Mock() as mock, Seaway(upstream=mock.url) as gateway:
        result, log = turn(gateway.url, "ERR:401 ;; SHOULDRETRY:false"), mock.log("/v1/messages")
    equal("status", (result["is_error"], result["api_error_status"]), (True, 401))
    equal("requests", len(log), 1)


@nine("3b two 429 with retry-after are overcome")
def _():
    with Mock() as mock, Seaway(upstream=mock.url) as gateway:
        good(turn(gateway.url, "SAY:fine ;; ERR:429 ;; RETRY:1 ;; TIMES:2"), "fine")
        equal("statuses", [entry["reply"]["status"] for entry in mock.log("/v1/messages")], [429, 429, 200])


@nine("4 a 400 of a missing capability heals as without the gateway")
def _():
    direct, through = same_outcome("SAY:healed ;; ERR:400:invalid_request_error:messages.1.role: Input should be 'user' or 'assistant' ;; TIMES:1")
    good(through[0], "healed")
    equal("statuses", [entry["reply"]["status"] for entry in through[1]], [400, 200])
    roles = [{message["role"] for message in entry["body"]["messages"]} for entry in through[1]]
    equal("the program gives up system messages", ["system" in one for one in roles], [True, False])


def nine_five(script):
    @nine(f"5 {script} ends as without the gateway, and not cleanly")
    def _():
        # A body that ends early, or is no stream at all, becomes a broken one or a 502, and one that is cut says so in an event: the program asks
        # again in another way, since it streams anew after a silent break and asks for a whole answer after an error.
        reworked = any(word in script for word in ("EOF", "EMPTY", "HTML200", "CUT"))
        direct, through = same_outcome(script, requests_too=not reworked, environment={"CLAUDE_CODE_MAX_RETRIES": "2"})
        true("the program asked again", len(through[1]) > 1, shape(through[1]))


for script in ("SAY:some words that take a while ;; CUT:5 ;; PACE:0.1", "SAY:some words that take a while ;; CUT:5 ;; PACE:0.1 ;; TIMES:1",
               "SAY:some words that take a while ;; ERRSSE:overloaded_error:Overloaded ;; TIMES:1", "SAY:some words that take a while ;; ERRSSE:api_error:Broken",
               "SAY:some words that take a while ;; EOF:5", "SAY:some words that take a while ;; EOF:5 ;; TIMES:1", "SAY:x ;; ERRFIRST:overloaded_error ;; TIMES:1",
               "SAY:x ;; RESET ;; TIMES:1", "SAY:x ;; EMPTY ;; TIMES:1", "SAY:x ;; HTML200 ;; TIMES:1"):
    nine_five(script)


@nine("5 a whole answer without message_stop keeps its words")
def _():
    direct, through = same_outcome("SAY:all of the words ;; DROP:message_stop", requests_too=False, environment={"CLAUDE_CODE_MAX_RETRIES": "2"})
    good(through[0], "all of the words")


@nine("6 a killed client is noticed by the upstream at once")
def _():
    with Mock() as mock, Seaway(upstream=mock.url) as gateway, Claude(gateway.url) as claude:
        process = claude.start("BIG:6000 ;; PACE:0.05", lines=True)
        try:
            seen = next((line for line in process.stdout if '"text_delta"' in line), None)
        finally:
            end(process)
        killed = time.time()
        true("text came before the end", seen, seen)
        gone = []
        while not gone and time.time() - killed < 5:
            gone = [entry for entry in mock.log("/v1/messages") if entry["reply"].get("client_gone")]
            time.sleep(0.05)
        true("the upstream saw the client leave", gone, mock.log("/v1/messages")[-1]["reply"])
        true("within a second or so", time.time() - killed < 3, f"{time.time() - killed:.1f} s")


@nine("7a a long wait before the answer is survived")
def _():
    with Mock() as mock, Seaway("--ping", "5s", upstream=mock.url) as gateway:
        good(turn(gateway.url, "SAY:late ;; SLOW:20"), "late")
        equal("requests", len(mock.log("/v1/messages")), 1)


@nine("7b a long gap in the answer is survived, with pings of ours")
def _():
    with Mock() as mock, Seaway("--ping", "5s", upstream=mock.url) as gateway:
        raw = raw_stream(gateway.url, "SAY:some words that take a while ;; GAP:12 ;; NOPING")
        good(turn(gateway.url, "SAY:some words that take a while ;; GAP:25"), "some words that take a while")
        equal("requests", len(mock.log("/v1/messages")), 2)
    events = re.findall(r"^event: (\w+)$", raw, re.M)
    equal("pings of ours", events.count("ping"), 2)
    first, last = events.index("content_block_delta"), len(events) - 1 - events[::-1].index("content_block_delta")
    equal("they stand between the deltas", events[first:last].count("ping"), 2)


def raw_stream(url, text):
    body = {"model": MODEL, "max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(url + "/v1/messages", json.dumps(body).encode(), {"x-api-key": LOCAL_KEY, "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


@nine("8a an answer written byte by byte arrives whole")
def _():
    direct, through = same_outcome("THINK:hm ;; SAY:naïve 漢字 🐙 text ;; SSE:split")
    good(through[0], "naïve 漢字 🐙 text")


@nine("8b the first words arrive long before the last")
def _():
    with Mock() as mock, Seaway(upstream=mock.url) as gateway, Claude(gateway.url) as claude:
        process = claude.start("SAY:one two three four five six ;; GAP:6", lines=True)
        try:
            line = next((line for line in process.stdout if '"text_delta"' in line), None)
            unfinished = "done_t" not in mock.log("/v1/messages")[0]["reply"]
            rest = process.communicate(timeout=LIMIT)[0].splitlines()
        finally:
            if process.poll() is None:
                end(process)
    true("a first delta", line, line)
    true("the upstream was still writing when the first words were there", unfinished, unfinished)
    good(json.loads(rest[-1]), "one two three four five six")


@nine("8c an answer of 200000 characters arrives uncorrupted")
def _():
    with Mock() as mock, Seaway(upstream=mock.url) as gateway:
        result = turn(gateway.url, "BIG:200000")
    equal("the text is equal", result["result"] == ("lorem ipsum " * 16667)[:200000], True)


@check("9a the model discovery accepts our list")
def _():
    with Seaway("--set", 'alias={"claude-alias-of-ours":"sandbox-opus-1"}') as gateway:
        with Claude(gateway.url, CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1") as claude:
            good(claude.run("[[slow 2s]] hi"), "hi")
            kept = claude.home / "config/cache/gateway-models.json"
            true("gateway-models.json was written", kept.exists(), sorted(str(path.relative_to(claude.home)) for path in claude.home.rglob("*.json")))
            within("models", '"claude-alias-of-ours"', kept.read_text())


@nine("9b a credential is good in either header or both, and neither goes upstream")
def _():
    keys = [{"ANTHROPIC_AUTH_TOKEN": LOCAL_KEY, "ANTHROPIC_API_KEY": "sk-other-key"}, {"ANTHROPIC_AUTH_TOKEN": "other-token"},
            {"ANTHROPIC_AUTH_TOKEN": LOCAL_KEY, "ANTHROPIC_API_KEY": None}]
    with Mock() as mock, Seaway(upstream=mock.url) as gateway:
        for environment in keys:
            good(turn(gateway.url, "SAY:in", environment=environment), "in")
        log = mock.log()
    equal("requests", len(log), 3)
    equal("credentials", [(header(entry, "x-api-key"), header(entry, "authorization")) for entry in log], [(UPSTREAM_KEY, None)] * 3)
    for secret in (LOCAL_KEY, "sk-other-key", "other-token"):
        true("no credential of the client's upstream", secret not in json.dumps(log), secret)


@check("9c a turn goes through our Unix socket")
def _():
    with Seaway(listen="127.0.0.1:0,unix:{folder}/seaway.sock") as gateway:
        # Nothing listens at the address, so only the socket can answer.
        good(turn("http://127.0.0.1:9", "[[say by socket]]", environment={"ANTHROPIC_UNIX_SOCKET": gateway.folder + "/seaway.sock"}), "by socket")


@check("the list of prices that ships is held against this very program's")
def _():
    made = REPO / "crates/seaway/tests/prices"
    done = subprocess.run([made / "make", support.claude_program(), support.CLAUDE_VERSION], capture_output=True, text=True, timeout=60)
    equal(f"status {done.stderr}", done.returncode, 0)
    equal("models and prices (`tests/prices/make` writes the table anew)", json.loads(done.stdout)["models"], json.loads((made / "claude-code.json").read_text())["models"])


@nine("9d /context counts tokens with many requests at once, and all are answered")
def _():
    with Mock() as mock, Seaway(upstream=mock.url) as gateway:
        result = turn(gateway.url, "/context")
        counts = mock.log("/v1/messages/count_tokens")
    equal("no error", result["is_error"], False)
    within("table", "tokens", result["result"].lower())
    true("about 26 requests", len(counts) >= 20, len(counts))
    equal("statuses", {entry["reply"].get("status") for entry in counts}, {200})
    equal("queries", {entry["query"] for entry in counts}, {"beta=true"})


if __name__ == "__main__":
    if not MOCK.exists():
        print(f"without {MOCK} only the checks on the sandbox are run")
    support.run_checks(workers=4)
