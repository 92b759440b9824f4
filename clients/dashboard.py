"""Runs dashboard.mjs: the dashboard in a headless Chromium, in front of the sandbox and of a stand-in for the Claude Code program.

Chromium is Debian's (`apt-get install chromium`), or what SEAWAY_CHROMIUM names. The stand-in is `fake-claude`, which `cargo test` builds.
Pictures of the page go to target/dashboard, or where SEAWAY_PICTURES says: docs/pictures has two of them.
"""
import sys

sys.dont_write_bytecode = True
import os, pathlib, pty, re, shutil, subprocess, tempfile
import support
from support import REPO, Seaway, npm_tool, run_node


def link(gateway):
    """What `seaway status` prints to a terminal: it signs a browser in once."""
    leader, follower = pty.openpty()
    command = [support.binary(), "status", "--state-dir", f"{gateway.folder}/state"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=follower, env={"PATH": os.environ["PATH"], "HOME": gateway.folder}, check=True, timeout=20)
    os.close(follower)
    said = os.read(leader, 1 << 16).decode()
    os.close(leader)
    return re.search(r"open +(\S+#in=\S+) in a browser", said)[1]


if __name__ == "__main__":
    chromium = os.environ.get("SEAWAY_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    fake = next((path for path in (REPO / "target/debug/fake-claude", REPO / "target/release/fake-claude") if path.exists()), None)
    if not chromium or not fake:
        print("FAIL  the dashboard needs a Chromium (`apt-get install chromium`) and target/debug/fake-claude (`cargo test` builds it)")
        support.finish(0, 1)
    packages = npm_tool("playwright-core@1.65.1")
    pictures = pathlib.Path(os.environ.get("SEAWAY_PICTURES") or REPO / "target/dashboard")
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "1").write_text('wait "client_composed":true\nplay text\n')
        program = folder / "claude"
        program.write_text(f"#!/bin/sh\nexec '{fake}' '{folder}' \"$@\"\n")
        program.chmod(0o755)
        # The stand-in writes down what it is told, beside its script: more than Claude Code may where the gateway is confined.
        settings = {"confine": "false", "upstream.sandbox.kind": "sandbox", "upstream.plan.kind": "claude-code", "claude_code.path": program, "upstream.sandbox.concurrency": 4, "default_upstream": "sandbox"}
        config = folder / "seaway.toml"
        config.write_text('[[route]]\nmodel = "claude-sonnet-5-5"\nupstream = "plan"\n[price."claude-*"]\ninput = 3\noutput = 15\n')
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        with Seaway(*words, "--config", str(config), upstream=False) as gateway:
            run_node("dashboard.mjs", packages, GATEWAY=gateway.url, CHROMIUM=chromium, PICTURES=str(pictures), LINK=link(gateway))
