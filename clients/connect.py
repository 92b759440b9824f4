"""End-to-end checks of `seaway connect` and `seaway run` with the real clients, each doing a task on the sandbox.

Every client is set up in a home of its own that has settings already, works, and is taken back: then every file is what it was.
"""
import sys

sys.dont_write_bytecode = True
import contextlib, json, os, pathlib, platform, re, shutil, signal, subprocess, tempfile, time, urllib.request
import support
from support import check, equal, true, within

LINUX = (sys.platform, platform.machine()) == ("linux", "x86_64")
CODEX = "@openai/codex@0.171.0-linux-x64"
LIMIT = 120


class Home:
    """A home folder with a gateway on the sandbox; gone at the end of `with`."""

    def __init__(self, config=""):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="seaway-connect-"))
        self.work = self.home / "work"
        self.work.mkdir()
        self.url = f"http://127.0.0.1:{support.reserved_port()}"
        self.config = self.home / ".config/seaway/seaway.toml"
        self.write(self.config, f'listen = "{self.url[7:]}"\ndefault_upstream = "sandbox"\nlog_level = "error"\n{config}')
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "TMPDIR": str(self.home)}

    def __enter__(self):
        self.process = subprocess.Popen([support.binary(), "serve"], env=self.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url + "/health").close()
                return self
            time.sleep(0.02)
        raise AssertionError("the gateway does not come up")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *command, expect=0, says="", **environment):
        done = subprocess.run([str(word) for word in command], cwd=self.work, env={**self.environment, **environment}, input=says, capture_output=True, text=True, timeout=LIMIT)
        if expect is not None:
            equal(f"status of {pathlib.Path(str(command[0])).name} {support.short(done.stdout, 900)} {support.short(done.stderr, 900)}", done.returncode, expect)
        return done

    def seaway(self, *words, **more):
        return self.run(support.binary(), *words, **more)

    def files(self):
        """Every file that a person could have, with its bytes and mode."""
        own = [self.home / ".local/state/seaway", self.config.parent]
        found = {}
        for path in sorted(self.home.rglob("*")):
            if path.is_file() and not any(folder in path.parents for folder in own):
                found[str(path.relative_to(self.home))] = (path.read_bytes(), path.stat().st_mode)
        return found


@contextlib.contextmanager
def connected(client, settings, *words):
    """A home where `client` has `settings` and is set up; afterwards these are what they were."""
    with Home() as home:
        for name, text in settings.items():
            home.write(home.home / name, text)
            os.chmod(home.home / name, 0o644)
        before = home.files()
        said = home.seaway("connect", client, "--dry-run", *words)
        equal("files after a dry run", home.files(), before)
        within("the difference", home.url, said.stdout)
        for secret in (home.seaway("key", "show").stdout.strip(), "sk-theirs"):
            true("no key is shown", secret not in said.stdout, said.stdout)
        home.seaway("connect", client, *words)
        touched = {name for name, what in home.files().items() if before.get(name) != what}
        for name in touched:
            equal(f"mode of {name}", oct((home.home / name).stat().st_mode & 0o777), "0o600")
        yield home
        home.seaway("connect", client, "--undo")
        after = home.files()
        equal("files that were there before", {name: after.get(name) for name in before if name in settings}, {name: before[name] for name in before if name in settings})
        equal("files of ours that are left", [name for name in touched - set(before) if name in after], [])


@check("Claude Code: set up, a turn, taken back")
def _():
    settings = '{\n  "model": "sonnet",\n  "env": { "FOO": "1", "HTTPS_PROXY": "http://127.0.0.1:9" }\n}\n'
    with connected("claude", {".claude/settings.json": settings}) as home:
        environment = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CONFIG_DIR": str(home.home / ".claude")}
        done = home.run(support.claude_program(), "-p", "[[say all is well]]", "--output-format", "json", **environment)
        equal("answer", json.loads(done.stdout)["result"], "all is well")
        written = json.loads((home.home / ".claude/settings.json").read_text())
        equal("its own", (written["model"], written["env"]["FOO"], written["env"]["NO_PROXY"]), ("sonnet", "1", "localhost,127.0.0.1"))


