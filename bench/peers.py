"""Other gateways that can be installed here, each at a pinned release, with the settings that are fair to it: one upstream, a key, no retries, no cache, no log
of bodies, as many workers as cores where it has workers."""
import json, os, pathlib, shutil, subprocess, sys

CACHE = pathlib.Path.home() / ".cache/seaway-bench"
KEY = "sk-conformance-key"


def venv(package, version, extra=""):
    """The programs of a Python package."""
    folder = CACHE / f"{package}-{version}"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "-q", "--disable-pip-version-check", f"{package}{extra}=={version}"], check=True)
        (folder / "complete").touch()
    return folder / "bin"


def npm(package, version):
    """The folder of an npm package."""
    prefix = CACHE / f"{package.split('/')[-1]}-{version}"
    if not (prefix / "complete").exists():
        prefix.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--prefix", prefix, "--no-audit", "--no-fund", "--silent", f"{package}@{version}"], check=True)
        (prefix / "complete").touch()
    return prefix / "node_modules" / package


def cargo(package, version, *flags):
    """The programs of a crate."""
    root = CACHE / f"{package}-{version}"
    if not (root / "bin").exists():
        subprocess.run(["cargo", "install", "--locked", "--quiet", "--root", root, *flags, f"{package}@{version}"], check=True)
    return root / "bin"


class Peer:
    """What is to be known of a gateway: `start` gives its command, its files being in `folder` and its upstream at `upstream`."""

    version = home = ""
    # Where it answers what; nothing where it does not.
    paths = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}
    key_is_private = True

    def __init__(self, name):
        self.name = name

    def environment(self, folder):
        return {"PATH": os.environ["PATH"], "HOME": str(folder), "NODE_ENV": "production"}

    # What is said in the page beside its row.
    remark = ""

    def headers(self, upstream):
        """What a request needs beside the key."""
        return {}


class Seaway(Peer):
    home = "this repository"

    def __init__(self, name, binary):
        super().__init__(name)
        self.binary = binary
        self.version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]

    def start(self, folder, port, upstream):
        return [self.binary, "serve", "--listen", f"127.0.0.1:{port}", "--state-dir", folder / "state", "--api-key", KEY, "--log-level", "info",
                "--set", "upstream.b.kind=messages", "--set", f"upstream.b.base_url={upstream}", "--set", "upstream.b.api_key=sk-upstream", "--set", "upstream.b.retries=0"]


class LiteLlm(Peer):
    # The proxy of 1.110 needs a package that PyPI does not have.
    version, home = "1.90.0", "PyPI, `litellm[proxy]`"

    def environment(self, folder):
        return {**super().environment(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}

    def start(self, folder, port, upstream):
        # What is JSON is YAML too.
        settings = {
            "model_list": [{"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*", "api_base": upstream, "api_key": "sk-upstream"}}],
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"telemetry": False, "num_retries": 0, "drop_params": False},
            "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        }
        (folder / "litellm.yaml").write_text(json.dumps(settings))
        return [venv("litellm", self.version, "[proxy]") / "litellm", "--config", folder / "litellm.yaml", "--host", "127.0.0.1", "--port", port, "--num_workers", os.cpu_count(), "--telemetry", "False"]


