"""Calls to a warm pool of poold's beside concurrent.futures.ProcessPoolExecutor: the same function (n squared), two workers each, in the
same run and by turns. Run by the benchmark suite, which reads what this prints: JSON.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import signal
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool

import functions
from daemon import Client, Daemon, cpu_of, is_alive, resident_mib, squares, until

PEER = "ProcessPoolExecutor"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["throughput", "latency", "memory", "accidents"])
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="where poold and poolctl are")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few calls: does it work?")
    options = parser.parse_args()
    calls, queued = (5_000, 10_000) if options.quick else (50_000, 100_000)
    parts = {
        "throughput": lambda: throughput(options.binaries, calls, options.rounds),
        "latency": lambda: latency(options.binaries, calls // 25, options.rounds),
        "memory": lambda: memory(options.binaries, queued, options.rounds),
        "accidents": lambda: accidents(options.binaries),
    }
    print(json.dumps(parts[options.part]()))


# ---- calls a second ----


def throughput(binaries, calls, rounds):
    """For each side, of each round: calls a second, and what a call costs in microseconds of CPU time."""
    expected = [functions.square(n) for n in range(calls)]
    with Daemon(binaries) as daemon, executor() as peer:
        items = daemon.directory / "items"
        items.write_text("".join(f"{n}\n" for n in range(calls)))

        def poolctl_map(*options):
            done = daemon.poolctl("map", *options, "--call", "square", "square", "-a", items, capture_output=True)
            values = [int(line) for line in done.stdout.split()]
            return values if options else sorted(values)

        sides = {
            f"{PEER}, map(chunksize=1)": lambda: list(peer.map(functions.square, range(calls), chunksize=1)),
            'SubmitMany, "crash"': lambda: squares(daemon.socket, calls, "disk"),
            'SubmitMany, "none"': lambda: squares(daemon.socket, calls, "none"),
            'poolctl map, "crash"': poolctl_map,
            'poolctl map -k, "crash"': lambda: poolctl_map("-k"),
        }
        found = {name: [] for name in sides}
        for _ in range(rounds):
            for name, run in sides.items():
                spent, start = processors(daemon), time.perf_counter()
                values = run()
                rate = calls / (time.perf_counter() - start)
                cpu = [(after - before) * 1e6 / calls for before, after in zip(spent, processors(daemon))]
                found[name].append([rate, *cpu])
                assert values == expected, name
    return found


def executor():
    peer = ProcessPoolExecutor(2)
    list(peer.map(functions.square, range(100)))
    return peer


def processors(daemon):
    """CPU seconds so far: of the caller, poolctl's included; the workers of either side; poold's loop; its store."""
    loop, store, programs = daemon.cpu()
    workers = sum(cpu_of(child.pid) for child in multiprocessing.active_children())
    return sum(os.times()[:4]), programs + workers, loop, store


# ---- one by one ----


def latency(binaries, calls, rounds):
    """For each side, of each round: median and 99th percentile, in microseconds."""
    found = {}
    cores = os.sched_getaffinity(0)
    for where, allowed in [("", cores), (", on one core", {min(cores)})]:
        os.sched_setaffinity(0, allowed)
        with Daemon(binaries) as daemon, executor() as peer:
            client = Client(daemon.socket)
            sides = {
                f"{PEER}, submit().result()": lambda n: peer.submit(functions.square, n).result(),
                'SubmitMany of one, "none"': lambda n: client.call("square", [n], durability="none")["value"],
                'SubmitMany of one, "crash"': lambda n: client.call("square", [n], durability="disk")["value"],
            }
            for _ in range(rounds):
                for name, run in sides.items():
                    cuts = statistics.quantiles([timed(run, n) for n in range(calls)], n=100)
                    found.setdefault(name + where, []).append([cuts[49] * 1e6, cuts[98] * 1e6])
        os.sched_setaffinity(0, cores)
    return found


def timed(run, n):
    start = time.perf_counter()
    value = run(n)
    taken = time.perf_counter() - start
    assert value == n * n
    return taken


# ---- memory ----


def memory(binaries, queued, rounds):
    """For each side, of each round: MiB resident, idle and with so many calls queued."""
    found = {}
    for _ in range(rounds):
        found.setdefault(f"{PEER}'s parent", []).append(in_a_process(peer_memory, queued))
        for durability, kind in [("crash", "disk"), ("none", "none")]:
            with Daemon(binaries) as daemon:
                client, supervisor = Client(daemon.socket), daemon.supervisor()
                before = resident_mib(supervisor)
                client.submit([{"method": "block", "params": [str(daemon.directory / "go")]}] * 2)
                for start in range(0, queued, 5_000):
                    numbers = range(start, min(queued, start + 5_000))
                    client.submit([{"params": [n]} for n in numbers], method="square", durability=kind)
                found.setdefault(f'poold\'s supervisor, "{durability}"', []).append([before, resident_mib(supervisor)])
    return found


def peer_memory(pipe, queued):
    with tempfile.TemporaryDirectory() as directory, executor() as peer:
        before = resident_mib(os.getpid())
        blocked = [peer.submit(functions.block, f"{directory}/go") for _ in range(2)]
        waiting = [peer.submit(functions.square, n) for n in range(queued)]
        pipe.send((before, resident_mib(os.getpid())))
        pathlib.Path(directory, "go").touch()
        wait(blocked + waiting)


def in_a_process(target, *arguments):
    """What the target, run in a fresh process, sends first."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *arguments))
    process.start()
    sent = ours.recv()
    process.join()
    return sent


