"""Starts the servers of this folder quickly: it loads them all once, and forks for each start.

python3 starter.py PIPE: each line that comes through the named pipe is PROCESS_GROUP RUNG PORT [FOLDER] [FAULT]."""
import gc
import importlib
import os
import signal
import sys

RUNGS = {rung: importlib.import_module(f"rung_{rung}") for rung in "1234567"}


def serve(group, rung, port, *words):
    # Whoever ends the shell that has asked ends this group. If it has done so already, that is an error.
    os.setpgid(0, int(group))
    # What goes wrong is printed where the shell's errors go.
    if os.path.exists(there := f"/proc/{group}/fd/2"):
        os.dup2(os.open(there, os.O_WRONLY), 2)
    RUNGS[rung].start(int(port), *words)


if __name__ == "__main__":
    # Nobody asks how they have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with open(sys.argv[1]) as asked:
        print("ready", flush=True)
        # What is loaded stays: whoever looked for garbage in it would copy it all.
        gc.freeze()
        for line in asked:
            if os.fork() == 0:
                asked.close()
                serve(*line.split())
                os._exit(0)
