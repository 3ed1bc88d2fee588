"""A correct server of rung 7, and one with each fault: python3 rung_7.py PORT [FAULT]

A fault has the name of the check that finds it."""
import os
import socket
import sys
import threading
import time
from xml.etree import ElementTree
# xml.sax.saxutils has one, too, but it loads HTTP and TLS: the start would take twice as long.
from html import escape

WORKERS = 4
# The factor for the timeouts of the checker and of the servers that it checks.
SLOWER = float(os.environ.get("CHAT_TEST_CLOCK", 1))
RESERVATION = 1.0 * SLOWER
HANDSHAKE = 1.0 * SLOWER
IDLE = 2.0 * SLOWER
TOTAL = 6.0 * SLOWER
TICK = 0.1
LONGEST = 8192

IDLE_TIMEOUT = "<SERVER><command>IDLE TIMEOUT</command></SERVER>"
TOTAL_TIMEOUT = "<SERVER><command>TOTAL TIME TIMEOUT</command></SERVER>"
FULL = "<SERVER><command>FULL</command></SERVER>"

FREE, RESERVED, CALLED = "free", "reserved", "called"


class Over(Exception):
    """Ends a visit, after a last document."""


class Worker:
    """A worker: a listener and a thread, which serves one client at a time."""

    def __init__(self, server, port):
        self.server = server
        self.port = port
        self.state = FREE
        self.passcode = None
        self.reserved_at = 0.0
        self.connection = None
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        threading.Thread(target=self.serve, daemon=True).start()

    def reserve(self):
        """Called with the lock held, after the port has been taken from the stack."""
        self.state = RESERVED
        self.passcode = self.new_passcode()
        self.reserved_at = time.monotonic()

    def new_passcode(self):
        return os.urandom(16).hex()

    def tick(self, now):
        """Called with the lock held, if no client has connected."""
        if self.state == RESERVED and now - self.reserved_at >= RESERVATION:
            self.state = FREE
            self.push()

    def push(self):
        self.server.stack.append(self)

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                if not self.takes():
                    self.stray(connection)
                    continue
                try:
                    self.visit(connection)
                except OSError:
                    self.broken()
                except Over as over:
                    self.tell(connection, str(over))
                    self.hang_up(connection)
                self.over()

    def takes(self):
        with self.server.lock:
            if self.state != RESERVED:
                return False
            self.state = CALLED
            return True

    def stray(self, connection):
        self.turn_away(connection)

    def turn_away(self, connection):
        self.tell(connection, self.greeting("Wrong handshake passcode"))
        self.hang_up(connection)

    def hang_up(self, connection):
        """Unread data would turn the close into a reset, and the client might lose the last document."""
        try:
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.01)
            connection.recv(65536)
        except OSError:
            pass

    def greeting(self, text):
        return f"<SERVER type='worker' port='{self.port}'><message>{text}</message></SERVER>"

    def tell(self, connection, document):
        if document:
            try:
                connection.sendall(document.encode("utf-8") + b"\n")
            except OSError:
                pass

    def broken(self):
        pass

    def over(self):
        """Returns the port, after rejecting the clients in the backlog."""
        self.clear()
        with self.server.lock:
            self.connection = None
            self.state = FREE
            self.push()

    def clear(self):
        self.listener.setblocking(False)
        try:
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    self.turn_away(connection)
        except BlockingIOError:
            pass
        finally:
            self.listener.setblocking(True)

    def visit(self, connection):
        self.came(connection)
        self.rest = b""
        passcode = self.next(connection, self.handshake_deadline(), IDLE_TIMEOUT)
        if passcode != self.passcode:
            return self.wrong(connection)
        start = time.monotonic()
        with self.server.lock:
            self.connection = connection
        self.tell(connection, self.greeting("Connection successful"))
        heard = start
        while True:
            idle, total = heard + IDLE, start + self.total()
            if idle < total:
                text = self.next(connection, idle, self.idle_timeout())
            else:
                text = self.next(connection, total, TOTAL_TIMEOUT)
            heard = time.monotonic()
            if heard >= total:
                raise Over(TOTAL_TIMEOUT)
            if text is not None:
                self.relay(text)

    def came(self, connection):
        pass

    def handshake_deadline(self):
        return time.monotonic() + HANDSHAKE

    def wrong(self, connection):
        self.turn_away(connection)

    def total(self):
        return TOTAL

    def idle_timeout(self):
        return IDLE_TIMEOUT

    def next(self, connection, deadline, farewell):
        """Returns the text of the next message, or the passcode; None if it is neither."""
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Over(farewell)
            connection.settimeout(left)
            try:
                came = connection.recv(65536)
            except TimeoutError:
                continue
            if not came or len(self.rest) > LONGEST:
                raise Over("")
            self.rest += came
        line, self.rest = self.rest.split(b"\n", 1)
        try:
            root = ElementTree.fromstring(line.decode("utf-8"))
        except (ElementTree.ParseError, UnicodeDecodeError):
            return None
        if root.findtext("command") == "TERMINATE":
            self.terminate()
        return root.findtext("HandshakePasscode") or root.findtext("message")

    def terminate(self):
        raise Over("")

    def relay(self, text):
        document = f"<CLIENT from='{self.port}'><message>{escape(text)}</message></CLIENT>"
        for partner in self.partners():
            with self.server.lock:
                connection = partner.connection
            if connection is not None:
                self.tell(connection, document)

    def partners(self):
        workers = self.server.workers
        return [workers[workers.index(self) ^ 1]]


