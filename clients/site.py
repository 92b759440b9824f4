"""Builds the site of `docs/` with mdBook, and follows every link in it. Needs cargo for mdBook, npm for linkinator.

The site is left at target/site.
"""
import sys

sys.dont_write_bytecode = True
import json, pathlib, re, shutil, subprocess, tempfile
import support
from support import CACHE, REPO, check, equal, true

MDBOOK, LINKINATOR = "0.5.4", "linkinator@7.6.1"


def mdbook():
    """Its own release is not asked for: cargo builds it, without what makes it fast."""
    found = shutil.which("mdbook")
    if found:
        return found
    root = CACHE / f"mdbook-{MDBOOK}"
    if not (root / "bin/mdbook").exists():
        command = ["cargo", "install", "--quiet", "--locked", "--debug", "--root", root, "--no-default-features", "--features", "search", f"mdbook@{MDBOOK}"]
        subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL, cwd=CACHE)
    return str(root / "bin/mdbook")


def build(root, site):
    return subprocess.run([mdbook(), "build", str(root), "--dest-dir", str(site)], capture_output=True, text=True, timeout=120)


def broken(site):
    """What leads nowhere, within the site: pages, pictures, places in a page."""
    program = support.npm_tool(LINKINATOR) / "node_modules/.bin/linkinator"
    command = [program, ".", "--recurse", "--check-fragments", "--format", "json", "--verbosity", "info", "--skip", r"^https?://(?!localhost)"]
    done = subprocess.run([str(word) for word in command], cwd=site, capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)
    true("links were followed", len(found["links"]) > 3, support.short(done.stdout))
    return [(link["parent"], link["url"]) for link in found["links"] if link["state"] == "BROKEN"]


@check("the site is built without a complaint, with every page of docs")
def _():
    site = REPO / "target/site"
    done = build(REPO, site)
    equal(f"status {done.stderr}", done.returncode, 0)
    equal("complaints", [line for line in (done.stdout + done.stderr).splitlines() if re.search(r"WARN|ERROR", line)], [])
    pages = [path.relative_to(REPO / "docs") for path in (REPO / "docs").rglob("*.md") if path.name != "SUMMARY.md"]
    missing = [str(page) for page in pages if not (site / page.with_suffix(".html")).exists() and page.name != "README.md"]
    equal("pages without a page", missing, [])


@check("every link in the site leads somewhere, and every picture is there")
def _():
    equal("broken", broken(REPO / "target/site"), [])


@check("a link that leads nowhere is found")
def _():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "src").mkdir()
        (root / "book.toml").write_text('[book]\ntitle = "x"\n')
        (root / "src/SUMMARY.md").write_text("# x\n\n- [a](a.md)\n- [b](b.md)\n")
        (root / "src/a.md").write_text("# a\n\n[good](b.md#b) [no page](c.md) [no place](b.md#nowhere) ![no picture](p.png)\n")
        (root / "src/b.md").write_text("# b\n")
        equal("built", build(root, root / "site").returncode, 0)
        urls = [url for _, url in broken(root / "site")]
        for lost in ("c.html", "b.html#nowhere", "p.png"):
            true(f"{lost} is found", any(url.endswith(lost) for url in urls), urls)
        true("what is there is not", not any(url.endswith("b.html#b") for url in urls), urls)



if __name__ == "__main__":
    support.finish(*support.count_checks())
