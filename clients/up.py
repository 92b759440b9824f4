"""Checks of `seaway up` and `seaway down` over a home folder full of other settings: everything is set up, tried, and becomes what it was.

systemd's manager of a user is played by a small `systemctl` that reads the unit as systemd does, as far as the unit goes.
"""
import sys

sys.dont_write_bytecode = True
import contextlib, os, pathlib, shutil, signal, subprocess, tempfile, time
import support
from support import check, equal, true, within

SYSTEMCTL = r'''#!/usr/bin/env python3
import os, pathlib, re, shlex, signal, subprocess, sys, time
home = pathlib.Path(os.environ["HOME"])
said, pid = home / "systemctl.said", home / "systemctl.pid"
unit = home / ".config/systemd/user/seaway.service"
words = sys.argv[1:]
with said.open("a") as log: log.write(" ".join(words) + "\n")
assert words[0] == "--user", words
def read():
    text = unit.read_text().splitlines()
    value = lambda line: line.split("=", 1)[1]
    plain = lambda text: text.replace("%%", "%").replace("%h", str(home))
    environment = {}
    for line in text:
        if line.startswith("Environment="):
            (pair,) = shlex.split(plain(value(line)))
            environment.update([pair.split("=", 1)])
        elif line.startswith("EnvironmentFile=-"):
            path = pathlib.Path(plain(value(line)[1:]))
            for pair in path.read_text().splitlines() if path.exists() else []:
                if not pair.startswith("#"):
                    name, quoted = pair.split("=", 1)
                    assert quoted[0] == quoted[-1] == '"', quoted
                    environment[name] = re.sub(r'\\(["\\`$])', r"\1", quoted[1:-1])
    (start,) = [value(line) for line in text if line.startswith("ExecStart=")]
    return [word.replace("$$", "$") for word in shlex.split(plain(start))], {**environment, "HOME": str(home)}
def stop():
    if pid.exists():
        number = int(pid.read_text())
        try: os.kill(number, signal.SIGTERM)
        except ProcessLookupError: pass
        for _ in range(500):
            stat = pathlib.Path(f"/proc/{number}/stat")
            if not stat.exists() or ") Z" in stat.read_text(): break
            time.sleep(0.02)
        pid.unlink()
if words[1] == "show-environment": pass
elif words[1] == "daemon-reload": pass
elif words[1] == "enable":
    if not unit.exists(): sys.exit("Failed to enable unit: Unit file seaway.service does not exist.")
elif words[1] == "restart":
    stop()
    if (home / "die").exists():
        (home / "die").unlink()
        os.kill(os.getppid(), signal.SIGKILL)
        sys.exit(1)
    command, environment = read()
    started = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(home / "service.log").open("a"), start_new_session=True)
    pid.write_text(str(started.pid))
elif words[1] == "disable":
    stop()
    if not unit.exists(): sys.exit("Failed to disable unit: Unit file seaway.service does not exist.")
else: sys.exit(f"what is {words}?")
'''
# Settings that people have, of every client.
SETTINGS = {
    ".claude/settings.json": '{\n\t"model": "opus",\n\t"env": {"A": "1"}\n}\n',
    ".codex/config.toml": '# mine\nmodel = "gpt-5.5"   # here\n\n[mcp_servers.none]\ncommand = "true"\n',
    ".config/opencode/opencode.jsonc": '{\n  // mine\n  "autoupdate": false,\n}\n',
    ".aider.conf.yml": "# mine\nauto-commits: false\n",
    ".continue/config.yaml": "name: Local Config\nversion: 1.0.0\nschema: v1\nmodels: []\n",
    ".bashrc": "export EDITOR=vi\n",
    ".ssh/config": "Host *.cels.anl.gov\n  User ada\n",
}
PROGRAMS = ["claude", "codex", "opencode", "aider", "llm"]
OURS = ["systemctl.said", "systemctl.pid", "service.log"]


