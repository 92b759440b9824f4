"""What the benchmarks share: servers side by side, load on each in turn, figures as medians."""
import contextlib, json, os, pathlib, socket, statistics, subprocess, sys, time

from peers import KEY

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOAD = ROOT / "bench/target/release/seaway-bench"
# What is published.
SEAWAY = ROOT / "target/dist/seaway"
QUICK = "--quick" in sys.argv
SECONDS = 1 if QUICK else 2
ROUNDS = 1 if QUICK else 5


def build():
    subprocess.check_call(["cargo", "build", "--profile", "dist", "-q"], cwd=ROOT)
    subprocess.check_call(["cargo", "build", "--release", "-q"], cwd=ROOT / "bench")


def wait_for(port):
    for _ in range(30000):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.002)
    sys.exit(f"nobody listens on port {port}")


def family(pid):
    """A process and all below it."""
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        with contextlib.suppress(OSError):
            left += map(int, pathlib.Path(f"/proc/{found[-1]}/task/{found[-1]}/children").read_text().split())
    return found


def memory(pid):
    """KiB of private memory (PSS) of a process and all below it."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                total += int(line.split()[1]) if line.startswith("Pss:") else 0
    return total


class Servers:
    """Processes, each on the port that `ports` has for its name."""

    def __init__(self, folder, ports):
        self.folder, self.ports, self.children = folder, ports, {}

    def write(self, name, text):
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def start(self, name, command, **more):
        self.children[name] = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **more)
        wait_for(self.ports[name])

    def cpu(self, name):
        ticks = 0
        for pid in family(self.children[name].pid):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self, name):
        """KiB of private memory, all its processes together."""
        return memory(self.children[name].pid)

    def stop(self):
        for child in self.children.values():
            child.terminate()
        for child in self.children.values():
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()


def load(port, kind, path, body, connections, seconds=SECONDS, headers={}, key=KEY):
    """One round of load. Who has not answered half a minute after its end is given up (`subprocess.TimeoutExpired`)."""
    command = [str(LOAD), "load", kind, f"127.0.0.1:{port}", path, str(body), str(connections), str(seconds), key, *(f"{name}: {value}" for name, value in headers.items())]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout)



def why(error):
    """What a load that failed says of it."""
    said = error.stderr or ""
    return (said if isinstance(said, str) else said.decode()).strip()[-200:] or str(error).splitlines()[0][-200:]


def measure(servers, kind, path, body, connections, seconds=SECONDS):
    """Every server in turn, several rounds, the median of each figure: what drifts, drifts for all."""
    found = {name: [] for name in servers.children}
    for _ in range(ROUNDS):
        for name in found:
            before = servers.cpu(name)
            figures = load(servers.ports[name], kind, path, body, connections, seconds)
            answers = max(1.0, figures["answers_per_s"] * seconds)
            found[name].append({
                "answers_per_s": figures["answers_per_s"], "events_per_s": figures["events_per_s"],
                "p50_us": figures["first_us"]["p50"], "p99_us": figures["first_us"]["p99"],
                "delay_p50_us": figures["delay_us"]["p50"], "delay_p99_us": figures["delay_us"]["p99"],
                "cpu_us": (servers.cpu(name) - before) / answers * 1e6,
            })
    median = lambda name, key: statistics.median([row[key] for row in found[name]]) if found[name][0][key] is not None else None
    return {name: {key: median(name, key) for key in found[name][0]} | {"rounds": [row["answers_per_s"] for row in found[name]]} for name in found}


def paired(result, name, other):
    """Answers a second by those of another, each round for itself: the median, the least and the most."""
    ratios = sorted(mine / its for mine, its in zip(result[name]["rounds"], result[other]["rounds"]))
    return statistics.median(ratios), ratios[0], ratios[-1]
