"""Installs what `deploy/release` made, each in an empty environment, and runs it; holds the release's files against what they say.

What is looked at is in target/release-archives. How long each way takes until the first answer is printed.
"""
import sys

sys.dont_write_bytecode = True
import contextlib, functools, hashlib, http.server, json, os, pathlib, platform, re, shutil, signal, subprocess, tarfile, tempfile, threading, time, tomllib, zipfile
import support

support.in_venv("check-jsonschema==0.39.0", "uv==0.11.0")
from support import REPO, check, equal, true, within

MADE = REPO / "target/release-archives"
BIN = pathlib.Path(sys.prefix) / "bin"
VERSION = re.search(r'^version = "(.*)"', (REPO / "Cargo.toml").read_text(), re.M)[1]
LINUX = sys.platform == "linux"
DEMO = ["demo", "--once", "--listen", "127.0.0.1:0"]


def one(pattern):
    found = sorted(MADE.glob(pattern))
    equal(f"files like {pattern} (`deploy/release` makes them)", len(found), 1)
    return found[0]


def run(*command, expect=0, limit=300, **more):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, **more)
    if expect is not None:
        equal(f"status of {' '.join(str(word) for word in command[:3])}: {support.short(done.stdout)} {support.short(done.stderr)}", done.returncode, expect)
    return done


@contextlib.contextmanager
def empty():
    """A home folder with nothing in it, and an environment that knows no other."""
    with tempfile.TemporaryDirectory(prefix="seaway-packages-") as folder:
        yield pathlib.Path(folder), {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}


def answers(began, way, *program, **more):
    """The program says its version, and answers a request."""
    within("version", f"seaway {VERSION}", run(*program, "--version", **more).stdout)
    done = run(*program, *DEMO, **more)
    true("it shows an answer", len(done.stdout) > 100, done.stdout + done.stderr)
    print(f"      {way}: an answer {time.monotonic() - began:.1f} s after nothing was there", flush=True)


@check("the wheel runs on old systems, is small, and holds the program alone")
def _():
    wheel = one("*.whl")
    true("size in MB", wheel.stat().st_size < 12e6, wheel.stat().st_size / 1e6)
    if LINUX:
        within("what it runs on", "manylinux_2_17", wheel.name)
    with zipfile.ZipFile(wheel) as files:
        programs = [name for name in files.namelist() if "/scripts/" in name]
        equal("programs", [name.rsplit("/", 1)[1] for name in programs], ["seaway"])
        program = files.read(programs[0])
        metadata = files.read(next(name for name in files.namelist() if name.endswith(".dist-info/METADATA"))).decode()
    within("version", f"\nVersion: {VERSION}\n", metadata)
    if LINUX:
        wanted = {tuple(map(int, version.decode().split("."))) for version in re.findall(rb"GLIBC_(\d+\.\d+(?:\.\d+)?)\0", program)}
        true("the newest glibc that it wants", wanted and max(wanted) <= (2, 17), sorted(wanted))


@check("pip installs it from the wheel into an empty environment, and it answers")
def _():
    with empty() as (home, environment):
        began = time.monotonic()
        run(sys.executable, "-m", "venv", home / "v")
        run(home / "v/bin/pip", "install", "--no-index", "--disable-pip-version-check", one("*.whl"), env=environment)
        answers(began, "pip", home / "v/bin/seaway", env=environment)


@check("uvx runs it from the wheel, as it would by name")
def _():
    with empty() as (home, environment):
        began = time.monotonic()
        answers(began, "uvx", BIN / "uvx", "--offline", "--from", one("*.whl"), "seaway", env=environment)