class Home:
    def __init__(self, systemctl=True, **variables):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="seaway-up-"))
        self.bin = self.home / "bin"
        self.bin.mkdir()
        for name, text in SETTINGS.items():
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in PROGRAMS:
            self.program(name, "#!/bin/sh\nexit 1\n")
        if systemctl:
            self.program("systemctl", SYSTEMCTL)
        # Nothing of this machine's own but what a shell needs.
        for name in ("sh", "python3", "env"):
            (self.bin / name).symlink_to(shutil.which(name))
        self.url = f"http://127.0.0.1:{support.reserved_port()}"
        self.environment = {"PATH": str(self.bin), "HOME": str(self.home), "SEAWAY_PORT": self.url.rsplit(":", 1)[1], "SEAWAY_DEFAULT_UPSTREAM": "sandbox", "LANG": "C.UTF-8", **variables}
        self.state = self.home / ".local/state/seaway"
        self.before = self.files()

    def program(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.seaway("down", expect=None)
        shutil.rmtree(self.home, ignore_errors=True)

    def seaway(self, *words, expect=0):
        done = subprocess.run([support.binary(), *words], env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if expect is not None:
            equal(f"status of {words}: {done.stdout[-900:]} {done.stderr[-900:]} {self.log()}", done.returncode, expect)
        return done

    def log(self):
        path = self.home / "service.log"
        return path.read_text()[-500:] if path.exists() else ""

    def files(self):
        """Every file, its bytes and mode, and every folder: but the state folder and what the player keeps."""
        found = {}
        for path in sorted(self.home.rglob("*")):
            name = str(path.relative_to(self.home))
            if self.state in (path, *path.parents) or path in self.state.parents or name in OURS:
                continue
            found[name] = (path.read_bytes(), path.stat().st_mode) if path.is_file() else "folder"
        return found

    def restored(self, when):
        equal(f"every file and folder {when}", self.files(), self.before)


@check("up starts a service and connects and tries every client; down puts back every byte")
def _():
    with Home(ANTHROPIC_API_KEY='sk-"$`\\x') as home:
        told = home.seaway("up", "--dry-run").stdout
        for part in ("Claude Code", "OpenAI's Codex", "a service of systemd's", "ANTHROPIC_API_KEY", "up --upstream argo", ".claude/settings.json"):
            within("the plan", part, told)
        true("no secret is shown", "sk-" not in told, told)
        home.restored("after a dry run")
        within("nobody agreed", "say `--yes`", home.seaway("up", expect=2).stderr)
        home.restored("where nobody agreed")
        done = home.seaway("up", "--yes")
        rows = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith(("ok ", "fail "))}
        equal("clients", sorted(rows), ["aider", "claude", "codex", "continue", "llm", "opencode"])
        for name, row in rows.items():
            true(f"{name} was tried", row.startswith("ok") and "answers" in row, row)
        equal("readable by its owner alone", oct((home.home / ".config/seaway/up.environment").stat().st_mode & 0o777), "0o600")
        true("no secret is in the unit", "sk-" not in (home.home / ".config/systemd/user/seaway.service").read_text())
        pid = (home.home / "systemctl.pid").read_text()
        within("the service has the shell's variables", 'ANTHROPIC_API_KEY=sk-"$`\\x\0', pathlib.Path(f"/proc/{pid}/environ").read_text())
        within("claude", home.url, (home.home / ".claude/settings.json").read_text())
        after = home.files()
        within("once more", "runs already", home.seaway("up", "--yes").stdout)
        equal("files after the second time", home.files(), after)
        home.seaway("down")
        home.restored("after down")
        true("records stay", (home.state / "seaway.db").exists())
        equal("nobody serves", home.seaway("status", expect=1).returncode, 1)
        home.seaway("down")
        home.restored("after the second down")
        home.seaway("down", "--purge")
        true("the state folder is gone", not home.state.exists())


@check("what was broken off in its midst can be done again, and taken back")
def _():
    with Home() as home:
        (home.home / "die").touch()
        home.before = home.files()
        done = home.seaway("up", "--yes", expect=None)
        equal("it was killed while it started the service", done.returncode, -signal.SIGKILL)
        home.before.pop("die")
        home.seaway("down")
        home.restored("after a down of half an up")
        (home.home / "die").touch()
        equal("killed again", home.seaway("up", "--yes", expect=None).returncode, -signal.SIGKILL)
        within("and gone on with", "answers", home.seaway("up", "--yes").stdout)
        home.seaway("down")
        home.restored("after all of it")


@check("what is of another hand is left alone and told, and everything else is done")
def _():
    with Home() as home:
        (home.home / ".claude/settings.json").write_text('{"apiKeyHelper": "theirs"}')
        home.before = home.files()
        done = home.seaway("up", "--yes", expect=1)
        within("which", "fail claude     left alone: ", done.stdout)
        within("why", "`apiKeyHelper` is set to something else there", done.stdout)
        within("the others", "ok   codex", done.stdout)
        home.seaway("down")
        home.restored("after down")
        unit = home.home / ".config/systemd/user/seaway.service"
        unit.parent.mkdir(parents=True)
        unit.write_text("[Service]\nExecStart=/bin/true\n")
        home.before = home.files()
        within("a unit of theirs", "not of `seaway up`", home.seaway("up", "--yes", expect=1).stderr)
        home.restored("where the unit is theirs")


@check("without a service manager it serves in the terminal, and the clients are connected meanwhile")
def _():
    with Home(systemctl=False) as home:
        serving = subprocess.Popen([support.binary(), "up", "--yes"], env=home.environment, cwd=home.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            told = ""
            for line in serving.stderr:
                told += line
                if "until Ctrl-C" in line:
                    break
            within("it says so", "until Ctrl-C", told)
            equal("it serves", home.seaway("status", expect=None).returncode, 0)
            within("claude", home.url, (home.home / ".claude/settings.json").read_text())
        finally:
            # To it alone, as a supervisor does: it passes it on.
            serving.terminate()
            out, _ = serving.communicate(timeout=30)
        equal("its status", serving.returncode, 0)
        within("clients", "ok   claude", out)
        end = time.monotonic() + 20
        while home.seaway("status", expect=None).returncode == 0:
            true("it ends", time.monotonic() < end)
            time.sleep(0.1)
        home.seaway("down")
        home.restored("after down")


@check("without a way to Claude nothing is done, and it is said what would be one; a secret on the command line goes into no service")
def _():
    with Home() as home:
        del home.environment["SEAWAY_DEFAULT_UPSTREAM"]
        (home.bin / "claude").unlink()
        home.before = home.files()
        within("why", "there is no way to Claude here yet", home.seaway("up", "--yes", expect=1).stderr)
        home.restored("where there is no way")
        within("why", "was given on this command line", home.seaway("up", "--yes", "--set", "upstream.x.kind=anthropic", "--set", "upstream.x.api_key=sk-x", expect=1).stderr)
        home.restored("where a secret was given")


@check("where nobody could stop the service, nothing of it is taken away")
def _():
    with Home() as home:
        home.seaway("up", "--yes", "--no-ask")
        tool = (home.bin / "systemctl").rename(home.bin / "hidden")
        within("why", "your service manager does not answer here", home.seaway("down", expect=1).stdout)
        true("the unit is there", (home.home / ".config/systemd/user/seaway.service").exists())
        within("it runs on", "left alone", home.seaway("down", "--purge", expect=1).stderr)
        tool.rename(home.bin / "systemctl")
        home.seaway("down")
        home.restored("after a down that could")
        (home.state / "mine.txt").write_text("mine")
        within("what is not ours", "`mine.txt`, which is none of Seaway's", home.seaway("down", "--purge", expect=1).stderr)
        (home.state / "mine.txt").unlink()
        home.seaway("down", "--purge")
        true("the state folder is gone", not home.state.exists())


@check("the unit is one that systemd takes")
def _():
    tool = shutil.which("systemd-analyze")
    true("systemd-analyze is there (`apt-get install systemd`)", tool)
    with Home() as home:
        home.seaway("up", "--yes", "--no-ask")
        unit = home.home / ".config/systemd/user/seaway.service"
        done = subprocess.run([tool, "--user", "verify", "--man=no", str(unit)], env={"PATH": os.environ["PATH"], "HOME": str(home.home), "XDG_RUNTIME_DIR": str(home.home)}, capture_output=True, text=True)
        equal(f"what it says {done.stderr}", [line for line in done.stderr.splitlines() if "seaway" in line], [])


if __name__ == "__main__":
    support.finish(*support.count_checks())