class Portkey(Peer):
    version, home = "1.15.2", "npm, `@portkey-ai/gateway`"
    # It has no key of its own: what the client shows goes up. Responses it does not have for Claude ("createModelResponse is not supported by anthropic").
    key_is_private = False
    paths = {"messages": "/v1/messages", "chat": "/v1/chat/completions"}
    remark = "under Node 20 its streams in Messages are a 500 of its own, for it changes headers that cannot be changed; in Chat it wants `max_tokens`"

    def environment(self, folder):
        return {**super().environment(folder), "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}

    def headers(self, upstream):
        return {"x-portkey-provider": "anthropic", "x-portkey-custom-host": f"{upstream}/v1"}

    def start(self, folder, port, upstream):
        return ["node", npm("@portkey-ai/gateway", self.version) / "build/start-server.js", "--headless", f"--port={port}"]


class ClaudeCodeRouter(Peer):
    # 3.1.1 needs a package that the registry does not have.
    version, home = "2.0.0", "npm, `@musistudio/claude-code-router`"
    paths = {"messages": "/v1/messages"}

    def start(self, folder, port, upstream):
        names = ["claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-opus-5-5", "claude-sonnet-5-5"]
        settings = {
            "PORT": port, "HOST": "127.0.0.1", "APIKEY": KEY, "LOG": False, "NON_INTERACTIVE_MODE": True,
            "Providers": [{"name": "up", "api_base_url": f"{upstream}/v1/messages", "api_key": "sk-upstream", "models": names, "transformer": {"use": ["Anthropic"]}}],
            "Router": {"default": "up,claude-haiku-4-5"},
        }
        (folder / ".claude-code-router").mkdir(exist_ok=True)
        (folder / ".claude-code-router/config.json").write_text(json.dumps(settings))
        return ["node", npm("@musistudio/claude-code-router", self.version) / "dist/cli.js", "start"]


class FerryLlm(Peer):
    version, home = "0.3.2", "crates.io, `ferryllm`"

    def environment(self, folder):
        return {**super().environment(folder), "UPSTREAM_KEY": "sk-upstream", "CLIENT_KEYS": KEY}

    def start(self, folder, port, upstream):
        (folder / "ferryllm.toml").write_text(f"""
[server]
listen = "127.0.0.1:{port}"
request_timeout_secs = 300
body_limit_mb = 32
[logging]
level = "warn"
[auth]
enabled = true
api_keys_env = "CLIENT_KEYS"
[metrics]
enabled = true
[[providers]]
name = "up"
type = "anthropic"
base_url = "{upstream}"
api_key_env = "UPSTREAM_KEY"
[[routes]]
match = "*"
provider = "up"
""")
        return [cargo("ferryllm", self.version) / "ferryllm", "serve", "--config", folder / "ferryllm.toml"]


class Rlcd(Peer):
    version, home = "0.1.2", "PyPI, `rlcd-gateway`"
    # "Cross-protocol translation is not supported", it says of a route for OpenAI's dialects to Claude.
    paths = {"messages": "/v1/messages"}

    def environment(self, folder):
        return {**super().environment(folder), "RLCD_GATEWAY_HOME": str(folder), "UPSTREAM_KEY": "sk-upstream"}

    def start(self, folder, port, upstream):
        route = {"kind": "anthropic", "base_url": upstream, "auth": "key", "api_key_env": "UPSTREAM_KEY"}
        settings = {"listen": f"127.0.0.1:{port}", "active_route": "up", "routes": {"up": route}, "passthrough_base_url": upstream, "log_bodies": False}
        (folder / "config.json").write_text(json.dumps(settings))
        return [venv("rlcd-gateway", self.version) / "rlcd-gateway", "serve"]


class ArgoProxy(Peer):
    version, home = "3.3.3", "PyPI, `argo-proxy`"

    def start(self, folder, port, upstream):
        settings = {"host": "127.0.0.1", "port": port, "user": "bench", "verbose": False, "argo_base_url": upstream, "native_anthropic_base_url": upstream,
                    "native_openai_base_url": f"{upstream}/v1", "skip_url_validation": True, "anthropic_stream_mode": "passthrough", "config_version": "3.3.3"}
        (folder / "config.yaml").write_text(json.dumps(settings))
        return [venv("argo-proxy", self.version) / "argo-proxy", "serve", folder / "config.yaml"]


PEERS = {"LiteLLM": LiteLlm, "argo-proxy": ArgoProxy, "Portkey": Portkey, "claude-code-router": ClaudeCodeRouter, "ferryllm": FerryLlm, "RLCD": Rlcd}
# Named in the page, with why.
UNMEASURED = {
    "claude-code-router 3": "it needs a package that the registry does not have; 2.0.0 stands for it",
    "shunt": "its accounts may not be on loopback, where all of this is measured",
}