@check("npm installs launcher and program into an empty prefix, runs no script of theirs, and it answers")
def _():
    with empty() as (home, environment):
        began = time.monotonic()
        packages = sorted(MADE.glob("seaway-*.tgz"))
        equal("packages", len(packages), 2)
        run("npm", "install", "--prefix", home / "p", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional", *packages, env=environment)
        program = home / "p/node_modules/.bin/seaway"
        answers(began, "npm", program, env=environment)
        equal("its status is the program's", run(program, "nonsense", env=environment, expect=None).returncode, 2)
        # A signal to the launcher is one to the gateway.
        port = support.reserved_port()
        serving = subprocess.Popen([program, "serve", "--upstream", "sandbox", "--listen", f"127.0.0.1:{port}"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            status = lambda: run(program, "status", env=environment, expect=None).returncode
            end = time.monotonic() + 20
            while status() != 0:
                true("it serves", time.monotonic() < end)
                time.sleep(0.1)
        finally:
            serving.send_signal(signal.SIGTERM)
            equal("status after SIGTERM", serving.wait(20), 0)
        equal("nobody serves any more", status(), 1)
        (program_of,) = (home / "p/node_modules").glob("seaway-*-*")
        shutil.rmtree(program_of)
        missing = run(program, "--version", env=environment, expect=1)
        within("what is missing is named", f"the package {program_of.name} is not installed", missing.stderr)


@contextlib.contextmanager
def downloads(folder):
    """The files of a release on a server of this machine's."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@check("the install script installs what its checksum names, and nothing else")
def _():
    with empty() as (home, environment), downloads(MADE) as address:
        began = time.monotonic()
        done = run("sh", MADE / "install.sh", env={**environment, "SEAWAY_DOWNLOADS": address})
        within("where it went", str(home / ".local/bin/seaway"), done.stdout)
        answers(began, "install.sh", home / ".local/bin/seaway", env=environment)
        true("pages", (home / ".local/share/man/man1/seaway.1").exists())
    with empty() as (home, environment), tempfile.TemporaryDirectory() as bad:
        shutil.copy(MADE / "SHA256SUMS", bad)
        archive = one("seaway-*.tar.gz")
        (pathlib.Path(bad) / archive.name).write_bytes(archive.read_bytes()[:-1] + b"x")
        with downloads(bad) as address:
            done = run("sh", MADE / "install.sh", env={**environment, "SEAWAY_DOWNLOADS": address}, expect=1)
        within("why not", "is not what SHA256SUMS says", done.stderr)
        true("nothing is there", not (home / ".local/bin/seaway").exists())
        done = run("sh", MADE / "install.sh", env={**environment, "SEAWAY_DOWNLOADS": address}, expect=1)
        within("what cannot be had", "cannot be downloaded", done.stderr)


@check("the archive has all that belongs to it, its owner is nobody in particular, and the checksums are those of all files")
def _():
    with tarfile.open(one("seaway-*.tar.gz")) as tar:
        names = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
        wanted = {"seaway", "README.md", "LICENSE-MIT", "seaway.cdx.json", "man/seaway.1", "man/seaway-config-import.1", "completions/seaway.bash", "completions/seaway.zsh", "completions/seaway.fish", "systemd/seaway.service", "launchd/seaway.gateway.plist", "docs/migrate.md"}
        equal("what is missing", wanted - names, set())
        equal("who owns them", {(entry.uid, entry.gid) for entry in tar.getmembers()}, {(0, 0)})
    told = dict(reversed(line.split("  ", 1)) for line in (MADE / "SHA256SUMS").read_text().splitlines())
    equal("files with a checksum", set(told), {path.name for path in MADE.iterdir()} - {"SHA256SUMS"})
    for name, expected in told.items():
        equal(f"checksum of {name}", hashlib.sha256((MADE / name).read_bytes()).hexdigest(), expected)


@check("nothing that is published names a folder that it was made in")
def _():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for path in MADE.iterdir():
            place = folder / path.name
            if path.suffix in (".whl", ".zip"):
                zipfile.ZipFile(path).extractall(place)
            elif path.suffix in (".gz", ".tgz"):
                tarfile.open(path).extractall(place, filter="data")
            elif path.suffix == ".deb":
                run("dpkg-deb", "--raw-extract", path, place)
            else:
                shutil.copy(path, place)
        files = [path for path in folder.rglob("*") if path.is_file()]
        true("files were looked at", len(files) > 60, files)
        for name in (str(REPO), str(pathlib.Path.home() / ".cargo")):
            equal(f"what names {name}", [str(path.relative_to(folder)) for path in files if name.encode() in path.read_bytes()], [])
        bills = [path for path in files if path.name.endswith(("cdx.json", "cyclonedx.json"))]
        equal("bills of materials: the wheel's, the archive's, the one beside it", (len(bills), len({path.read_bytes() for path in bills})), (3, 1))


@check("what `cargo binstall` would ask for is the archive, with the program where it looks")
def _():
    told = tomllib.loads((REPO / "crates/seaway/Cargo.toml").read_text())["package"]["metadata"]["binstall"]
    version = tomllib.loads((REPO / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    archive = one("seaway-*.tar.gz")
    target = archive.name.removeprefix(f"seaway-{version}-").removesuffix(".tar.gz")
    words = {"repo": "R", "version": version, "target": target, "archive-suffix": ".tar.gz", "bin": "seaway", "binary-ext": ""}
    filled = lambda text: re.sub(r"\{ ([\w-]+) \}", lambda word: words[word[1]], text)
    equal("form", told["pkg-fmt"], "tgz")
    equal("address", filled(told["pkg-url"]), f"R/releases/download/v{version}/{archive.name}")
    with tarfile.open(archive) as tar:
        equal("the program", tar.getmember(filled(told["bin-dir"])).mode & 0o777, 0o755)


@check("the bill of materials is CycloneDX, names what is in the program with its licences, and no folder of ours")
def _():
    text = one("*.cdx.json").read_text()
    bill = json.loads(text)
    equal("form", (bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.5"))
    parts = {part["name"]: part for part in bill["components"]}
    equal("what is missing", {"tokio", "hyper", "rustls", "rusqlite", "libsqlite3-sys", "mimalloc"} - set(parts), set())
    equal("without a licence", [name for name, part in parts.items() if name != "seaway-wire" and not part.get("licenses")], [])
    true("no folder", str(REPO) not in text and str(pathlib.Path.home()) not in text)


@check("the Homebrew formula names this archive by its checksum")
def _():
    formula = (MADE / "seaway.rb").read_text()
    archive = one("seaway-*.tar.gz")
    within("archive", f'/{archive.name}"\n      sha256 "{hashlib.sha256(archive.read_bytes()).hexdigest()}"', formula)
    if shutil.which("ruby"):
        within("syntax", "Syntax OK", run("ruby", "-c", MADE / "seaway.rb").stdout)


def package():
    return one("seaway_*.deb")


if LINUX:

    @check("the Debian package has service, pages and completions, and installs into a root with nothing but a base system")
    def _():
        listed = run("dpkg-deb", "--contents", package()).stdout
        for path in ("usr/bin/seaway", "usr/lib/systemd/user/seaway.service", "usr/lib/systemd/system/seaway.service", "usr/share/man/man1/seaway.1.gz", "usr/share/bash-completion/completions/seaway", "usr/share/zsh/vendor-completions/_seaway", "usr/share/fish/vendor_completions.d/seaway.fish", "usr/share/doc/seaway/copyright"):
            within("file", f" ./{path}\n", listed)
        equal("owners", {line.split()[1] for line in listed.splitlines()}, {"root/root"})
        with tempfile.TemporaryDirectory() as folder:
            run("dpkg-deb", "--extract", package(), folder)
            within("the service's program", "\nExecStart=/usr/bin/seaway serve", (pathlib.Path(folder) / "usr/lib/systemd/system/seaway.service").read_text())
            env = {**os.environ, "LC_ALL": "C"}
            if os.geteuid() == 0 and shutil.which("debootstrap"):
                sources = run("sh", "-c", "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null; true").stdout
                mirror = re.search(r"^(?:URIs:|deb(?: \[.*\])?) +(\S+)", sources, re.M)[1]
                suite = re.search(r"VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text())[1]
                root = pathlib.Path(folder) / "root"
                run("debootstrap", "--variant=minbase", suite, root, mirror, limit=600, env=env)
                shutil.copy(package(), root / "seaway.deb")
                run("chroot", root, "dpkg", "--install", "/seaway.deb", env=env)
                began = time.monotonic()
                answers(began, "the Debian package", shutil.which("chroot"), root, "/usr/bin/seaway", env={"PATH": "/usr/bin:/bin", "HOME": "/root"})
                run("chroot", root, "dpkg", "--purge", "seaway", env=env)
                true("nothing is left", not list(root.glob("usr/bin/seaway")) and not list(root.glob("usr/share/doc/seaway")))
            else:
                print("      not installed: that needs root and debootstrap", flush=True)

    @check("the image's root file system is under 40 MB, and the gateway serves in it as another user, read-only")
    def _():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder) / "root"
            with zipfile.ZipFile(one("*.whl")) as files:
                (name,) = [name for name in files.namelist() if name.endswith("/scripts/seaway")]
                program = pathlib.Path(files.extract(name, folder))
            program.chmod(0o755)
            run(REPO / "deploy/rootfs", root, program)
            size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
            true("size in MB", size < 40e6, size / 1e6)
            if os.geteuid() != 0:
                print("      not started: that needs root", flush=True)
                return
            port = support.reserved_port()
            inside = {"SEAWAY_LISTEN": f"127.0.0.1:{port}", "SEAWAY_STATE_DIR": "/var/lib/seaway", "HOME": "/var/lib/seaway", "PATH": "/usr/local/bin:/usr/bin:/bin"}
            # Mounts of its own: the root read-only, a folder for what it keeps, the devices and processes that an engine gives.
            script = f"""set -e
                chroot=$(command -v chroot)
                mount --make-rprivate /
                mount --bind {root} {root}
                mount -t tmpfs -o mode=0700,uid=7329,gid=7329 none {root}/var/lib/seaway
                mount --rbind /dev {root}/dev
                mount -t proc none {root}/proc
                mount -o remount,bind,ro {root}
                exec env -i {" ".join(f"{name}={value}" for name, value in inside.items())} "$chroot" --userspec=7329:7329 {root} /usr/local/bin/seaway "$@" """
            words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]
            serving = subprocess.Popen([*words, "serve", "--upstream", "sandbox"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            pid = None
            try:
                end = time.monotonic() + 20
                while True:
                    true(f"it serves: {serving.poll()}", time.monotonic() < end and serving.poll() is None, serving.poll() is not None and serving.stderr.read())
                    with contextlib.suppress(OSError):
                        alive = support.urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5).status
                        break
                    time.sleep(0.05)
                equal("alive", alive, 200)
                # Its health check, its key and ssh, in the same place.
                pid = run("pgrep", "--parent", serving.pid).stdout.strip()
                nsenter = shutil.which("nsenter")
                beside = lambda *words, **more: run(nsenter, f"--target={pid}", "--mount", "--root", "--setuid=7329", "--setgid=7329", *words, env=inside, **more)
                within("its health check", f"127.0.0.1:{port}", beside("/usr/local/bin/seaway", "status").stdout)
                within("ssh", "OpenSSH", beside("/usr/bin/ssh", "-V").stderr)
                written = beside("/bin/sh", "-c", ": >/etc/x", expect=None)
                true("nothing can be written", written.returncode != 0, written)
            finally:
                # It is another user's, whom the end of `unshare` does not reach.
                if pid:
                    os.kill(int(pid), signal.SIGTERM)
                else:
                    serving.kill()
                equal("status after SIGTERM", serving.wait(30), 0)


@check("the workflows are such, and what they use is pinned by its hash")
def _():
    files = sorted((REPO / ".github/workflows").glob("*.yml"))
    equal("workflows", [path.name for path in files], ["mac.yml", "newest.yml", "release.yml"])
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    for path in files:
        text = path.read_text()
        used = re.findall(r"uses: (\S+)(?: # v[\d.]+)?$", text, re.M)
        equal(f"{path.name}: not pinned", [name for name in used if not re.search(r"@[0-9a-f]{40}$", name)], [])
        equal(f"{path.name}: without its version beside it", len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, re.M)), len(used))
        for command in re.findall(r"(?:^|\s|&& )((?:deploy|clients)/[\w-]+)", text):
            true(f"{path.name}: {command} can be run", os.access(REPO / command, os.X_OK))
    release = files[2].read_text()
    targets = set(re.findall(r"target: ([\w-]+) }", release))
    named = set(re.findall(r"^ +platform \w+ \w+ (\S+)$", (REPO / "deploy/finish-release").read_text(), re.M))
    equal("what is built is what the formula knows", targets, named)


if __name__ == "__main__":
    support.finish(*support.count_checks())