class Server:
    """The portal. Its lock guards the stack and each worker's state."""

    Worker = Worker

    def serve(self, port):
        self.lock = threading.Lock()
        with socket.create_server(("127.0.0.1", port), backlog=256) as portal:
            self.workers = [self.Worker(self, port + number) for number in range(1, WORKERS + 1)]
            self.stack = self.workers[::-1]
            threading.Thread(target=self.ticker, daemon=True).start()
            while True:
                connection, _ = portal.accept()
                with connection:
                    try:
                        connection.sendall(self.ticket().encode("utf-8") + b"\n")
                    except OSError:
                        pass

    def ticker(self):
        while True:
            time.sleep(TICK)
            with self.lock:
                now = time.monotonic()
                for worker in self.workers:
                    worker.tick(now)

    def ticket(self):
        with self.lock:
            if not self.stack:
                return self.full()
            worker = self.stack.pop()
            worker.reserve()
            return self.directions(worker)

    def full(self):
        return FULL

    def directions(self, worker):
        return (
            f"<SERVER type='worker'><Port>{worker.port}</Port>"
            f"<HandshakePasscode>{worker.passcode}</HandshakePasscode></SERVER>"
        )


class Ticket(Server):
    """Sends the port alone."""

    def directions(self, worker):
        return f"<SERVER type='worker'><Port>{worker.port}</Port></SERVER>"


class Greeting(Server):
    """Sends the greeting of another port."""

    class Worker(Worker):
        def greeting(self, text):
            return super().greeting(text).replace(str(self.port), str(self.port + 1))


class Full(Server):
    """If the stack is empty, uses the first worker."""

    def full(self):
        return self.directions(self.workers[0])


class Pairs(Server):
    """Sends every message to all clients."""

    class Worker(Worker):
        def partners(self):
            return [worker for worker in self.server.workers if worker is not self]


class Terminate(Server):
    """Does not know the command."""

    class Worker(Worker):
        def terminate(self):
            pass


class Stack(Server):
    """Uses a queue: the port that has waited longest is assigned first."""

    class Worker(Worker):
        def push(self):
            self.server.stack.insert(0, self)


class Vanishes(Server):
    """Does not clean up after an exception: the worker is lost forever."""

    class Worker(Worker):
        def broken(self):
            if self.connection is not None:
                self.connection = None
                self.lost = True

        def push(self):
            if not getattr(self, "lost", False):
                super().push()


class WrongPasscode(Server):
    """Keeps the port reserved after a wrong passcode."""

    class Worker(Worker):
        def wrong(self, connection):
            super().wrong(connection)
            self.is_wrong = True

        def over(self):
            if getattr(self, "is_wrong", False):
                self.is_wrong = False
                with self.server.lock:
                    self.state = RESERVED
                    self.reserved_at = time.monotonic()
            else:
                super().over()


class Stray(Server):
    """Returns a port after every visit, even without one."""

    class Worker(Worker):
        def stray(self, connection):
            super().stray(connection)
            with self.server.lock:
                self.push()


class Backlog(Server):
    """Returns the port at once, and takes the next accepted connection for the next client."""

    class Worker(Worker):
        def clear(self):
            pass

        def over(self):
            super().over()
            time.sleep(0.2 * SLOWER)


class NoShow(Server):
    """Never checks the clock."""

    class Worker(Worker):
        def tick(self, now):
            pass


class Silent(Server):
    """Waits for the first line without a timeout."""

    class Worker(Worker):
        def handshake_deadline(self):
            return time.monotonic() + 100_000


class Idle(Server):
    """Closes without a document."""

    class Worker(Worker):
        def idle_timeout(self):
            return ""


class Total(Server):
    """Has no total timeout."""

    class Worker(Worker):
        def total(self):
            return 100_000


class Passcodes(Server):
    """Uses a counter."""

    class Worker(Worker):
        given = 1_000_000

        def new_passcode(self):
            type(self).given += 1
            return str(type(self).given)


class EachPortOnce(Server):
    """Returns the port twice if a connection breaks before its passcode."""

    class Worker(Worker):
        def broken(self):
            if self.connection is None:
                with self.server.lock:
                    self.push()


class Load(Server):
    """Stops assigning ports after a hundred and fifty tickets."""

    def __init__(self):
        self.given = 0

    def directions(self, worker):
        self.given += 1
        return super().directions(worker) if self.given <= 150 else FULL


FAULTS = {
    "ticket": Ticket,
    "greeting": Greeting,
    "full": Full,
    "pairs": Pairs,
    "terminate": Terminate,
    "stack": Stack,
    "vanishes": Vanishes,
    "wrong-passcode": WrongPasscode,
    "stray": Stray,
    "backlog": Backlog,
    "no-show": NoShow,
    "silent": Silent,
    "idle": Idle,
    "total": Total,
    "passcodes": Passcodes,
    "each-port-once": EachPortOnce,
    "load": Load,
}


def start(port, fault=None):
    kind = FAULTS[fault] if fault else Server
    kind().serve(port)


if __name__ == "__main__":
    start(int(sys.argv[1]), *sys.argv[2:])
