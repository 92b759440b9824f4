"""What the client checks share: a list of checks, Seaway on a port of its own, an upstream to script.

Standard library only. Nothing is written into the repository.
"""
import concurrent.futures, contextlib, fcntl, hashlib, http.server, json, os, pathlib, platform, re, shutil, signal, socket, subprocess, sys, tempfile, threading, time, traceback, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent
CACHE = pathlib.Path(os.environ.get("SEAWAY_CLIENTS_CACHE") or pathlib.Path.home() / ".cache/seaway-clients")
LOCAL_KEY, UPSTREAM_KEY = "sk-local-key-of-the-checks", "sk-up-key-of-the-checks"


# ---------------------------------------------------------------- checks
CHECKS = []


def check(name):
    """Adds a function to the list under a sentence."""
    return lambda function: CHECKS.append((name, function)) or function


def run_checks(workers=1):
    """Runs the list, prints a line for each, and exits 1 if any failed. Arguments choose by part of a name."""
    finish(*count_checks(workers))


def count_checks(workers=1):
    """Runs the list and prints a line for each; returns how many passed and failed."""
    wanted = sys.argv[1:]
    chosen = [(name, function) for name, function in CHECKS if not wanted or any(part in name for part in wanted)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(outcome, function): name for name, function in chosen}
        for done in concurrent.futures.as_completed(running):
            problem = done.result()
            failed += bool(problem)
            print(f"FAIL  {running[done]}\n      {problem}" if problem else f"ok    {running[done]}", flush=True)
    return len(chosen) - failed, failed


def finish(passed, failed):
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)


def outcome(function):
    try:
        function()
    except AssertionError as error:
        return str(error) or "an assertion without words: " + traceback.format_exc().strip().replace("\n", "\n      ")
    except BaseException as error:  # a check must never take the others with it
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"unexpected {type(error).__name__}: {short(error)} ({pathlib.Path(where.filename).name}:{where.lineno})"
    return None


def short(value, limit=600):
    text = value if isinstance(value, str) else str(value) if isinstance(value, BaseException) else repr(value)
    return text if len(text) <= limit else f"{text[:limit // 2]} … {text[-limit // 2:]}"


def equal(what, came, expected):
    assert came == expected, f"{what}: expected {short(expected)}, came {short(came)}"


def within(what, part, whole):
    assert part in whole, f"{what}: expected {short(part)} within {short(whole)}"


def true(what, fact, came=""):
    assert fact, f"{what}: came {short(came)}"


def raises(kind, function, *args, **named):
    """Returns the exception, which has to be of exactly this kind."""
    try:
        came = function(*args, **named)
    except Exception as error:
        assert type(error) is kind, f"expected {kind.__name__}, came {type(error).__name__}: {short(error)}"
        return error
    raise AssertionError(f"expected {kind.__name__}, came an answer: {short(came)}")


# ---------------------------------------------------------------- clients
RESERVED = []


def reserved_port():
    """A port that is nobody else's until these checks end: a socket that never listens is bound to it.

    A server that sets SO_REUSEADDR, as most do, may listen on it; the kernel gives it to nobody who asks for any port.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    RESERVED.append(held)
    return held.getsockname()[1]


# With SEAWAY_NEWEST each pinned release is replaced by the newest one.
NEWEST = bool(os.environ.get("SEAWAY_NEWEST"))


def newest_of_python(pinned):
    """The name alone: pip takes the newest."""
    return pinned.split("==")[0]


def newest_of_npm(pinned):
    """The same package in its newest release: `name@1.0`, `alias@npm:name@1.0`, also where a release is one of a platform."""
    name, version = pinned.rsplit("@", 1)
    real = name.split("@npm:")[-1]
    if not re.match(r"\d", version):
        return pinned
    platform_of = re.search(r"-(linux|darwin)-\w+$", version)
    asked = subprocess.run(["npm", "view", real, "version"], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return f"{name}@{asked.stdout.strip()}{platform_of[0] if platform_of else ''}"


def told_newest(pinned, installed):
    """Says which releases stand in for which, for whoever looks for the one that broke something."""
    for was, now in zip(pinned, installed):
        if was != now:
            print(f"newest {now} in place of {was}", flush=True)


@contextlib.contextmanager
def installing(folder):
    """Gives whether what `folder` is to hold is to be installed: by one at a time, and whole or not at all."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = not (folder / "complete").exists()
        if wanted:
            shutil.rmtree(folder, ignore_errors=True)
        yield wanted
        (folder / "complete").touch()


def venv(*packages):
    """Installs Python packages into a folder of the cache of their own; returns the folder of their programs."""
    if NEWEST:
        return newest_venv(*packages)
    folder = CACHE / ("python-" + "-".join(packages))
    python = folder / "bin/python"
    with installing(folder) as wanted:
        if wanted:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, stdin=subprocess.DEVNULL)
            subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True, stdin=subprocess.DEVNULL)
    return folder / "bin"


