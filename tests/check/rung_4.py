"""A correct server of rung 4, and one with each fault: python3 rung_4.py PORT [FAULT]

A fault has the name of the check that finds it."""
import itertools
import queue
import re
import socket
import sys
import threading
import xml.etree.ElementTree as ElementTree
# xml.sax.saxutils has one, too, but it loads HTTP and TLS: the start would take twice as long.
from html import escape, unescape

LONGEST = 8192


class Client:
    """A connected client. Its output is queued, so that no other client waits for it."""

    def __init__(self, connection):
        self.connection = connection
        self.name = None
        self.queue = queue.Queue(maxsize=1000)
        self.writer = threading.Thread(target=self.write, daemon=True)
        self.writer.start()

    def write(self):
        try:
            while (document := self.queue.get()) is not None:
                self.connection.sendall(document)
            # All output has been sent: now the reading thread reaches the end, too.
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def tell(self, document):
        try:
            self.queue.put_nowait(document.encode("utf-8") + b"\n")
        except queue.Full:
            # Both its threads notice this.
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Server:
    """Clients with names, which send messages to each other."""

    def __init__(self):
        self.lock = threading.Lock()
        self.names = {}
        self.seats = itertools.count(1)

    def serve(self, port):
        with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self.guarded, args=(connection,), daemon=True).start()

    def client(self, connection):
        return Client(connection)

    def guarded(self, connection):
        with connection:
            client = self.client(connection)
            try:
                self.visit(client)
            except ConnectionError:
                self.broken(client)
            else:
                self.leave(client)
            try:
                client.queue.put_nowait(None)
            except queue.Full:
                pass

    def broken(self, client):
        self.leave(client)

    def leave(self, client):
        with self.lock:
            if self.names.get(client.name) is client:
                del self.names[client.name]

    def greeting(self, seat):
        return f"<SERVER type='single' seat='{seat}'><message>Connection successful</message></SERVER>"

    def visit(self, client):
        client.tell(self.greeting(next(self.seats)))
        rest = b""
        while came := client.connection.recv(65536):
            lines, rest = self.cut(rest + came)
            for line in lines:
                if len(line) > LONGEST:
                    return
                self.document(client, line)
            if len(rest) > LONGEST:
                return

    def cut(self, rest):
        *lines, rest = rest.split(b"\n")
        return lines, rest

    def document(self, client, line):
        try:
            root = ElementTree.fromstring(line.decode("utf-8"))
        except (ElementTree.ParseError, UnicodeDecodeError):
            return self.refuse(client, "malformed")
        if root.findtext("command") == "LOGIN":
            self.login(client, root.findtext("username") or "")
        elif (text := root.findtext("message")) is not None:
            self.message(client, text)
        else:
            self.refuse(client, "unknown-command")

    names_allowed = r"[A-Za-z0-9_.-]{1,32}"

    def login(self, client, name):
        if not re.fullmatch(self.names_allowed, name):
            return self.refuse(client, "bad-name")
        with self.lock:
            if self.is_taken(name):
                return self.refuse(client, "name-in-use")
            client.name = name
            self.names[name] = client
            client.tell(self.welcome(name))

    def is_taken(self, name):
        return name in self.names

    def welcome(self, name):
        return f"<SERVER><command>WELCOME</command><username>{name}</username></SERVER>"

    def message(self, client, text):
        if not self.may_write(client):
            return self.refuse(client, "login-first")
        found = self.address(text)
        if not found:
            return self.refuse(client, "malformed")
        to, text = found
        with self.lock:
            other = self.names.get(to)
        if other is None:
            return self.nobody(client)
        self.hand_over(client, other, text)
        self.confirm(client)

    def may_write(self, client):
        return client.name is not None

    def address(self, text):
        found = re.fullmatch(r"%([^%]*)%(.*)", text, re.DOTALL)
        return found and found.groups()

    def nobody(self, client):
        self.refuse(client, "no-such-user")

    def hand_over(self, client, other, text):
        sender = escape(client.name or "")
        other.tell(
            f"<CLIENT from='{sender}' scope='direct'><message>{self.escaped(text)}</message></CLIENT>"
        )

    def escaped(self, text):
        return escape(text)

    def confirm(self, client):
        client.tell("<SERVER><command>SENT</command><count>1</count></SERVER>")

    def refuse(self, client, code):
        client.tell(f"<SERVER><error code='{code}'>that can't be done: {code}</error></SERVER>")


