"""A correct server of rung 2, and one with each fault: python3 rung_2.py PORT [FAULT]

A fault has the name of the check that finds it."""
import os
import socket
import sys
import threading


class Server:
    """Echo, with a thread for each client."""

    def __init__(self):
        self.lock = threading.Lock()

    def serve(self, port):
        with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
            while True:
                connection, _ = listener.accept()
                self.begin(connection)

    def begin(self, connection):
        threading.Thread(target=self.guarded, args=(connection,), daemon=True).start()

    def guarded(self, connection):
        try:
            with connection:
                self.visit(connection)
        except ConnectionError:
            self.broken()

    def broken(self):
        pass

    def visit(self, connection):
        rest = b""
        while True:
            came = self.read(connection, rest)
            if not came:
                if rest:
                    self.last(connection, rest)
                return
            rest += came
            while b"\n" in rest:
                line, rest = rest.split(b"\n", 1)
                if line in (b"Exit", b"exit"):
                    return self.good_bye()
                self.answer(connection, line)

    def good_bye(self):
        pass

    def read(self, connection, rest):
        return connection.recv(4096)

    def last(self, connection, line):
        if line not in (b"Exit", b"exit"):
            self.answer(connection, line)

    def answer(self, connection, line):
        connection.sendall(b"From server -> " + line + b"\n")


class OneLine(Server):
    def answer(self, connection, line):
        connection.sendall(line + b"\n")


class TwoAtOnce(Server):
    """Starts a thread, and waits for it to end."""

    def begin(self, connection):
        self.guarded(connection)


class ASilentOne(Server):
    """The accepting thread waits for the first line."""

    def begin(self, connection):
        connection.recv(1, socket.MSG_PEEK)
        super().begin(connection)


class OwnAnswers(Server):
    """All threads share the variable `connection`."""

    def begin(self, connection):
        self.latest = connection
        super().begin(connection)

    def answer(self, connection, line):
        super().answer(self.latest, line)


class HalfALine(Server):
    """Holds a lock until a started line is complete."""

    def read(self, connection, rest):
        came = connection.recv(4096)
        if came and not came.endswith(b"\n"):
            with self.lock:
                while came and not came.endswith(b"\n"):
                    more = connection.recv(4096)
                    if not more:
                        break
                    came += more
        return came

    def answer(self, connection, line):
        with self.lock:
            super().answer(connection, line)


class TwentyAtOnce(Server):
    """Has only ten threads."""

    def __init__(self):
        super().__init__()
        self.places = threading.Semaphore(10)

    def guarded(self, connection):
        with self.places:
            super().guarded(connection)


class ExitEndsOne(Server):
    def good_bye(self):
        os._exit(0)


class Reset(Server):
    """An unhandled exception ends the program."""

    def broken(self):
        os._exit(1)


class HalfClose(Server):
    """Takes a client that has finished sending for disconnected."""

    def last(self, connection, line):
        pass


class WhoDoesNotRead(Server):
    """Holds one lock around every write."""

    def answer(self, connection, line):
        with self.lock:
            super().answer(connection, line)


class Load(Server):
    """Serves a hundred clients at a time."""

    def __init__(self):
        super().__init__()
        self.places = threading.Semaphore(100)

    def begin(self, connection):
        if self.places.acquire(blocking=False):
            super().begin(connection)
        else:
            connection.close()

    def guarded(self, connection):
        super().guarded(connection)
        self.places.release()


FAULTS = {
    "one-line": OneLine,
    "two-at-once": TwoAtOnce,
    "a-silent-one": ASilentOne,
    "own-answers": OwnAnswers,
    "half-a-line": HalfALine,
    "twenty-at-once": TwentyAtOnce,
    "exit-ends-one": ExitEndsOne,
    "reset": Reset,
    "half-close": HalfClose,
    "who-does-not-read": WhoDoesNotRead,
    "load": Load,
}


def start(port, fault=None):
    kind = FAULTS[fault] if fault else Server
    kind().serve(port)


if __name__ == "__main__":
    start(int(sys.argv[1]), *sys.argv[2:])