def newest_venv(*packages):
    folder = CACHE / ("python-" + "-".join(map(newest_of_python, packages)))
    python = folder / "bin/python"
    with installing(folder) as wanted:
        if wanted:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, stdin=subprocess.DEVNULL)
            subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade", *map(newest_of_python, packages)], check=True, stdin=subprocess.DEVNULL)
            frozen = subprocess.run([python, "-m", "pip", "freeze"], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
            versions = {line.split("==")[0].lower().replace("_", "-"): line for line in frozen.splitlines() if "==" in line}
            told_newest(packages, [versions.get(re.split(r"[\[=]", package)[0].lower().replace("_", "-"), package) for package in packages])
    return folder / "bin"


def in_venv(*packages):
    """Starts this script again under a Python that has the packages."""
    python = venv(*packages) / "python"
    if pathlib.Path(sys.prefix).resolve() != python.parent.parent.resolve():
        os.execv(python, [str(python), *sys.argv])


def npm_tool(package):
    """The same for what checks are made with: it is none of the clients, and stays as it is pinned."""
    return npm_packages(package, newest=False)


def npm_packages(*packages, newest=NEWEST):
    """Installs npm packages, each `name@version`, into one folder of the cache; returns the folder that holds node_modules."""
    if newest:
        pinned, packages = packages, [newest_of_npm(package) for package in packages]
        told_newest(pinned, packages)
    folder = CACHE / ("npm-" + "-".join(package.replace("/", "-").lstrip("@").replace("@", "-") for package in packages))
    with installing(folder) as wanted:
        if wanted:
            folder.mkdir(parents=True)
            command = ["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *packages]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder


def run_node(script, folder, **environment):
    """Runs a script of checks with the packages in `folder`, and exits as it does."""
    if not shutil.which("node"):
        sys.exit(f"node is needed for {script}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "SDK": str(folder), "LOCAL_KEY": LOCAL_KEY, "UPSTREAM_KEY": UPSTREAM_KEY, **environment}
    sys.exit(subprocess.run(["node", HERE / script, *sys.argv[1:]], env=environment, stdin=subprocess.DEVNULL, timeout=300).returncode)


# ---------------------------------------------------------------- seaway
def binary():
    built = [REPO / f"target/{kind}/seaway" for kind in ("dist", "release", "debug")]
    given = os.environ.get("SEAWAY_BIN")
    found = pathlib.Path(given).absolute() if given else next((path for path in built if path.exists()), built[0])
    if not found.exists():
        sys.exit(f"there is no {found}; build it, or set SEAWAY_BIN")
    return found


class Seaway:
    """The gateway on a free port with a folder of its own; stops at the end of `with`."""

    def __init__(self, *args, upstream=None, listen="127.0.0.1:0", home=None, environment={}):
        self.home, self.environment = home, environment
        self.folder = tempfile.mkdtemp(prefix="seaway-clients-")
        self.args = [] if "--config" in args else ["--config", "/dev/null"]
        self.args += ["--listen", listen.format(folder=self.folder), "--grace", "1s"]
        self.args += ["--state-dir", self.folder + "/state"] if "--state-dir" not in args else []
        self.args += ["--api-key", LOCAL_KEY] if "--auth" not in args else []
        self.args += list(args)
        if upstream is False:
            pass                # the arguments name one
        elif upstream:
            settings = {"kind": "messages", "base_url": upstream, "api_key": UPSTREAM_KEY, "retries": 0}
            self.args += [word for key, value in settings.items() for word in ("--set", f"upstream.m.{key}={value}")]
        else:
            self.args += ["--upstream", "sandbox"]
        self.lines, self.ready = [], threading.Event()

    def __enter__(self):
        self.temporary = pathlib.Path(self.home or self.folder, "tmp")
        self.temporary.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": self.home or self.folder, "TMPDIR": str(self.temporary), **self.environment}
        self.process = subprocess.Popen([binary(), "serve", *self.args], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.ready.wait(20)
        self.url = next((found[1] for line in self.lines if (found := re.search(r"serves on (http://127\.0\.0\.1:\d+)", line))), None)
        if not self.url:
            self.__exit__()
            raise RuntimeError("seaway does not serve: " + short("".join(self.lines)))
        return self

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if "serves on http://" in line:
                self.ready.set()
        self.ready.set()

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(5)
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def key_with_budget(gateway, name, spent):
    """Gives out a key with a hundred dollars a day, of which so many are spent."""
    key = f"sk-theirs-{name}"
    body = {"name": name, "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest(), "budgets": ["100/day"], "spent_micros": spent * 1_000_000}
    ask = urllib.request.Request(gateway.url + "/v1/admin/keys", json.dumps(body).encode(), {"x-api-key": LOCAL_KEY, "content-type": "application/json"})
    urllib.request.urlopen(ask, timeout=10).close()
    return key


def asked_by(gateway, name, count):
    """The statuses of a caller's requests, the newest first, once there are so many: records are written a little later."""
    command = [binary(), "--state-dir", gateway.folder + "/state", "requests", "--caller", name, "--json"]

    def found():
        told = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"], "HOME": gateway.folder})
        return [row["status"] for row in json.loads(told.stdout) if row["endpoint"] in ("messages", "completions", "responses")]

    for _ in range(50):
        if len(found()) >= count:
            break
        time.sleep(0.1)
    # One more, which should not be, would be written by now.
    time.sleep(0.3)
    return found()


# ---------------------------------------------------------------- the official program, and an upstream for it
CLAUDE_VERSION = os.environ.get("SEAWAY_CLAUDE_VERSION") or "2.1.332"
MOCK = REPO.parent / "shared/lab/mock_anthropic.py"


def claude_program():
    """Installs the program, outside of the repository; returns where it is."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print("skipped: Claude Code is only run on linux-x64 here")
        print("0 passed, 0 failed")
        sys.exit(0)
    return npm_packages(f"@anthropic-ai/claude-code-linux-x64@{CLAUDE_VERSION}") / "node_modules/@anthropic-ai/claude-code-linux-x64/claude"


class Mock:
    """The scriptable upstream of ../shared/lab."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-B", MOCK, "--port", "0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["listening"]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def log(self, path=None):
        with urllib.request.urlopen(self.url + "/__mock/log", timeout=10) as answer:
            return [entry for entry in json.load(answer) if path in (None, entry["path"])]


# ---------------------------------------------------------------- an upstream to script
def sse(*events):
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


def opening(text):
    """The events of an answer up to its first words."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    return [{"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, words(text)]


def words(text):
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


CLOSING = [{"type": "content_block_stop", "index": 0},
           {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}},
           {"type": "message_stop"}]
WHOLE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "whole"}],
         "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}


class Upstream:
    """A server that records every request as it came and answers by the word in its last text.

    `GATE`: the rest of the stream comes only once `POST /release` was called; `POST /requests` tells what came.
    `BREAK`: the connection closes right behind the first words. Anything else: a whole answer.
    """

    def __enter__(self):
        self.requests, self.released, self.gone = [], threading.Event(), threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer.answer(self)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, http_request):
        body = http_request.rfile.read(int(http_request.headers.get("content-length") or 0)) if not chunked(http_request) else dechunk(http_request.rfile)
        if http_request.path == "/release":
            self.released.set()
            return send(http_request, b"{}")
        if http_request.path == "/requests":
            seen = [{"path": one["path"], "headers": {name.lower(): value for name, value in one["headers"]}} for one in self.requests]
            return send(http_request, json.dumps(seen).encode())
        record = {"method": http_request.command, "path": http_request.path, "headers": http_request.headers.items(), "body": body}
        self.requests.append(record)
        if b'"stream":true' not in body.replace(b": ", b":"):
            return send(http_request, json.dumps(WHOLE).encode())
        self.stream(http_request, body)

    def stream(self, http_request, body):
        http_request.close_connection = True
        http_request.send_response(200)
        http_request.send_header("content-type", "text/event-stream")
        http_request.send_header("transfer-encoding", "chunked")
        http_request.end_headers()
        try:
            piece(http_request, sse(*opening("first ")))
            if b"BREAK" in body:
                return
            if b"GATE" in body:
                self.wait(http_request)
            piece(http_request, sse(words("last"), *CLOSING))
            http_request.wfile.write(b"0\r\n\r\n")
            http_request.close_connection = False  # the next request would race with the end
        except OSError:
            self.gone.set()

    def wait(self, http_request):
        """Holds the answer back, and notices when the other side hangs up meanwhile."""
        http_request.connection.settimeout(0.05)
        for _ in range(400):
            if self.released.is_set():
                http_request.connection.settimeout(None)
                return
            try:
                if not http_request.connection.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                pass
        raise ConnectionAbortedError("nobody released the answer")


def chunked(http_request):
    return "chunked" in (http_request.headers.get("transfer-encoding") or "")


def dechunk(stream):
    out = b""
    while size := int(stream.readline(), 16):
        out += stream.read(size)
        stream.readline()
    stream.readline()
    return out


def piece(http_request, data):
    http_request.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    http_request.wfile.flush()


def send(http_request, data):
    http_request.send_response(200)
    http_request.send_header("content-type", "application/json")
    http_request.send_header("request-id", "req_upstream")
    http_request.send_header("content-length", str(len(data)))
    http_request.end_headers()
    http_request.wfile.write(data)
