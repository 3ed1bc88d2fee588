"""A correct client of rungs 1 to 3, and one with each fault: python3 client.py PORT [FAULT]

A fault has the name of the check that finds it."""
import socket
import sys


class Client:
    def run(self, port):
        try:
            connection = socket.create_connection(self.address(port))
        except OSError as error:
            return self.nobody(error)
        with connection:
            return self.talk(connection)

    def address(self, port):
        return ("127.0.0.1", port)

    def nobody(self, error):
        print(f"Nobody listens there: {error}", file=sys.stderr)
        return 1

    def talk(self, connection):
        self.rest = b""
        while line := sys.stdin.buffer.readline():
            line = line.decode("utf-8").rstrip("\r\n")
            connection.sendall(self.message(line))
            if self.is_last(line):
                return 0
            answer = self.answer(connection)
            if answer is None:
                return self.gone()
            self.show(answer)
            if self.is_enough():
                return 0
        return self.end(connection)

    def message(self, line):
        return line.encode("utf-8") + b"\n"

    def is_last(self, line):
        return line in ("Exit", "exit")

    def is_enough(self):
        return False

    def answer(self, connection):
        while b"\n" not in self.rest:
            came = connection.recv(65536)
            if not came:
                return None
            self.rest += came
        line, self.rest = self.rest.split(b"\n", 1)
        return self.decoded(line)

    def decoded(self, line):
        return line.decode("utf-8", "replace")

    def show(self, answer):
        sys.stdout.buffer.write(self.harmless(answer).encode("utf-8") + b"\n")

    def harmless(self, answer):
        return "".join(letter if letter.isprintable() else "?" for letter in answer)

    def gone(self):
        print("The server has closed the connection.", file=sys.stderr)
        return 1

    def end(self, connection):
        return 0


class Connects(Client):
    """Ignores the given port."""

    def address(self, port):
        return ("127.0.0.1", 9)


class Sends(Client):
    """Sends the line without its line feed."""

    def message(self, line):
        return line.encode("utf-8")


class Shows(Client):
    def show(self, answer):
        pass


class SeveralLines(Client):
    """Handles only one line."""

    def is_enough(self):
        return True


class AnswerInParts(Client):
    """Takes the result of one read for the reply, up to a line feed if there is one; waits for the rest of a character."""

    def answer(self, connection):
        came = self.rest
        while not came or (came[-1] > 127 and not self.is_whole(came)):
            more = connection.recv(65536)
            if not more:
                return None
            came += more
        line, _, self.rest = came.partition(b"\n")
        return self.decoded(line)

    def is_whole(self, came):
        try:
            came.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True


class Utf8(Client):
    """Decodes each byte as a character."""

    def decoded(self, line):
        return line.decode("latin-1")


class ControlCharacters(Client):
    def harmless(self, answer):
        return answer


class Exit(Client):
    """Waits for a reply to every line, including Exit."""

    def is_last(self, line):
        return False


class EndOfInput(Client):
    """Waits for more data at the end."""

    def end(self, connection):
        while connection.recv(65536):
            pass
        return 0


class ServerHasGone(Client):
    """Takes the end of the stream for an empty reply."""

    def gone(self):
        return 0


class NobodyListens(Client):
    def nobody(self, error):
        return 0


class Load(Client):
    """Stops after a hundred lines."""

    count = 0

    def is_enough(self):
        self.count += 1
        return self.count >= 100


FAULTS = {
    "connects": Connects,
    "sends": Sends,
    "shows": Shows,
    "several-lines": SeveralLines,
    "answer-in-parts": AnswerInParts,
    "utf-8": Utf8,
    "control-characters": ControlCharacters,
    "exit": Exit,
    "end-of-input": EndOfInput,
    "server-has-gone": ServerHasGone,
    "nobody-listens": NobodyListens,
    "load": Load,
}

if __name__ == "__main__":
    kind = FAULTS[sys.argv[2]] if len(sys.argv) > 2 else Client
    sys.exit(kind().run(int(sys.argv[1])))