# ---- accidents ----


def accidents(binaries):
    with Daemon(binaries) as daemon, tempfile.TemporaryDirectory() as directory:
        rows = {
            "a worker is killed during one of 12 calls": (peer_worker_killed(f"{directory}/1"), worker_killed(daemon)),
            "the parent, poold's supervisor, is killed": (peer_parent_killed(f"{directory}/2"), supervisor_killed(daemon)),
            "all of poold is killed, and started again": ("as above", daemon_killed(daemon)),
            "a call hangs, with half a second's patience": (peer_hangs(f"{directory}/3"), call_hangs(daemon)),
        }
    return [{"what": what, "peer": peer, "poold": ours} for what, (peer, ours) in rows.items()]


def peer_calls(peer, path):
    """Two that block until there is such a file, both begun, and ten that wait behind them."""
    futures = [peer.submit(functions.block, path) for _ in range(2)]
    futures += [peer.submit(functions.square, n) for n in range(10)]
    until("both run", lambda: all(future.running() for future in futures[:2]))
    return futures


def peer_worker_killed(path):
    with executor() as peer:
        futures = peer_calls(peer, path)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        broken = sum(isinstance(future.exception(), BrokenProcessPool) for future in futures)
        try:
            peer.submit(functions.square, 3)
            after = "is accepted"
        except BrokenProcessPool:
            after = "raises it, too"
    return f"{broken} of 12 raise BrokenProcessPool; the next submit() {after}"


def peer_parent_killed(path):
    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.get_context("spawn").Process(target=peer_parent, args=(theirs, path))
    parent.start()
    workers = ours.recv()
    parent.kill()
    parent.join()
    pathlib.Path(path).touch()
    time.sleep(2)
    left = [pid for pid in workers if is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return f"all 12 calls are lost; of its 2 workers {len(left)} are still there two seconds later"


def peer_parent(pipe, path):
    peer = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
    peer_calls(peer, path)
    pipe.send([child.pid for child in multiprocessing.active_children()])
    signal.pause()


def peer_hangs(path):
    with executor() as peer:
        hanging = peer_calls(peer, path)[0]
        try:
            hanging.result(timeout=0.5)
        except TimeoutError:
            stopped = hanging.cancel()
        pathlib.Path(path).touch()
    return f"result() raises TimeoutError, cancel() returns {stopped}: the call keeps its worker"


def our_calls(daemon, name):
    """As `peer_calls`; the file, and the ids."""
    path = daemon.directory / name
    jobs = [{"method": "block", "params": [str(path)]}] * 2 + [{"method": "square", "params": [n]} for n in range(10)]
    ids = Client(daemon.socket).submit(jobs)
    until("both run", lambda: all(daemon.record(job)["state"] == "running" for job in ids[:2]))
    return path, ids


def ended(daemon, path, ids):
    """How many of them succeed once those that block may end, and in how many attempts in all."""
    path.touch()
    daemon.poolctl("wait", *map(str, ids))
    records = [daemon.record(job) for job in ids]
    succeeded = sum(record["state"] == "succeeded" for record in records)
    return f"{succeeded} of 12 succeed, in {sum(record['attempt'] for record in records)} attempts"


def worker_killed(daemon):
    path, ids = our_calls(daemon, "worker-killed")
    os.kill(daemon.slots()[0]["program_pid"], signal.SIGKILL)
    return ended(daemon, path, ids) + f"; the next call returns {daemon.call('square', [3])['value']}"


def supervisor_killed(daemon):
    path, ids = our_calls(daemon, "supervisor-killed")
    os.kill(daemon.supervisor(), signal.SIGKILL)
    return ended(daemon, path, ids) + ", when poold has started its supervisor again"


def daemon_killed(daemon):
    path, ids = our_calls(daemon, "daemon-killed")
    programs = [slot["program_pid"] for slot in daemon.slots()]
    os.kill(daemon.supervisor(), signal.SIGKILL)
    daemon.process.kill()
    daemon.process.wait()
    until("nothing is left", lambda: not any(map(is_alive, programs)))
    path.touch()
    daemon.start()
    return ended(daemon, path, ids) + "; until the start none of its programs was left"


def call_hangs(daemon):
    programs = {slot["program_pid"] for slot in daemon.slots()}
    state = daemon.call("block", [str(daemon.directory / "never")], timeout_s=0.5)["state"]
    until("it is replaced", lambda: {slot["program_pid"] for slot in daemon.slots()} not in (programs, {None}))
    return f"it ends as {state}, its worker is replaced; the next call returns {daemon.call('square', [3])['value']}"


if __name__ == "__main__":
    main()
