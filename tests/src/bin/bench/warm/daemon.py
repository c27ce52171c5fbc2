"""A poold in a temporary directory, with a warm pool of two workers; clients of it; and what /proc tells of a process."""
import itertools
import json
import os
import pathlib
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

FUNCTIONS = pathlib.Path(__file__).with_name("functions.py")
TICKS = os.sysconf("SC_CLK_TCK")


class Daemon:
    """`with Daemon(folder of poold and poolctl) as daemon`."""

    def __init__(self, binaries, durability="crash"):
        self.binaries = binaries
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="poold-bench-"))
        self.socket = self.directory / "socket"
        self.config = self.directory / "config.toml"
        command = json.dumps([sys.executable, str(FUNCTIONS)])
        self.config.write_text(f'durability = "{durability}"\nlog = "warn"\n[pool.square]\nworkers = 2\ncommand = {command}\n')

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait()
        shutil.rmtree(self.directory)

    def start(self):
        options = ["--config", self.config, "--socket", self.socket, "--state-dir", self.directory / "state"]
        with open(self.directory / "log", "a") as log:
            self.process = subprocess.Popen([self.binaries / "poold", *options], stderr=log)
        until("poold answers", self.answers)
        self.call("square", [0])

    def answers(self):
        try:
            return Client(self.socket).ask("Ping")
        except OSError:
            return None

    def call(self, method, params, **rest):
        """One call, waited for; its end in few words."""
        return Client(self.socket).call(method, params, **rest)

    def slots(self):
        pools = Client(self.socket).ask("Pools")["pools"]
        return next(pool["slots"] for pool in pools if pool["name"] == "square")

    def record(self, job):
        return Client(self.socket).ask("Get", {"id": job})["record"]

    def supervisor(self):
        return Client(self.socket).ask("Status")["supervisor_pid"]

    def poolctl(self, *arguments, **options):
        command = [self.binaries / "poolctl", "--socket", self.socket, *arguments]
        return subprocess.run(command, check=True, **options)

    def cpu(self):
        """CPU seconds of the supervisor's main thread, of its store, and of the two programs."""
        supervisor = pathlib.Path("/proc", str(self.supervisor()), "task")
        threads = {(task / "comm").read_text().strip(): cpu_of(task) for task in supervisor.iterdir()}
        store = threads.pop("store")
        return sum(threads.values()), store, sum(cpu_of(slot["program_pid"]) for slot in self.slots())


class Client:
    """A connection to poold: JSON messages, each ended by a NUL byte."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.rest = b""

    def send(self, method, parameters, more=False):
        message = {"method": f"io.poold.{method}", "parameters": parameters, "more": more}
        self.socket.sendall(json.dumps(message).encode() + b"\0")

    def received(self):
        """The replies that have come, at least a part of one."""
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionError("poold has closed the connection")
        *whole, self.rest = (self.rest + part).split(b"\0")
        replies = [json.loads(message) for message in whole]
        for reply in replies:
            if "error" in reply:
                raise RuntimeError(reply)
        return replies

    def ask(self, method, parameters=None):
        self.send(method, parameters or {})
        replies = []
        while not replies:
            replies = self.received()
        return replies[0]["parameters"]

    def submit(self, jobs, **defaults):
        """Their ids; nobody waits for them."""
        return self.ask("SubmitMany", {"jobs": jobs, "defaults": {"pool": "square", **defaults}})["ids"]

    def call(self, method, params, **rest):
        job = {"pool": "square", "method": method, "params": params, **rest}
        self.send("SubmitMany", {"jobs": [job]}, more=True)
        while True:
            for reply in self.received():
                for brief in reply["parameters"]["results"]:
                    return brief


class Batches:
    """Calls on one connection, a message of many at a time; the next when all of them have ended."""

    def __init__(self, path, durability):
        self.client = Client(path)
        self.defaults = {"pool": "square", "method": "square", "durability": durability}
        self.ids = []
        self.values = {}

    def send(self, numbers):
        self.ids, self.numbers, self.values = [], numbers, {}
        jobs = [{"params": [n]} for n in numbers]
        self.client.send("SubmitMany", {"jobs": jobs, "defaults": self.defaults}, more=True)

    def take(self):
        """The values in order, once all are there."""
        is_over = False
        for reply in self.client.received():
            self.ids += reply["parameters"]["ids"]
            self.values.update((brief["id"], brief["value"]) for brief in reply["parameters"]["results"])
            is_over = not reply.get("continues", False)
        return [self.values[job] for job in self.ids] if is_over else None


def squares(path, count, durability, connections=2, batch=1000):
    """The squares of all numbers below `count`, in order."""
    starts = iter(range(0, count, batch))
    results = {}
    selector = selectors.DefaultSelector()
    for start in itertools.islice(starts, connections):
        batches = Batches(path, durability)
        batches.send(range(start, min(count, start + batch)))
        selector.register(batches.client.socket, selectors.EVENT_READ, batches)
    while selector.get_map():
        for key, _ in selector.select():
            values = key.data.take()
            if values is None:
                continue
            results[key.data.numbers.start] = values
            start = next(starts, None)
            if start is None:
                selector.unregister(key.fileobj)
            else:
                key.data.send(range(start, min(count, start + batch)))
    return [value for start in sorted(results) for value in results[start]]


def until(what, condition, patience=60):
    """Waits for it; its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.005)
    return value


def cpu_of(process):
    """CPU seconds of a process, by its pid, or of one thread, by its path in /proc."""
    fields = (pathlib.Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid):
    status = pathlib.Path("/proc", str(pid), "status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def is_alive(pid):
    try:
        return pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
