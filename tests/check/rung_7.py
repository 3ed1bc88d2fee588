"""A correct server of rung 7, and one with each fault: python3 rung_7.py PORT [FAULT]

A fault has the name of the check that finds it."""
import os
import socket
import sys
import threading
import time
from xml.etree import ElementTree
# xml.sax.saxutils has one, too, and loads HTTP and TLS for it: a start would take twice as long.
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
    """The visit is over; what is told before."""


class Worker:
    """A listener and a thread, which serves one client at a time."""

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
        """With the lock held, when the port has been taken from the stack."""
        self.state = RESERVED
        self.passcode = self.new_passcode()
        self.reserved_at = time.monotonic()

    def new_passcode(self):
        return os.urandom(16).hex()

    def tick(self, now):
        """With the lock held. Nobody has come."""
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
        """What is unread would turn the end into a reset, and the other might lose what it was told."""
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
        """The port goes back, when whoever waits in the backlog has been turned away."""
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
        """The text of the next message, or the passcode; None if it is neither."""
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
    """The port alone."""

    def directions(self, worker):
        return f"<SERVER type='worker'><Port>{worker.port}</Port></SERVER>"


class Greeting(Server):
    """The greeting of another port."""

    class Worker(Worker):
        def greeting(self, text):
            return super().greeting(text).replace(str(self.port), str(self.port + 1))


class Full(Server):
    """When the stack is empty, the first worker has to do."""

    def full(self):
        return self.directions(self.workers[0])


class Pairs(Server):
    """Everybody hears it."""

    class Worker(Worker):
        def partners(self):
            return [worker for worker in self.server.workers if worker is not self]


class Terminate(Server):
    """The command is not known."""

    class Worker(Worker):
        def terminate(self):
            pass


class Vanishes(Server):
    """What an exception ends is not cleared up: the worker has one client less to serve, for ever."""

    class Worker(Worker):
        def broken(self):
            if self.connection is not None:
                self.connection = None
                self.lost = True

        def push(self):
            if not getattr(self, "lost", False):
                super().push()


class WrongPasscode(Server):
    """The port is still reserved after the wrong one."""

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
    """Whoever has gone gives back a port, whether or not they had one."""

    class Worker(Worker):
        def stray(self, connection):
            super().stray(connection)
            with self.server.lock:
                self.push()


class Backlog(Server):
    """The port goes back at once, and the next connection that is fetched is taken for the next client's."""

    class Worker(Worker):
        def clear(self):
            pass

        def over(self):
            super().over()
            time.sleep(0.2 * SLOWER)


class NoShow(Server):
    """Nobody looks at the clock."""

    class Worker(Worker):
        def tick(self, now):
            pass


class Silent(Server):
    """The first word is waited for as long as it takes."""

    class Worker(Worker):
        def handshake_deadline(self):
            return time.monotonic() + 100_000


class Idle(Server):
    """It hangs up without a word."""

    class Worker(Worker):
        def idle_timeout(self):
            return ""


class Total(Server):
    """It lasts as long as they speak."""

    class Worker(Worker):
        def total(self):
            return 100_000


class Passcodes(Server):
    """A counter."""

    class Worker(Worker):
        given = 1_000_000

        def new_passcode(self):
            type(self).given += 1
            return str(type(self).given)


class EachPortOnce(Server):
    """A connection that breaks before its passcode gives the port back twice."""

    class Worker(Worker):
        def broken(self):
            if self.connection is None:
                with self.server.lock:
                    self.push()


class Load(Server):
    """After a hundred and fifty tickets there are no more."""

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
