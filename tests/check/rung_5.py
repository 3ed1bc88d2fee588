"""A correct server of rung 5, and one with each fault: python3 rung_5.py PORT FOLDER [FAULT]

A fault has the name of the check that finds it."""
import hashlib
import hmac
import json
import os
import re
import sys
import threading
import time

import rung_4

TRIES = 3
ROUNDS = 1000


class Accounts:
    """The accounts. Each one is a line of JSON, which is on the disk before WELCOME is sent."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "accounts.jsonl")
        self.lock = threading.Lock()
        self.all = {}
        self.read()

    def read(self):
        try:
            with open(self.path, encoding="utf-8") as file:
                for line in file:
                    try:
                        account = json.loads(line)
                    except ValueError:
                        continue  # An incomplete line: the server was killed before it confirmed the account.
                    self.all[account["name"].lower()] = account
        except FileNotFoundError:
            pass

    def key(self, name):
        return name.lower()

    def get(self, name):
        with self.lock:
            return self.all.get(self.key(name))

    def register(self, name, password):
        """Creates the account, if the name is free."""
        salt = os.urandom(16)
        account = {"name": name, "salt": salt.hex(), "hash": self.hash(password, salt)}
        with self.lock:
            if self.key(name) in self.all:
                return None
            self.write(account)
            self.all[self.key(name)] = account
        return account

    def write(self, account):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(account) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def hash(self, password, salt):
        return hashlib.pbkdf2_hmac("sha256", password.encode("utf-8"), salt, ROUNDS).hex()

    def is_right(self, account, password):
        return hmac.compare_digest(account["hash"], self.hash(password, bytes.fromhex(account["salt"])))


class Server(rung_4.Server):
    """Clients with accounts. A client is in `names` once it has logged in."""

    def __init__(self, folder):
        super().__init__()
        self.accounts = self.open(folder)

    def open(self, folder):
        return Accounts(folder)

    def client(self, connection):
        client = super().client(connection)
        client.claim = None
        client.wrong = 0
        return client

    def document(self, client, line):
        try:
            root = rung_4.ElementTree.fromstring(line.decode("utf-8"))
        except (rung_4.ElementTree.ParseError, UnicodeDecodeError):
            return self.refuse(client, "malformed")
        command = root.findtext("command")
        text = root.findtext("message") or ""
        if command == "LOGIN":
            self.login(client, root.findtext("username") or "")
        elif command == "PASSWORD":
            self.password(client, root.findtext("password") or "")
        elif command == "PM":
            self.public(client, text)
        elif command == "DM":
            self.message(client, f"%{root.findtext('to')}%{text}")
        elif root.find("message") is not None:
            self.message(client, text)
        else:
            self.refuse(client, "unknown-command")

    def login(self, client, name):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", name):
            return self.refuse(client, "bad-name")
        if client.name is not None:
            return self.refuse(client, "already-logged-in")
        client.claim = name
        self.ask(client, self.accounts.get(name) is None)

    def ask(self, client, is_new):
        kind = "new" if is_new else "existing"
        client.tell(f"<SERVER><command>PASSWORD</command><account>{kind}</account></SERVER>")

    def password(self, client, password):
        if client.claim is None:
            return self.refuse(client, "login-first")
        if not 1 <= len(password.encode("utf-8")) <= 128:
            return self.refuse(client, "bad-password")
        account = self.accounts.get(client.claim) or self.accounts.register(client.claim, password)
        if account is None:
            account = self.accounts.get(client.claim)
        if not self.accounts.is_right(account, password):
            return self.wrong(client)
        name = account["name"]
        with self.lock:
            old = self.names.get(name)
            client.name = name
            self.names[name] = client
            client.tell(self.welcome(name))
        if old is not None:
            self.take_over(old)

    def wrong(self, client):
        client.wrong += 1
        self.refuse(client, "wrong-password")
        if client.wrong >= self.tries():
            self.close(client)

    def tries(self):
        return TRIES

    def close(self, client):
        """Sends the pending output first; then the client's own thread reads the end."""
        client.queue.put(None)

    def take_over(self, old):
        old.tell("<SERVER><command>TAKEN OVER</command></SERVER>")
        self.close(old)

    def public(self, client, text):
        if not self.may_write(client):
            return self.refuse(client, "login-first")
        others = self.others(client)
        for one in others:
            one.tell(f"<CLIENT from='{client.name}' scope='public'><message>{self.escaped(text)}</message></CLIENT>")
        self.sent(client, len(others))

    def others(self, client):
        with self.lock:
            return [one for one in self.names.values() if one is not client]

    def sent(self, client, count):
        client.tell(f"<SERVER><command>SENT</command><count>{count}</count></SERVER>")