class Greeting(Server):
    def greeting(self, seat):
        return "<SERVER><notice>hello</notice></SERVER>"


class Login(Server):
    def welcome(self, name):
        return "<SERVER><command>WELCOME</command></SERVER>"


class ToOne(Server):
    """Sends to the right recipient, from the wrong sender."""

    def hand_over(self, client, other, text):
        other.tell(
            f"<CLIENT from='{other.name}' scope='direct'><message>{self.escaped(text)}</message></CLIENT>"
        )


class Sent(Server):
    def confirm(self, client):
        pass


class ToNobodyElse(Server):
    """Sends every message to all clients."""

    def hand_over(self, client, other, text):
        with self.lock:
            others = [one for one in self.names.values() if one is not client]
        for one in others:
            super().hand_over(client, one, text)


class NoSuchUser(Server):
    """Replies SENT although there is no recipient."""

    def nobody(self, client):
        self.confirm(client)


class LoginFirst(Server):
    def may_write(self, client):
        return True


class NameInUse(Server):
    """Gives the name to the client that asked last."""

    def is_taken(self, name):
        return False


class BadName(Server):
    """\\w also matches é and 你."""

    names_allowed = r"[\w.-]{1,32}"


class Percent(Server):
    def address(self, text):
        parts = text.split("%")
        return (parts[1], parts[2]) if len(parts) > 2 else None


class Markup(Server):
    """Escapes all special characters except two."""

    def escaped(self, text):
        return text.replace("<", "").replace("&", "")


class AnyXml(Server):
    """Uses a regular expression instead of a parser."""

    def document(self, client, line):
        text = line.decode("utf-8", "replace").strip()
        login = "<CLIENT><command>LOGIN</command><username>(.*)</username></CLIENT>"
        if found := re.fullmatch(login, text):
            return self.login(client, found[1])
        if found := re.fullmatch("<CLIENT><message>(.*)</message></CLIENT>", text):
            return self.message(client, unescape(found[1]))
        self.refuse(client, "unknown-command")


class CutAndGlued(Server):
    """Takes one read for one document."""

    def cut(self, rest):
        return [rest.split(b"\n")[0]], b""


class NameIsFreeAgain(Server):
    """Does not release the name at the end of the stream."""

    def leave(self, client):
        pass

    def broken(self, client):
        super().leave(client)


class NameAfterAReset(Server):
    """Does not clean up after an exception."""

    def broken(self, client):
        pass


class WhoDoesNotRead(Server):
    """Alice's thread blocks in a write to Carol's socket."""

    class Client(Client):
        def __init__(self, connection):
            super().__init__(connection)
            self.lock = threading.Lock()

        def tell(self, document):
            try:
                with self.lock:
                    self.connection.sendall(document.encode("utf-8") + b"\n")
            except OSError:
                pass

    def client(self, connection):
        return WhoDoesNotRead.Client(connection)


class Load(Server):
    """Has only a hundred names."""

    def is_taken(self, name):
        return super().is_taken(name) or len(self.names) >= 100


FAULTS = {
    "greeting": Greeting,
    "login": Login,
    "to-one": ToOne,
    "sent": Sent,
    "to-nobody-else": ToNobodyElse,
    "no-such-user": NoSuchUser,
    "login-first": LoginFirst,
    "name-in-use": NameInUse,
    "bad-name": BadName,
    "percent": Percent,
    "markup": Markup,
    "any-xml": AnyXml,
    "cut-and-glued": CutAndGlued,
    "name-is-free-again": NameIsFreeAgain,
    "name-after-a-reset": NameAfterAReset,
    "who-does-not-read": WhoDoesNotRead,
    "load": Load,
}


def start(port, fault=None):
    kind = FAULTS[fault] if fault else Server
    kind().serve(port)


if __name__ == "__main__":
    start(int(sys.argv[1]), *sys.argv[2:])
