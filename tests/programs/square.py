"""A resident program: a line of JSON-RPC in, a line out."""
import json
import sys
import time


def square(n):
    return n * n


def slow_square(n, seconds=1.0):
    for step in range(4):
        time.sleep(seconds / 4)
        notify("progress", {"fraction": (step + 1) / 4, "text": f"step {step + 1} of 4"})
    return n * n


METHODS = {"square": square, "slow_square": slow_square}


def call(method, params):
    function = METHODS[method]
    return function(**params) if isinstance(params, dict) else function(*params)


def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def notify(method, params):
    send({"method": method, "params": params})


for line in sys.stdin:
    request = json.loads(line)
    try:
        send({"id": request["id"], "result": call(request["method"], request.get("params", []))})
    except Exception as error:
        send({"id": request["id"], "error": {"code": 1, "message": f"{type(error).__name__}: {error}"}})
