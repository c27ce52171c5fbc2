"""A resident program that can do everything wrong."""
import json
import os
import select
import subprocess
import sys
import threading
import time

for line in sys.stdin:
    request = json.loads(line)
    method, params = request["method"], request.get("params", [])
    answer = {"jsonrpc": "2.0", "id": request["id"], "result": None}
    if method == "rubbish":
        print("hello", flush=True)
    elif method == "wrong_id":
        answer["id"] = 123456
    elif method == "twice":
        print(json.dumps(answer), flush=True)
    elif method == "neither":
        del answer["result"]
    elif method == "leave":
        sys.exit(int(params[0]))
    elif method == "crash":
        print("Segmentation fault, or so", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 11)
    elif method == "hang":
        time.sleep(3600)
    elif method == "deaf":
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    elif method == "breed":
        child = "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(3600)"
        subprocess.run([sys.executable, "-c", child], check=True, stdout=subprocess.DEVNULL)
        time.sleep(3600)
    elif method == "grumble":
        # A thread of it writes as fast as it can, until it is told to stop.
        answer["result"] = os.getpid()
        def grumble():
            while not hushed:
                os.write(2, b"grumble\n" * 100_000)
        hushed = []
        grumbler = threading.Thread(target=grumble, daemon=True)
        grumbler.start()
    elif method == "hush":
        hushed.append(True)
        grumbler.join()
    elif method == "feed_a_helper":
        # It has written to so much memory, and goes on.
        child = f"import sys, time; fat = b'x' * {params[0]}; print(flush=True); time.sleep(3600)"
        helper = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
        helper.stdout.readline()
    elif method == "silence":
        os.close(1)
        time.sleep(3600)
    elif method == "last_call":
        # It takes no more, at once or only when the next one is there.
        print(json.dumps(answer), flush=True)
        if params:
            select.select([0], [], [])
        os.close(0)
        time.sleep(3600)
    elif method == "complain_at_length":
        answer["result"] = os.getpid()
        sys.stderr.write("a long complaint\n" * 200_000)
        sys.stderr.flush()
    elif method == "complain":
        print("a complaint", file=sys.stderr, flush=True)
    elif method == "crash_once":
        try:
            os.close(os.open(params[0], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os._exit(1)
    elif method == "echo":
        answer["result"] = params
    elif method == "pid":
        answer["result"] = os.getpid()
    print(json.dumps(answer), flush=True)
