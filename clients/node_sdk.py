"""Runs node_sdk.mjs, the checks with the `@anthropic-ai/sdk` Node SDK, against Seaway. Installs the SDK into the cache."""
import sys

sys.dont_write_bytecode = True
from support import Seaway, Upstream, npm_packages, run_node

if __name__ == "__main__":
    folder = npm_packages("@anthropic-ai/sdk@1.11.0")
    with Upstream() as upstream, Seaway("--body-limit", "256KiB") as sandbox, Seaway(upstream=upstream.url) as scripted:
        run_node("node_sdk.mjs", folder, SANDBOX=sandbox.url, SCRIPTED=scripted.url, UPSTREAM=upstream.url)