@check("Claude Code: another key helper is not replaced, and what overrides ours is told")
def _():
    with Home() as home:
        home.write(home.home / ".claude/settings.json", '{"apiKeyHelper": "theirs"}')
        said = home.seaway("connect", "claude", expect=1)
        within("why", "`apiKeyHelper` is set to something else there; `--force` replaces it", said.stderr)
        equal("the file", (home.home / ".claude/settings.json").read_text(), '{"apiKeyHelper": "theirs"}')
        home.write(home.work / ".claude/settings.local.json", '{"env": {"ANTHROPIC_BASE_URL": "http://elsewhere"}}')
        said = home.seaway("connect", "claude", "--force", ANTHROPIC_AUTH_TOKEN="x")
        within("the project's", "settings.local.json sets `env.ANTHROPIC_BASE_URL`", said.stderr)
        within("the shell's", "this shell sets ANTHROPIC_AUTH_TOKEN", said.stderr)
        home.seaway("connect", "claude", "--undo")
        equal("back", (home.home / ".claude/settings.json").read_text(), '{"apiKeyHelper": "theirs"}')
        home.write(home.home / ".claude/settings.json", '{"env": {}, "env": {}}')
        within("ambiguous", "`env` is there twice", home.seaway("connect", "claude", expect=1).stderr)


@check("Codex: set up, an edit of a file, a tool in a namespace, taken back")
def _():
    program = support.npm_packages(f"@openai/codex-linux-x64@npm:{CODEX}") / "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    settings = '# mine\nmodel = "gpt-5.5"   # here\napproval_policy = "never"\n\n[mcp_servers.none]\ncommand = "true"\nenabled = false\n'
    with connected("codex", {".codex/config.toml": settings}, "--model", "claude-opus-4-8") as home:
        (home.work / "a.txt").write_text("one\ntwo\n")
        run = lambda *words: home.run(program, "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", *words)
        done = run('[[tool exec_command {"cmd":"sed -i s/two/three/ a.txt && cat a.txt"}]]')
        equal("the file", (home.work / "a.txt").read_text(), "one\nthree\n")
        within("the answer", "The tool answered", done.stdout)
        done = run("resume", "--last", "[[think hm]][[say well remembered]]")
        within("the next turn", "well remembered", done.stdout)
        done = run('[[tool multi_agent_v1__close_agent {"target":"nobody"}]]')
        within("the tool of a namespace was called by its name", "The tool answered", done.stdout)
        true("and is known", "unsupported call" not in done.stdout, done.stdout)
        failed = home.run(program, "exec", "--skip-git-repo-check", "[[error 400 invalid_request_error word for word]]", expect=None)
        within("an error", "word for word", failed.stdout + failed.stderr)
        key = home.seaway("key", "create", "anna", "--budget", "0.000001/day").stdout.strip()
        auth = ["-c", 'model_providers.seaway.auth.command="echo"', "-c", f'model_providers.seaway.auth.args=["{key}"]']
        over = home.run(program, "exec", "--skip-git-repo-check", *auth, "hello", expect=None)
        true("a budget that is used up ends it", over.returncode != 0, over.stdout)
        within("its own words for it", "Quota exceeded. Check your plan and billing details.", over.stderr)
        time.sleep(1)   # what has ended is written a little later
        asked = [row["status"] for row in json.loads(home.seaway("requests", "--caller", "anna", "--json").stdout) if row["endpoint"] == "responses"]
        equal("asked once", asked, [429])


