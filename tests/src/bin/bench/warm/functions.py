"""What is called on both sides: imported by the executor's processes, and run as a resident program of poold's."""
import json
import os
import sys
import time


def square(n):
    return n * n


def block(path):
    """Until there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


def echo(value):
    return value


def serve():
    functions = {"square": square, "block": block, "echo": echo}
    for line in sys.stdin:
        call = json.loads(line)
        value = functions[call["method"]](*call["params"])
        print(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": value}), flush=True)


if __name__ == "__main__":
    serve()
