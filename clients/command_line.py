"""End-to-end checks with `llm` and `aider`, the command line programs, against Seaway's Chat surface."""
import sys

sys.dont_write_bytecode = True
import json, os, pathlib, subprocess
import support
from support import LOCAL_KEY, Seaway, check, equal, true, within

GATEWAY = Seaway()
LLM = support.venv("llm==0.36") / "llm"
AIDER = support.venv("aider-chat==0.86.2") / "aider"


def run(program, *args, **more):
    home = pathlib.Path(GATEWAY.folder)
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home), "LLM_USER_PATH": str(home / "llm"), "OPENAI_API_KEY": LOCAL_KEY, "OPENAI_API_BASE": GATEWAY.url + "/v1",
                   "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run([program, *args], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, **more)
    return done.returncode, done.stdout, done.stderr


def llm(*args):
    folder = pathlib.Path(GATEWAY.folder) / "llm"
    folder.mkdir(exist_ok=True)
    (folder / "extra-openai-models.yaml").write_text(f"- model_id: seaway\n  model_name: claude-opus-5-5\n  api_base: {GATEWAY.url}/v1\n  api_key_name: seaway\n  supports_tools: true\n  supports_schema: true\n")
    return run(LLM, "-m", "seaway", "--key", LOCAL_KEY, *args)


@check("llm: an answer, streamed and not")
def _():
    for extra in ([], ["--no-stream"]):
        equal("answer", llm(*extra, "hello there, wörld")[:2], (0, "hello there, wörld\n"))


@check("llm: a schema and a tool")
def _():
    code, out, err = llm("--schema", "name, age int", "who?")
    equal("members", (code, sorted(json.loads(out))), (0, ["age", "name"]))
    code, out, err = llm("-T", "llm_version", "[[tool llm_version {}]]")
    equal("status", code, 0)
    within("the tool's answer", "The tool answered: 0.36", out)


@check("llm: a failure is told in the upstream's words")
def _():
    code, out, err = llm("[[error 400 invalid_request_error word for word]]")
    true("a failure", code != 0, code)
    within("words", "word for word", err)


@check("aider: edits a file as it is told")
def _():
    work = pathlib.Path(GATEWAY.folder) / "work"
    work.mkdir()
    (work / "a.py").write_text("x = 1\n")
    # What it would fetch.
    caches = pathlib.Path(GATEWAY.folder) / ".aider/caches"
    caches.mkdir(parents=True)
    (caches / "model_prices_and_context_window.json").write_text("{}")
    edit = "[[say a.py\n```python\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE\n```\n]]"
    code, out, err = run(AIDER, "--model", "openai/claude-opus-5-5", "--edit-format", "diff", "--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings",
                         "--no-show-release-notes", "--analytics-disable", "--no-pretty", "--no-auto-lint", "--message", "Make x two. " + edit, "a.py", cwd=work)
    equal("status", code, 0)
    equal("the file", (work / "a.py").read_text(), "x = 2\n")


if __name__ == "__main__":
    with GATEWAY:
        support.run_checks()
