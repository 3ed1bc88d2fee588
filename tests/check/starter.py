"""Starts the servers of this folder quickly: loads them all once, and forks for each start.

python3 starter.py PIPE: each line that comes through the named pipe is PROCESS_GROUP RUNG PORT [FOLDER] [FAULT]."""
import gc
import importlib
import os
import signal
import sys

RUNGS = {rung: importlib.import_module(f"rung_{rung}") for rung in "1234567"}


def serve(group, rung, port, *words):
    # The checker kills the group of the requesting shell. If it has done so already, this fails.
    os.setpgid(0, int(group))
    # Errors go to the shell's standard error.
    if os.path.exists(there := f"/proc/{group}/fd/2"):
        os.dup2(os.open(there, os.O_WRONLY), 2)
    RUNGS[rung].start(int(port), *words)


if __name__ == "__main__":
    # Their exit codes are not used.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with open(sys.argv[1]) as asked:
        print("ready", flush=True)
        # Loaded modules stay: a garbage collection would touch their pages, and copy them all.
        gc.freeze()
        for line in asked:
            if os.fork() == 0:
                asked.close()
                serve(*line.split())
                os._exit(0)