@check("Codex: no warning at its start, and its picker shows the models that are served, with what they are")
def _():
    program = support.npm_packages(f"@openai/codex-linux-x64@npm:{CODEX}") / "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    with Home('[alias]\nmine = "opus"\n') as home:
        for model in ("opus", "sandbox-sonnet-1", "mine"):
            home.seaway("connect", "codex", "--model", model)
            patch = "*** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch\n"
            done = home.run(program, "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", f"[[tool apply_patch {json.dumps({'input': patch})}]]", RUST_LOG="codex_models_manager=warn,codex_core=warn")
            for complaint in ("Unknown model", "fallback metadata", "failed to refresh available models"):
                true(f"{model}: nothing of {complaint}", complaint not in done.stderr, done.stderr)
            equal(f"{model}: its own tool for edits has run", (home.work / "made.txt").read_text() if (home.work / "made.txt").exists() else done.stdout, "hello\n")
            (home.work / "made.txt").unlink()
        server = subprocess.Popen([program, "app-server"], env=home.environment, cwd=home.work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            def ask(number, method, **params):
                server.stdin.write(json.dumps({"id": number, "method": method, "params": params}) + "\n")
                server.stdin.flush()
                return next(answer["result"] for answer in map(json.loads, server.stdout) if answer.get("id") == number)
            ask(0, "initialize", clientInfo={"name": "check", "version": "1"})
            server.stdin.write('{"method":"initialized"}\n')
            shown = ask(1, "model/list")["data"]
        finally:
            server.kill()
            server.wait()
        equal("the picker", [model["model"] for model in shown], ["sandbox-opus-1", "sandbox-sonnet-1", "sandbox-haiku-1", "mine"])
        efforts = ["low", "medium", "high", "xhigh", "max"]
        for model in shown:
            equal(f"efforts of {model['model']}", [level["reasoningEffort"] for level in model["supportedReasoningEfforts"]], efforts)
            equal(f"usual effort of {model['model']}", model["defaultReasoningEffort"], "high")


@check("Codex under a `gpt-…` name that it knows: its tools that come with the input, its code mode, a next turn")
def _():
    program = support.npm_packages(f"@openai/codex-linux-x64@npm:{CODEX}") / "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    with Home('[alias]\n"gpt-*" = "sonnet"\n') as home:
        run = lambda *words: home.run(program, "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", *words)
        for model, call in (("gpt-5.5", '[[tool exec_command {"cmd":"echo done > gpt-5.5"}]]'),
                            ("gpt-6.2-sol", '[[tool functions__exec {"input":"await tools.exec_command({cmd: \\"echo done > gpt-6.2-sol\\"})"}]]')):
            home.seaway("connect", "codex", "--model", model)
            done = run("[[say all is well]]")
            within(f"{model}: an answer", "all is well", done.stdout)
            true(f"{model}: no error", "ERROR" not in done.stderr and "issue with the selected model" not in done.stderr, done.stderr)
            run(call)
            equal(f"{model}: its tool has run", (home.work / model).read_text() if (home.work / model).exists() else "no file", "done\n")
            within(f"{model}: the next turn", "well remembered", run("resume", "--last", "[[say well remembered]]").stdout)


@check("opencode: set up, an edit of a file, taken back")
def _():
    program = support.npm_packages("opencode-linux-x64@1.18.33") / "node_modules/opencode-linux-x64/bin/opencode"
    settings = '{\n  "$schema": "https://opencode.ai/config.json",\n  // mine\n  "autoupdate": false,\n  "permission": { "edit": "allow" },\n}\n'
    with connected("opencode", {".config/opencode/opencode.jsonc": settings}, "--model", "claude-sonnet-4-5") as home:
        path = home.work / "made.txt"
        says = f'[[tool write {json.dumps({"filePath": str(path), "content": "made by a tool"})}]]'
        done = home.run(program, "run", says=says, OPENCODE_DISABLE_MODELS_FETCH="1", OPENCODE_DISABLE_AUTOUPDATE="1")
        true("the file is there", path.exists(), done.stdout + done.stderr)
        equal("the file", path.read_text(), "made by a tool")


@check("Qwen Code: set up, an answer, a tool of its own, taken back")
def _():
    program = support.npm_packages("@qwen-code/qwen-code@0.15.10") / "node_modules/.bin/qwen"
    # In the form that it has itself: an older one it writes anew when it starts.
    settings = '{\n  // mine\n  "$version": 4,\n  "ui": { "theme": "GitHub" },\n  "env": { "MINE": "1" }\n}\n'
    with connected("qwen", {".qwen/settings.json": settings}, "--model", "claude-sonnet-4-5") as home:
        within("the answer", "hello there", home.run(program, "-p", "[[say hello there]]").stdout)
        path = home.work / "made.txt"
        done = home.run(program, "--approval-mode", "yolo", "-p", f"[[tool write_file {json.dumps({'file_path': str(path), 'content': 'made by a tool'})}]]")
        equal(f"the file {support.short(done.stdout)}", path.read_text() if path.exists() else None, "made by a tool")


@check("Crush: what is written is what its README says, and is taken back")
def _():
    # Its package downloads the program from elsewhere, so the program itself cannot be had here.
    settings = '{\n  "$schema": "https://charm.land/crush.json",\n  "options": { "debug": false }\n}\n'
    with connected("crush", {".config/crush/crush.json": settings}, "--model", "claude-sonnet-4-5") as home:
        written = json.loads((home.home / ".config/crush/crush.json").read_text())
        provider = written["providers"]["seaway"]
        equal("provider", (provider["type"], provider["base_url"], written["models"]["large"]), ("anthropic", home.url + "/v1", {"provider": "seaway", "model": "claude-sonnet-4-5"}))
        key = home.run("sh", "-c", f"printf %s \"{provider['api_key']}\"").stdout
        equal("its key, as a shell expands it", key, home.seaway("key", "show").stdout.strip())
        equal("what a model says", set(provider["models"][0]), {"id", "name", "context_window", "default_max_tokens", "can_reason", "supports_attachments"})


@check("pi: set up, an edit of a file, taken back")
def _():
    program = support.npm_packages("@earendil-works/pi-coding-agent@0.74.2") / "node_modules/.bin/pi"
    with connected("pi", {".pi/agent/models.json": '{\n  "providers": {}\n}\n', ".pi/agent/settings.json": '{\n\t"theme": "dark"\n}\n'}, "--model", "claude-sonnet-4-5") as home:
        done = home.run(program, "-p", '[[tool write {"path":"made.txt","content":"made by a tool"}]]', PI_OFFLINE="1")
        true("the file is there", (home.work / "made.txt").exists(), done.stdout + done.stderr)
        within("the answer", "The tool answered", done.stdout)


@check("aider: set up, an edit of a file, taken back")
def _():
    aider = support.venv("aider-chat==0.86.2") / "aider"
    settings = "# mine\nauto-commits: false\ncheck-update: false\nanalytics-disable: true\n"
    with connected("aider", {".aider.conf.yml": settings}, "--model", "claude-sonnet-4-5") as home:
        (home.work / "a.py").write_text("x = 1\n")
        home.write(home.home / ".aider/caches/model_prices_and_context_window.json", "{}")
        edit = "[[say a.py\n```python\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE\n```\n]]"
        done = home.run(aider, "--yes-always", "--no-git", "--no-show-model-warnings", "--edit-format", "diff", "--map-tokens", "0", "--message", edit, "a.py", LITELLM_LOCAL_MODEL_COST_MAP="True")
        equal(f"the file {support.short(done.stdout)}", (home.work / "a.py").read_text(), "x = 2\n")


@check("llm: set up, an answer, taken back")
def _():
    llm = support.venv("llm==0.36") / "llm"
    with connected("llm", {".config/io.datasette.llm/extra-openai-models.yaml": "- model_id: theirs\n  model_name: t\n  api_base: http://127.0.0.1:9/v1\n", ".config/io.datasette.llm/keys.json": '{\n  "// Note": "mine",\n  "openai": "sk-theirs"\n}\n'}, "--model", "claude-sonnet-4-5") as home:
        equal("answer", home.run(llm, "-m", "seaway/claude-sonnet-4-5", "hello there").stdout, "hello there\n")
        within("theirs is there still", "theirs", home.run(llm, "models").stdout)


@check("Continue: set up, an answer of its command line, taken back")
def _():
    program = support.npm_packages("@continuedev/cli@1.5.47") / "node_modules/.bin/cn"
    with Home() as home:
        path = home.home / ".continue/config.yaml"
        home.write(path, "name: Local Config\nversion: 1.0.0\nschema: v1\nmodels: []\n")
        home.seaway("connect", "continue")
        within("in place of the empty list", "(Seaway)", path.read_text())
        home.seaway("connect", "continue", "--undo")
        equal("its own file", path.read_text(), "name: Local Config\nversion: 1.0.0\nschema: v1\nmodels: []\n")
    settings = "name: Mine\nversion: 0.0.1\nschema: v1\nmodels:\n  # theirs\n  - name: theirs\n    provider: openai\n    model: t\n"
    with connected("continue", {".continue/config.yaml": settings}, "--model", "claude-sonnet-4-5") as home:
        done = home.run(program, "-p", "[[say all is well]]", "--config", home.home / ".continue/config.yaml", CONTINUE_TELEMETRY_ENABLED="0", CONTINUE_ALLOW_ANONYMOUS_TELEMETRY="0")
        within("answer", "all is well", done.stdout)


@contextlib.contextmanager
def tavern(home, place):
    """A SillyTavern whose data are at `place`; gives what asks it as its page does."""
    folder = support.npm_packages("sillytavern@1.19.0") / "node_modules/sillytavern"
    place.mkdir(exist_ok=True)
    port = support.reserved_port()
    words = ["--port", port, "--listen", "false", "--disableCsrf", "true", "--browserLaunchEnabled", "false", "--dataRoot", place / "data", "--configPath", place / "config.yaml", "--whitelist", "false"]
    with open(place / "log", "w") as log:
        server = subprocess.Popen(["node", "server.js", *map(str, words)], cwd=folder, env=home.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        def ask(path, body):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
            return urllib.request.urlopen(request, timeout=60).read().decode()

        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                break
            true("the server goes on", server.poll() is None, (place / "log").read_text()[-600:])
            time.sleep(0.1)
        yield ask
    finally:
        server.terminate()
        server.wait(20)


def answers_in_tavern(ask, source, model):
    models = json.loads(ask("/api/backends/chat-completions/status", source))
    true("models", any(model["id"].startswith("sandbox") for model in models["data"]), models)
    chat = {**source, "model": model, "max_tokens": 100, "temperature": 0.7, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "[[say all is well]]"}]}
    equal("answer", json.loads(ask("/api/backends/chat-completions/generate", {**chat, "stream": False}))["choices"][0]["message"]["content"], "all is well")
    streamed = ask("/api/backends/chat-completions/generate", {**chat, "stream": True})
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    equal("streamed", "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]), "all is well")


@check("SillyTavern: what is printed, typed in, gives an answer, streamed and not, with its list of models")
def _():
    with Home() as home:
        done = home.seaway("connect", "sillytavern", "--model", "claude-sonnet-4-5")
        within("where to ask again", "are not here: start it once, then ask again in its folder", done.stderr)
        endpoint = re.search(r"Custom Endpoint\s+(\S+)", done.stdout)[1]
        key = home.seaway("key", "show").stdout.strip()
        with tavern(home, home.home / "tavern") as ask:
            ask("/api/secrets/write", {"key": "api_key_custom", "value": key})
            answers_in_tavern(ask, {"chat_completion_source": "custom", "custom_url": endpoint}, "claude-sonnet-4-5")


@check("SillyTavern: set up in its folder, an answer by the settings that its page gets, taken back")
def _():
    with Home() as home:
        with tavern(home, home.work):
            pass
        user = home.work / "data/default-user"
        before = {name: (user / name).read_bytes() for name in ("settings.json", "secrets.json") if (user / name).exists()}
        home.seaway("connect", "sillytavern", "--model", "claude-sonnet-4-5")
        written = {name: (user / name).read_bytes() for name in ("settings.json", "secrets.json")}
        with tavern(home, home.work) as ask:
            settings = json.loads(json.loads(ask("/api/settings/get", {}))["settings"])
            source = {name: settings["oai_settings"][name] for name in ("chat_completion_source", "custom_url")}
            equal("what its page chooses", (settings["main_api"], source), ("openai", {"chat_completion_source": "custom", "custom_url": home.url + "/v1"}))
            answers_in_tavern(ask, source, settings["oai_settings"]["custom_model"])
        equal("what it left of what was written", {name: (user / name).read_bytes() for name in written}, written)
        home.seaway("connect", "sillytavern", "--undo")
        equal("its files", {name: (user / name).read_bytes() for name in ("settings.json", "secrets.json") if (user / name).exists()}, before)


@check("Cline: set up, an answer, a tool of its own, taken back with what it wrote since")
def _():
    program = support.npm_packages("cline@3.0.65") / "node_modules/.bin/cline"
    theirs = {"version": 1, "lastUsedProvider": "gemini", "modes": {}, "providers": {"gemini": {"settings": {"provider": "gemini", "apiKey": "sk-theirs", "model": "g"}, "updatedAt": "2026-11-01T00:00:00.000Z", "tokenSource": "manual"}}}
    with Home() as home:
        path = home.home / ".cline/data/settings/providers.json"
        home.write(path, json.dumps(theirs, indent=2))
        home.seaway("connect", "cline", "--model", "claude-sonnet-4-5")
        quiet = {"CLINE_TELEMETRY_DISABLED": "1", "CLINE_NO_AUTO_UPDATE": "1"}
        answer = home.run(program, "--json", "[[say all is well]]", **quiet).stdout.splitlines()[-1]
        equal("the answer", json.loads(answer)["text"], "all is well")
        made = home.work / "made.txt"
        done = home.run(program, "--json", f"[[tool run_commands {json.dumps({'commands': [f'echo made by a tool > {made}']})}]]", **quiet)
        equal(f"the file {support.short(done.stdout, 3000)}", made.read_text() if made.exists() else None, "made by a tool\n")
        home.seaway("connect", "cline", "--undo")
        equal("what is left", json.loads(path.read_text()), theirs)
    with connected("cline", {}, "--model", "claude-sonnet-4-5"):
        pass


@check("goose, Zed, LibreChat: what is written is what their documentation says, and is taken back")
def _():
    # No registry has these programs; of goose the library that reads this file was tried by hand.
    model = "claude-sonnet-4-5"
    with connected("goose", {".config/goose/config.yaml": "GOOSE_PROVIDER: openai\n"}, "--model", model) as home:
        provider = json.loads((home.home / ".config/goose/custom_providers/seaway.json").read_text())
        equal("goose", (provider["engine"], provider["base_url"], provider["requires_auth"], provider["headers"]), ("anthropic", home.url, False, {"x-api-key": home.seaway("key", "show").stdout.strip()}))
        true("its models", all(set(one) == {"name", "context_limit"} for one in provider["models"]), provider["models"])
    with connected("zed", {".config/zed/settings.json": '// Zed settings\n{\n  "theme": "One Dark", // mine\n}\n'}, "--model", model) as home:
        text = (home.home / ".config/zed/settings.json").read_text()
        for part in ("// Zed settings", '"One Dark", // mine', f'"api_url": "{home.url}"', '"default_model"'):
            within("Zed", part, text)
    with Home() as home:
        home.write(home.work / "librechat.example.yaml", "version: 1.2.1\n")
        home.write(home.work / "docker-compose.yml", "services: {}\n")
        within("a container's loopback", "host.docker.internal", home.seaway("connect", "librechat", "--model", model).stderr)
        text = (home.work / "librechat.yaml").read_text()
        within("LibreChat", f'version: 1.2.1\nendpoints:\n  custom:\n    - name: Seaway\n', text)
        home.seaway("connect", "librechat", "--model", model)
        equal("the same again", (home.work / "librechat.yaml").read_text(), text)
        home.seaway("connect", "librechat", "--undo")
        true("it is gone", not (home.work / "librechat.yaml").exists(), "it is there")
        home.write(home.work / "librechat.yaml", "version: 1.1.0\nendpoints: {}\n")
        within("another's endpoints", "`endpoints` is set there by another hand", home.seaway("connect", "librechat", expect=1).stderr)



@check("what a client changed in its own settings meanwhile stays, and ours goes")
def _():
    with Home() as home:
        path = home.home / ".codex/config.toml"
        home.write(path, 'model = "gpt-5.5"\n')
        home.seaway("connect", "codex")
        path.write_text(path.read_text() + '\n[projects."/x"]\ntrust_level = "trusted"\n')
        home.seaway("connect", "codex", "--model", "opus")
        home.seaway("connect", "codex", "--undo")
        equal("settings", path.read_text(), 'model = "gpt-5.5"\n\n[projects."/x"]\ntrust_level = "trusted"\n')
        within("once more", "nothing to take back", home.seaway("connect", "codex", "--undo").stderr)


@check("what to type into the others is printed")
def _():
    with Home() as home:
        for name in ("cursor", "sillytavern", "librechat", "openclaw", "litellm", "mem0", "open-webui"):
            within(name, home.url, home.seaway("connect", name).stdout)
        within("unknown", "there is no client `nobody` here; there are claude, codex", home.seaway("connect", "nobody", expect=2).stderr)
        within("print only", '"apiKeyHelper"', home.seaway("connect", "claude", "--print").stdout)


@check("a gateway that was started with flags is found by who asks without them")
def _():
    with Home() as home:
        home.config.unlink()
        home.seaway("connect", "claude")
        within("its address", home.url, (home.home / ".claude/settings.json").read_text())
        done = home.seaway("run", "--", "sh", "-c", "echo $ANTHROPIC_BASE_URL")
        equal("and for a client that is started", done.stdout.strip(), home.url)


@check("`seaway run` starts a client with the right environment, with the gateway that runs or one of its own")
def _():
    script = "import json, os, urllib.request as u; r = u.Request(os.environ['OPENAI_BASE_URL'] + '/chat/completions', json.dumps({'model': 'sonnet', 'messages': [{'role': 'user', 'content': '[[say hi]]'}]}).encode(), {'authorization': 'Bearer ' + os.environ['OPENAI_API_KEY'], 'content-type': 'application/json'}); print(json.load(u.urlopen(r))['choices'][0]['message']['content'], os.environ['OPENAI_BASE_URL'])"
    with Home() as home:
        done = home.seaway("run", "--", sys.executable, "-c", script)
        equal("with the one that runs", done.stdout, f"hi {home.url}/v1\n")
        home.process.send_signal(signal.SIGTERM)
        home.process.wait(20)
        done = home.seaway("run", "--", sys.executable, "-c", script, ANTHROPIC_AUTH_TOKEN="elsewhere")
        equal("with one of its own", done.stdout, f"hi {home.url}/v1\n")
        equal("the client's status", home.seaway("run", "--", "sh", "-c", "exit 7", expect=7).returncode, 7)
        within("no such program", "there is no program `nowhere`", home.seaway("run", "--", "nowhere", expect=1).stderr)
        equal("nothing is left", home.files(), {})
        environment = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CONFIG_DIR": str(home.home / ".claude")}
        shutil.copy(support.claude_program(), home.work / "claude")
        home.write(home.work / ".claude/settings.json", '{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}}')
        done = home.seaway("run", "--", "./claude", "-p", "[[say through run]]", **environment)
        equal("Claude Code, in a project that leads elsewhere", done.stdout.strip(), "through run")


if __name__ == "__main__":
    if not LINUX:
        support.finish(0, 0)
    passed, failed = support.count_checks(workers=2)
    support.finish(passed, failed)
