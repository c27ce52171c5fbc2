"""A resident program of the soak. It writes down each call when it begins and when it is done, and does in between what its method says."""
import json
import os
import signal
import subprocess
import sys
import time

STARTED, DONE, SEEN = sys.argv[1:]


def write_down(path, id):
    ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, f"{id} call\n".encode())
    os.close(ledger)


def is_first(id):
    """Whether this call has never come so far before, in any program."""
    try:
        os.close(os.open(f"{SEEN}.{id}", os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False


def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def breed():
    """A process in a session of its own that ignores what would end it, and has no parent."""
    child = "import os, signal, time; os.fork() and os._exit(0); os.setsid(); signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    subprocess.run([sys.executable, "-c", child], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def do(method, number, id):
    if method == "slow":
        for step in range(5):
            send({"method": "progress", "params": {"fraction": step / 5, "text": "on it"}})
            time.sleep(0.01)
    elif method == "fail" or method == "fail_once" and is_first(id):
        raise ValueError(number)
    elif method == "crash" or method == "crash_once" and is_first(id):
        os._exit(3)
    elif method == "hang":
        time.sleep(600)
    elif method == "breed":
        breed()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif method == "babble":
        print("this is no answer", flush=True)
    return number * number


send({"method": "ready"})
for line in sys.stdin:
    request = json.loads(line)
    id, method, number = request["id"], request["method"], request["params"][0]
    write_down(STARTED, id)
    try:
        answer = {"result": do(method, number, id)}
    except ValueError as error:
        answer = {"error": {"code": 1, "message": str(error)}}
    write_down(DONE, id)
    send({"id": id, **answer})
    if method == "repeat":
        send({"id": id, **answer})