class NewAccount(Server):
    """Treats every name as an existing account."""

    def ask(self, client, is_new):
        super().ask(client, False)


class Register(Server):
    """Rejects the first password of a new account."""

    def password(self, client, password):
        if self.accounts.get(client.claim) is None:
            return self.refuse(client, "wrong-password")
        super().password(client, password)


class Existing(Server):
    """Takes the clients that are online for the accounts."""

    def ask(self, client, is_new):
        with self.lock:
            is_there = client.claim in self.names
        super().ask(client, not is_there)


class WrongPassword(Server):
    """Closes the connection after one wrong password."""

    def wrong(self, client):
        self.close(client)


class ThreeWrong(Server):
    def tries(self):
        return 4


class WhateverItsCase(Server):
    """Treats names as case-sensitive."""

    class Accounts(Accounts):
        def key(self, name):
            return name

    def open(self, folder):
        return WhateverItsCase.Accounts(folder)


class NotInPlainText(Server):
    class Accounts(Accounts):
        def hash(self, password, salt):
            return password

    def open(self, folder):
        return NotInPlainText.Accounts(folder)


class Public(Server):
    """Sends a public message to its sender, too."""

    def others(self, client):
        with self.lock:
            return list(self.names.values())


class Direct(Server):
    """Sends direct messages with the scope public."""

    def hand_over(self, client, other, text):
        other.tell(f"<CLIENT from='{client.name}' scope='public'><message>{self.escaped(text)}</message></CLIENT>")


class MembersOnly(Server):
    """Delivers messages to clients that have sent LOGIN but no password."""

    def ask(self, client, is_new):
        with self.lock:
            self.names.setdefault(f"?{id(client)}", client)
        super().ask(client, is_new)

    def others(self, client):
        with self.lock:
            return list({id(one): one for one in self.names.values() if one is not client}.values())

    def leave(self, client):
        with self.lock:
            self.names.pop(f"?{id(client)}", None)
        super().leave(client)


class TakenOver(Server):
    """Leaves the old connection open, without a message."""

    def take_over(self, old):
        pass


class SameNameAtOnce(Server):
    """Looks the name up, releases the lock, and inserts it."""

    class Accounts(Accounts):
        def register(self, name, password):
            is_taken = self.get(name) is not None
            time.sleep(0.05)
            if is_taken:
                return None
            salt = os.urandom(16)
            account = {"name": name, "salt": salt.hex(), "hash": self.hash(password, salt)}
            with self.lock:
                self.write(account)
                self.all[self.key(name)] = account
            return account

    def open(self, folder):
        return SameNameAtOnce.Accounts(folder)


class Kept(Server):
    """Buffers the file's data in the program."""

    class Accounts(Accounts):
        def write(self, account):
            self.file = getattr(self, "file", None) or open(self.path, "a", encoding="utf-8")
            self.file.write(json.dumps(account) + "\n")

    def open(self, folder):
        return Kept.Accounts(folder)


class TwentyAtOnce(Server):
    """Each thread reads the file, adds one account and writes the file, without a lock."""

    class Accounts(Accounts):
        def register(self, name, password):
            salt = os.urandom(16)
            account = {"name": name, "salt": salt.hex(), "hash": self.hash(password, salt)}
            with self.lock:
                if self.key(name) in self.all:
                    return None
                self.all[self.key(name)] = account
            self.write(account)
            return account

        def write(self, account):
            try:
                with open(self.path, encoding="utf-8") as file:
                    before = file.read()
            except FileNotFoundError:
                before = ""
            time.sleep(0.02)
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(before + json.dumps(account) + "\n")

    def open(self, folder):
        return TwentyAtOnce.Accounts(folder)


class Load(Server):
    """Delivers a public message to a hundred clients only."""

    def others(self, client):
        return super().others(client)[:100]


FAULTS = {
    "new-account": NewAccount,
    "register": Register,
    "existing": Existing,
    "wrong-password": WrongPassword,
    "three-wrong": ThreeWrong,
    "whatever-its-case": WhateverItsCase,
    "not-in-plain-text": NotInPlainText,
    "public": Public,
    "direct": Direct,
    "members-only": MembersOnly,
    "taken-over": TakenOver,
    "same-name-at-once": SameNameAtOnce,
    "kept": Kept,
    "twenty-at-once": TwentyAtOnce,
    "load": Load,
}


def start(port, folder, fault=None):
    kind = FAULTS[fault] if fault else Server
    kind(folder).serve(port)


if __name__ == "__main__":
    start(int(sys.argv[1]), *sys.argv[2:])
