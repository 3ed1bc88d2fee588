"""A correct server of rung 3, and one with each fault: python3 rung_3.py PORT [FAULT]

A fault has the name of the check that finds it."""
import socket
import sys
import threading

LONGEST = 8192


class Server:
    """Echo with a thread for each client, independent of read boundaries."""

    def serve(self, port):
        with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self.guarded, args=(connection,), daemon=True).start()

    def guarded(self, connection):
        try:
            with connection:
                self.visit(connection)
        except ConnectionError:
            pass

    def visit(self, connection):
        rest = b""
        while True:
            came = self.came(connection.recv(65536))
            if not came:
                return self.end(connection, rest)
            rest += came
            lines, rest = self.cut(rest)
            for line in lines:
                line = self.trimmed(line)
                if self.is_too_long(line):
                    return
                if line in (b"Exit", b"exit"):
                    return self.good_bye(connection, lines)
                self.answer(connection, line)
            if self.is_hoarded(rest):
                return

    def came(self, bytes):
        return bytes

    def cut(self, rest):
        if b"\n" not in rest:
            # Splitting is slower, which matters for a client that sends an endless line.
            return [], rest
        *lines, rest = rest.split(b"\n")
        return lines, rest

    def trimmed(self, line):
        return line[:-1] if line.endswith(b"\r") else line

    def is_too_long(self, line):
        return len(line) > LONGEST

    def is_hoarded(self, rest):
        return len(rest) > LONGEST + 1

    def good_bye(self, connection, lines):
        pass

    def end(self, connection, rest):
        if rest and rest not in (b"Exit", b"exit"):
            self.answer(connection, rest)

    def answer(self, connection, line):
        connection.sendall(b"From server -> " + line + b"\n")


class OneLine(Server):
    def answer(self, connection, line):
        connection.sendall(b"From server -> " + line)


class ByteByByte(Server):
    """Takes one read for one or more whole messages."""

    def cut(self, rest):
        lines, rest = super().cut(rest)
        return lines + [rest] if rest else lines, b""


class Glued(Server):
    """Takes at most one message from each read."""

    def cut(self, rest):
        lines, rest = super().cut(rest)
        return lines[:1], b"" if lines else rest


class CutAnywhere(Server):
    """Drops the data after a whole line."""

    def cut(self, rest):
        lines, rest = super().cut(rest)
        return lines, b"" if lines else rest


class EmptyLines(Server):
    def cut(self, rest):
        lines, rest = super().cut(rest)
        return [line for line in lines if line], rest


class ALetterCutInTwo(Server):
    """Decodes each read separately."""

    def came(self, bytes):
        return bytes.decode("utf-8", "replace").encode("utf-8")


class CarriageReturn(Server):
    def trimmed(self, line):
        return line


class Spaces(Server):
    """Removes all white space at both ends."""

    def trimmed(self, line):
        return line.strip()


class ExitInBetween(Server):
    """Replies to all lines of a read, even after Exit."""

    def good_bye(self, connection, lines):
        for line in lines[lines.index(b"Exit") + 1 :] if b"Exit" in lines else []:
            self.answer(connection, line)


class LastLine(Server):
    def end(self, connection, rest):
        pass


class TheLongestLine(Server):
    """Counts the line feed as a part of the line."""

    def is_too_long(self, line):
        return len(line) + 1 > LONGEST


class TooLong(Server):
    """Limits only incomplete lines."""

    def is_too_long(self, line):
        return False


class Endless(Server):
    """Checks the length only of complete lines."""

    def is_hoarded(self, rest):
        return False


class ManyAtOnce(Server):
    """Uses the limit of a line for a read."""

    def came(self, bytes):
        return b"" if len(bytes) > LONGEST + 2 else bytes


class Load(Server):
    """Serves a hundred clients at a time."""

    places = threading.Semaphore(100)

    def visit(self, connection):
        if self.places.acquire(blocking=False):
            super().visit(connection)
            self.places.release()


FAULTS = {
    "one-line": OneLine,
    "byte-by-byte": ByteByByte,
    "glued": Glued,
    "cut-anywhere": CutAnywhere,
    "empty-lines": EmptyLines,
    "a-letter-cut-in-two": ALetterCutInTwo,
    "carriage-return": CarriageReturn,
    "spaces": Spaces,
    "exit-in-between": ExitInBetween,
    "last-line": LastLine,
    "the-longest-line": TheLongestLine,
    "too-long": TooLong,
    "endless": Endless,
    "many-at-once": ManyAtOnce,
    "load": Load,
}


def start(port, fault=None):
    kind = FAULTS[fault] if fault else Server
    kind().serve(port)


if __name__ == "__main__":
    start(int(sys.argv[1]), *sys.argv[2:])
