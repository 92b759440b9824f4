"""End-to-end checks of tunnels: real SDKs and Claude Code, Seaway, ssh servers on loopback, and TLS at the other end.

The institution is a simulated Claude behind TLS with a certificate of its own authority, below `/argoapi`.
"""
import sys

sys.dont_write_bytecode = True
import datetime, http.client, json, os, pathlib, pty, re, select, shutil, socket, ssl, subprocess, tempfile, threading, time
import support
from support import LOCAL_KEY, Seaway, check, equal, true, within

support.in_venv("anthropic==2.11.0", "openai==3.57.0", "cryptography==46.0.3")
import anthropic, openai
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LAB = support.REPO / "deploy/ssh-lab"
MODEL = "claude-opus-4-8"


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
             .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
             .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(key, hashes.SHA256()))
    (folder / "ca.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


class House:
    """ssh servers, the institution, and the settings of somebody who reaches it by them."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="seaway-ssh-"))
        self.claude = Seaway("--set", 'keys={"institution":"alice"}', "--set", 'alias={"claude-*":"sandbox-opus-1"}').__enter__()
        self.lab("keys", self.folder / "lab")
        self.ports = {name: support.reserved_port() for name in ("jump", "home")}
        for name, port in self.ports.items():
            self.lab("start", self.folder / "lab", name, str(port))
        certificate(self.folder)
        self.listen()
        self.state = str(self.folder / "state")
        return self

    def __exit__(self, *_):
        subprocess.run([support.binary(), "tunnel", "close", "--state-dir", self.state], env=self.environment(), capture_output=True, check=True)
        for name in self.ports:
            self.lab("stop", self.folder / "lab", name)
        self.server.close()
        self.claude.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def lab(self, *words):
        subprocess.run([LAB, *words], check=True, stdin=subprocess.DEVNULL)

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "CELS_USERNAME": "alice", "TERM": "dumb"}

    def listen(self):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "ca.pem", self.folder / "key.pem")
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        end = ("127.0.0.1", int(self.claude.url.rsplit(":", 1)[1]))

        def serve():
            while True:
                try:
                    stream, _ = self.server.accept()
                except OSError:
                    return
                threading.Thread(target=pass_on, args=(stream, context, end), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()

    def settings(self, ssh_config="ssh_config"):
        who = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        settings = {"upstream.argo.kind": "argo", "upstream.argo.base_url": f"https://localhost:{self.port}/argoapi", "upstream.argo.ca_file": self.folder / "ca.pem", "upstream.argo.api_key": "alice",
                    "tunnel.cels.host": "127.0.0.1", "tunnel.cels.port": self.ports["home"], "tunnel.cels.jump": f"127.0.0.1:{self.ports['jump']}", "tunnel.cels.user": who,
                    "tunnel.cels.ssh_config": self.folder / "lab" / ssh_config}
        return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]

    def gateway(self, *more):
        return Seaway(*self.settings(), "--state-dir", self.state, *more, upstream=False)

    def logins(self):
        return (self.folder / "lab/home.log").read_text().count("Accepted publickey")


def pass_on(stream, context, end):
    try:
        with context.wrap_socket(stream, server_side=True) as secure, socket.create_connection(end) as plain:
            back = threading.Thread(target=pump, args=(plain, secure), daemon=True)
            back.start()
            pump(secure, plain)
            back.join()
    except OSError:
        pass


@check("the SDKs work by a tunnel, streamed and not, in both dialects, over one login")
def _():
    with House() as house, house.gateway() as gateway:
        client = anthropic.Anthropic(base_url=gateway.url, api_key=LOCAL_KEY, max_retries=0)
        message = client.messages.create(model="Sandbox-Opus.1", max_tokens=50, messages=[{"role": "user", "content": "hello there"}])
        within("folded", "hello there", message.content[0].text)
        with client.messages.stream(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "hello again"}]) as stream:
            within("streamed", "hello again", stream.get_final_text())
        chat = openai.OpenAI(base_url=gateway.url + "/v1", api_key=LOCAL_KEY, max_retries=0)
        completion = chat.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello chat"}])
        within("Chat", "hello chat", completion.choices[0].message.content)
        equal("logins", house.logins(), 1)


@check("Claude Code works by a tunnel, and a restart of the gateway costs no login")
def _():
    program = support.claude_program()
    with House() as house:
        for turn in range(2):
            with house.gateway() as gateway:
                home = house.folder / f"claude-{turn}"
                (home / "work").mkdir(parents=True)
                environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(home), "CLAUDE_CONFIG_DIR": str(home / "config"), "ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_API_KEY": LOCAL_KEY,
                               "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
                ended = subprocess.run([program, "-p", "say hello", "--model", MODEL], cwd=home / "work", env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
                within("answer", "say hello", ended.stdout)
        equal("logins", house.logins(), 1)


@check("ssh asks in the terminal when told to, and a Ctrl-C afterwards leaves the login to the next start")
def _():
    with House() as house:
        lab = house.folder / "lab"
        shutil.copy(lab / "id", lab / "locked")
        os.chmod(lab / "locked", 0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", lab / "locked"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        (lab / "asking").write_text((lab / "ssh_config").read_text().replace(f"{lab}/id\n", f"{lab}/locked\n"))
        command = [str(support.binary()), "tunnel", "--interactive", "--tunnel-port", str(support.reserved_port()), "--state-dir", house.state, "--upstream", "argo", *map(str, house.settings("asking"))]
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(command[0], command, house.environment())
        said, asked, deadline = "", 0, time.time() + 60
        while "seaway serve --upstream argo --tunnel-host" not in said:
            true("it comes up", time.time() < deadline, said)
            if select.select([terminal], [], [], 0.2)[0]:
                said += os.read(terminal, 4096).decode(errors="replace")
            if len(re.findall("Enter passphrase", said)) > asked:
                asked += 1
                os.write(terminal, b"open sesame\n")
        equal("questions, one for each leg", asked, 2)
        os.write(terminal, b"\x03")
        _, status = os.waitpid(pid, 0)
        equal("end", os.waitstatus_to_exitcode(status), 0)
        os.close(terminal)
        # The same key without its passphrase would be refused: only the login that is there can serve.
        gateway = Seaway(*map(str, house.settings("asking")), "--state-dir", house.state, upstream=False)
        with gateway:
            client = anthropic.Anthropic(base_url=gateway.url, api_key=LOCAL_KEY, max_retries=0)
            within("answer", "hi", client.messages.create(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "hi"}]).content[0].text)
        equal("logins", house.logins(), 1)


@check("a compute node without any network gets there by ssh to the machine that holds the tunnel open")
def _():
    apart = next((words for words in (["unshare", "-n"], ["unshare", "-rn"]) if subprocess.run([*words, "true"], capture_output=True).returncode == 0), None)
    if not apart:
        print("skipped: this machine makes no network namespaces")
        return
    with House() as house:
        port = support.reserved_port()
        opened = subprocess.run([support.binary(), "tunnel", "--detach", "--tunnel-port", str(port), "--state-dir", house.state, "--upstream", "argo", *map(str, house.settings())],
                                env=house.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        within("line", f"--tunnel-port {port}", opened.stdout)
        # All that leads out is this socket, and ssh at its end: no address can be reached from in there.
        way = str(house.folder / "way")
        front = socket.socket(socket.AF_UNIX)
        front.bind(way)
        front.listen()
        threading.Thread(target=lambda: hand_over(front, house.ports["home"]), daemon=True).start()
        script = house.folder / "way.py"
        script.write_text(f"import os, socket, threading\ns = socket.socket(socket.AF_UNIX)\ns.connect({way!r})\ndef out():\n    while piece := s.recv(65536):\n        os.write(1, piece)\n    os._exit(0)\n"
                          "threading.Thread(target=out, daemon=True).start()\nwhile piece := os.read(0, 65536):\n    s.sendall(piece)\n")
        (house.folder / "lab/compute").write_text(f"Host uan\n    ProxyCommand {sys.executable} {script}\n" + (house.folder / "lab/ssh_config").read_text())
        gateway = str(house.folder / "gateway")
        compute = subprocess.Popen([*apart, support.binary(), "serve", "--listen", "unix:" + gateway, "--api-key", LOCAL_KEY, "--state-dir", str(house.folder / "compute"), "--upstream", "argo", "--tunnel-host", "uan",
                                    "--tunnel-port", str(port), *map(str, house.settings("compute"))], env=house.environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            said = next((line for line in compute.stderr if "is up" in line or "not up" in line), "nothing")
            within("tunnel", "is up", said)
            client = http.client.HTTPConnection("localhost")
            client.sock = socket.socket(socket.AF_UNIX)
            client.sock.connect(gateway)
            client.request("POST", "/v1/messages", json.dumps({"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "far away"}]}), {"x-api-key": LOCAL_KEY, "content-type": "application/json"})
            within("answer", "far away", client.getresponse().read().decode())
            equal("logins: of the tunnel, and of the compute node", house.logins(), 2)
        finally:
            compute.terminate()
            compute.wait(20)
            compute.stderr.close()
            front.close()
            subprocess.run([support.binary(), "tunnel", "close", "--state-dir", house.folder / "compute"], env=house.environment(), capture_output=True, check=True)


def hand_over(front, port):
    """A socket in the place of a cable."""
    while True:
        try:
            stream, _ = front.accept()
        except OSError:
            return
        end = socket.create_connection(("127.0.0.1", port))
        for source, target in ((stream, end), (end, stream)):
            threading.Thread(target=pump, args=(source, target), daemon=True).start()


def pump(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


if __name__ == "__main__":
    support.run_checks()
