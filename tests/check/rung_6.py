"""A correct server of rung 6, and one with each fault: python3 rung_6.py PORT [FAULT]

A fault has the name of the check that finds it."""
import os
import socket
import sys
import threading
from xml.etree import ElementTree

import rung_4

ROOMS = 16
RESERVED = 2.0 * float(os.environ.get("CHAT_TEST_CLOCK", 1))


class Room:
    """A room: a listener, a thread, the members, and the passcodes of pending members."""

    def __init__(self, server, name, port):
        self.server = server
        self.name = name
        self.port = port
        self.members = {}  # names, with their connections to the room
        self.expected = {}  # passcodes, with their owners
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.guarded, args=(connection,), daemon=True).start()

    def guarded(self, connection):
        with connection:
            member = rung_4.Client(connection)
            try:
                self.visit(member)
            except ConnectionError:
                self.broken(member)
            else:
                self.left(member)
            try:
                member.queue.put_nowait(None)
            except rung_4.queue.Full:
                pass
            member.writer.join(5)

    def broken(self, member):
        self.left(member)

    def left(self, member):
        self.server.out_of(self, member)

    def visit(self, member):
        rest = b""
        while came := member.connection.recv(65536):
            *lines, rest = (rest + came).split(b"\n")
            for line in lines:
                root = ElementTree.fromstring(line.decode("utf-8"))
                if member.name is None:
                    if not self.enter(member, root.findtext("HandshakePasscode")):
                        return
                elif (text := root.findtext("message")) is not None:
                    self.say(member, text)
            if len(rest) > rung_4.LONGEST:
                return

    def enter(self, member, passcode):
        with self.server.lock:
            owner = self.owner(passcode)
            if owner is not None:
                member.name = owner
                self.members[owner] = member
                member.tell(self.greeting("Connection successful"))
                return True
            self.mistaken()
        member.tell(self.greeting("Wrong handshake passcode"))
        return False

    def owner(self, passcode):
        return self.expected.pop(passcode, None)

    def mistaken(self):
        pass

    def greeting(self, text):
        return f"<SERVER type='room' port='{self.port}' room='{self.name}'><message>{text}</message></SERVER>"

    def say(self, member, text):
        document = (
            f"<CLIENT from='{member.name}' scope='room' room='{self.name}'>"
            f"<message>{self.server.escaped(text)}</message></CLIENT>"
        )
        with self.server.lock:
            others = [one for one in self.hearers() if one is not member]
            for one in others:
                one.tell(document)
        member.tell(f"<SERVER><command>SENT</command><count>{len(others)}</count></SERVER>")

    def hearers(self):
        return list(self.members.values())


class Server(rung_4.Server):
    """Clients with names, and rooms. One lock guards everything, and is never held during a write."""

    Room = Room

    def __init__(self):
        super().__init__()
        self.rooms = {}

    def serve(self, port):
        self.ports = list(range(port + ROOMS, port, -1))
        super().serve(port)

    def document(self, client, line):
        try:
            root = ElementTree.fromstring(line.decode("utf-8"))
        except (ElementTree.ParseError, UnicodeDecodeError):
            return self.refuse(client, "malformed")
        command = root.findtext("command")
        if command in ("JOIN", "LEAVE", "ROOMS") and client.name is None:
            return self.refuse(client, "login-first")
        name = root.findtext("room") or ""
        if command == "JOIN":
            return self.join(client, name)
        if command == "LEAVE":
            return self.leave_room(client, name)
        if command == "ROOMS":
            return self.list(client)
        super().document(client, line)

    def join(self, client, name):
        passcode = self.new_passcode()
        with self.lock:
            room = self.rooms.get(name) or self.make(name)
            if room is None:
                return self.refuse(client, "no-room-left")
            room.expected[passcode] = client.name
        threading.Timer(RESERVED, self.no_show, (room, passcode)).start()
        client.tell(self.joined(room, passcode))

    def new_passcode(self):
        return os.urandom(16).hex()

    def joined(self, room, passcode):
        return (
            f"<SERVER><command>JOINED</command><room>{room.name}</room><address>127.0.0.1</address>"
            f"<Port>{room.port}</Port><HandshakePasscode>{passcode}</HandshakePasscode></SERVER>"
        )

    def make(self, name):
        if not self.ports:
            return None
        room = self.Room(self, name, self.take_port())
        self.rooms[name] = room
        return room

    def take_port(self):
        return self.ports.pop()

    def no_show(self, room, passcode):
        with self.lock:
            if room.expected.pop(passcode, None) is not None:
                self.end_if_empty(room)

    def end_if_empty(self, room):
        if room.members or room.expected or self.rooms.get(room.name) is not room:
            return
        del self.rooms[room.name]
        self.stop(room)
        self.give_back(room)

    def stop(self, room):
        # The thread is blocked in accept(): closing the socket would not wake it.
        room.listener.shutdown(socket.SHUT_RDWR)
        room.listener.close()

    def give_back(self, room):
        self.ports.append(room.port)

    def out_of(self, room, member):
        """Removes a member whose connection has ended, or is about to be closed."""
        with self.lock:
            if member.name is None or room.members.get(member.name) is not member:
                return
            del room.members[member.name]
            for one in room.members.values():
                one.tell(f"<SERVER><command>ROOM LEFT</command><username>{member.name}</username><room>{room.name}</room></SERVER>")
            self.end_if_empty(room)

    def leave_room(self, client, name):
        with self.lock:
            room = self.rooms.get(name)
            member = room and room.members.get(client.name)
        if member is None:
            return self.refuse(client, "not-a-member" if room else "no-such-room")
        self.out_of(room, member)
        self.close(member)
        client.tell(f"<SERVER><command>LEFT</command><room>{name}</room></SERVER>")

    def close(self, member):
        member.queue.put(None)

    def leave(self, client):
        with self.lock:
            rooms = self.rooms_of(client)
        for room in rooms:
            with self.lock:
                member = room.members.get(client.name)
            if member is not None:
                self.out_of(room, member)
                self.close(member)
        super().leave(client)

    def rooms_of(self, client):
        return list(self.rooms.values())

    def list(self, client):
        with self.lock:
            rooms = "".join(f"<room members='{self.count(room)}'>{room.name}</room>" for room in self.rooms.values())
        client.tell(f"<SERVER><command>ROOMS</command>{rooms}</SERVER>")

    def count(self, room):
        return len(room.members)


