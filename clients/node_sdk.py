"""Runs node_sdk.mjs, the checks with the `@anthropic-ai/sdk` Node SDK, against Seaway. Installs the SDK into the cache."""
import sys

sys.dont_write_bytecode = True
import os, shutil, subprocess
from support import HERE, LOCAL_KEY, UPSTREAM_KEY, Seaway, Upstream, npm_package

VERSION = "1.11.0"


def main():
    if not shutil.which("node") or not shutil.which("npm"):
        sys.exit("node and npm are needed for the checks with the Node SDK")
    folder = npm_package("@anthropic-ai/sdk", VERSION)
    with Upstream() as upstream, Seaway("--body-limit", "256KiB") as sandbox, Seaway(upstream=upstream.url) as scripted:
        environment = {"PATH": os.environ["PATH"], "HOME": sandbox.folder, "SDK": str(folder), "SANDBOX": sandbox.url, "SCRIPTED": scripted.url,
                       "UPSTREAM": upstream.url, "LOCAL_KEY": LOCAL_KEY, "UPSTREAM_KEY": UPSTREAM_KEY}
        sys.exit(subprocess.run(["node", HERE / "node_sdk.mjs", *sys.argv[1:]], env=environment, stdin=subprocess.DEVNULL, timeout=300).returncode)


if __name__ == "__main__":
    main()
