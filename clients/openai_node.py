"""Runs openai_node.mjs, the checks with the `openai` Node SDK and Vercel's AI SDK, against Seaway. Installs them into the cache."""
import sys

sys.dont_write_bytecode = True
from support import Seaway, Upstream, npm_packages, run_node

if __name__ == "__main__":
    folder = npm_packages("openai@7.57.0", "zod@4.6.7", "ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92", "@ai-sdk/openai@4.0.118")
    with Upstream() as upstream, Seaway() as sandbox, Seaway(upstream=upstream.url) as scripted:
        run_node("openai_node.mjs", folder, SANDBOX=sandbox.url, SCRIPTED=scripted.url, UPSTREAM=upstream.url)