class Join(Server):
    """Sends no passcode."""

    def joined(self, room, passcode):
        return super().joined(room, passcode).replace("HandshakePasscode", "Passcode")


class Enter(Server):
    """Sends the greeting of a worker."""

    class Room(Room):
        def greeting(self, text):
            return super().greeting(text).replace(f" room='{self.name}'", "")


class WrongPasscode(Server):
    """A wrong passcode removes the other clients' passcodes."""

    class Room(Room):
        def mistaken(self):
            self.expected.clear()


class PasscodeOnce(Server):
    """A passcode stays valid as long as the room exists."""

    class Room(Room):
        def __init__(self, *all):
            super().__init__(*all)
            self.used = {}

        def owner(self, passcode):
            if (owner := super().owner(passcode)) is not None:
                self.used[passcode] = owner
            return self.used.get(passcode)


class Passcodes(Server):
    """Uses small random numbers."""

    def new_passcode(self):
        while True:
            passcode = str(100000 + int.from_bytes(os.urandom(2), "big"))
            if not any(passcode in room.expected for room in list(self.rooms.values())):
                return passcode


class Said(Server):
    """Sends messages of the room with the scope direct."""

    class Room(Room):
        def say(self, member, text):
            others = [one for one in self.hearers() if one is not member]
            for one in others:
                one.tell(f"<CLIENT from='{member.name}' scope='direct'><message>{text}</message></CLIENT>")
            member.tell(f"<SERVER><command>SENT</command><count>{len(others)}</count></SERVER>")


class ToMembersOnly(Server):
    """Has one list of members for all rooms."""

    class Room(Room):
        def hearers(self):
            return [one for room in self.server.rooms.values() for one in room.members.values()]


class OwnPort(Server):
    """Uses any port that the kernel chooses."""

    def take_port(self):
        super().take_port()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def give_back(self, room):
        self.ports.append(0)


class Leave(Server):
    """Replies, but leaves the connection to the room open."""

    def leave_room(self, client, name):
        client.tell(f"<SERVER><command>LEFT</command><room>{name}</room></SERVER>")


class Rooms(Server):
    """Counts pending members, and empty rooms, too."""

    def count(self, room):
        return len(room.members) + 1


class Vanishes(Server):
    """Does not clean up after an exception."""

    class Room(Room):
        def broken(self, member):
            pass


class MainConnectionEnds(Server):
    """A client that leaves stays in its rooms."""

    def rooms_of(self, client):
        return []


class RoomEnds(Server):
    """Removes the room, but its thread keeps waiting; the next room at that port inherits it."""

    def __init__(self):
        super().__init__()
        self.listening = {}

    def stop(self, room):
        pass

    def make(self, name):
        if not self.ports:
            return None
        port = self.take_port()
        if port not in self.listening:
            self.listening[port] = self.Room(self, name, port)
        room = self.rooms[name] = self.listening[port]
        room.name = name
        return room


class NoRoomLeft(Server):
    """If there is no port, sends the client to an existing room."""

    def make(self, name):
        return super().make(name) or next(iter(self.rooms.values()))


class MadeAgain(Server):
    """Returns only the first few ports."""

    def __init__(self):
        super().__init__()
        self.given_back = 0

    def give_back(self, room):
        self.given_back += 1
        if self.given_back < 3:
            super().give_back(room)


class Load(Server):
    """Limits a room to ten members."""

    class Room(Room):
        def hearers(self):
            return super().hearers()[:10]


FAULTS = {
    "join": Join,
    "enter": Enter,
    "wrong-passcode": WrongPasscode,
    "passcode-once": PasscodeOnce,
    "passcodes": Passcodes,
    "said": Said,
    "to-members-only": ToMembersOnly,
    "own-port": OwnPort,
    "leave": Leave,
    "rooms": Rooms,
    "vanishes": Vanishes,
    "main-connection-ends": MainConnectionEnds,
    "room-ends": RoomEnds,
    "no-room-left": NoRoomLeft,
    "made-again": MadeAgain,
    "load": Load,
}


def start(port, fault=None):
    kind = FAULTS[fault] if fault else Server
    kind().serve(port)


if __name__ == "__main__":
    start(int(sys.argv[1]), *sys.argv[2:])
