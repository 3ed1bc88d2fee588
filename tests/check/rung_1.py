"""A correct server of rung 1, and one with each fault: python3 rung_1.py PORT [FAULT]

A fault has the name of the check that finds it."""
import os
import socket
import sys


class Server:
    """Echo, one client at a time."""

    def serve(self, port):
        with socket.create_server(("127.0.0.1", port)) as self.listener:
            while True:
                connection, _ = self.listener.accept()
                try:
                    with connection:
                        self.visit(connection)
                except ConnectionError:
                    pass

    def visit(self, connection):
        rest = b""
        while True:
            came = connection.recv(4096)
            if not came:
                if rest:
                    self.last(connection, rest)
                return
            rest += came
            while b"\n" in rest:
                line, rest = rest.split(b"\n", 1)
                if self.is_end(line):
                    return
                self.answer(connection, line)

    def is_end(self, line):
        return line in (b"Exit", b"exit")

    def last(self, connection, line):
        if not self.is_end(line):
            self.answer(connection, line)

    def answer(self, connection, line):
        connection.sendall(b"From server -> " + line + b"\n")


class OneLine(Server):
    def answer(self, connection, line):
        connection.sendall(b"From the server -> " + line + b"\n")


class SeveralLines(Server):
    """Closes after one line."""

    def visit(self, connection):
        line = connection.makefile("rb").readline()
        if line and not self.is_end(line.rstrip(b"\n")):
            self.answer(connection, line.rstrip(b"\n"))


class EmptyLine(Server):
    """`if not line` is also true for an empty line."""

    def is_end(self, line):
        return not line or super().is_end(line)


class Utf8(Server):
    def answer(self, connection, line):
        super().answer(connection, line.decode("ascii", "replace").encode("utf-8"))


class Exit(Server):
    """Replies to `Exit`."""

    def is_end(self, line):
        return line == b"exit"

    def answer(self, connection, line):
        super().answer(connection, line)
        if line == b"Exit":
            connection.shutdown(socket.SHUT_RDWR)


class ExitInSmallLetters(Server):
    def is_end(self, line):
        return line == b"Exit"


class OnlyExit(Server):
    def is_end(self, line):
        return line.lower().startswith(b"exit")


class LastLine(Server):
    def last(self, connection, line):
        pass


class NextClient(Server):
    """Calls accept before the loop."""

    def visit(self, connection):
        super().visit(connection)
        os._exit(0)


class HangUp(Server):
    """Takes the end of the stream for a line."""

    def visit(self, connection):
        lines = connection.makefile("rb")
        while True:
            line = lines.readline()
            if not line.endswith(b"\n"):
                if not line:
                    os._exit(1)
                return self.last(connection, line)
            if self.is_end(line[:-1]):
                return
            self.answer(connection, line[:-1])


class TheSecondWaits(Server):
    """Closes connections that arrived during a visit."""

    def is_end(self, line):
        if not super().is_end(line):
            return False
        self.listener.setblocking(False)
        try:
            while True:
                self.listener.accept()[0].close()
        except BlockingIOError:
            self.listener.setblocking(True)
        return True


class Load(Server):
    """Has a hundred slots for visits, and never releases one."""

    visits = 0

    def visit(self, connection):
        self.visits += 1
        if self.visits > 100:
            os._exit(1)
        super().visit(connection)


FAULTS = {
    "one-line": OneLine,
    "several-lines": SeveralLines,
    "empty-line": EmptyLine,
    "utf-8": Utf8,
    "exit": Exit,
    "exit-in-small-letters": ExitInSmallLetters,
    "only-exit": OnlyExit,
    "last-line": LastLine,
    "next-client": NextClient,
    "hang-up": HangUp,
    "the-second-waits": TheSecondWaits,
    "load": Load,
}


def start(port, fault=None):
    kind = FAULTS[fault] if fault else Server
    kind().serve(port)


if __name__ == "__main__":
    start(int(sys.argv[1]), *sys.argv[2:])
