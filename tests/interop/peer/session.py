"""The calling side of a session (docs/PROTOCOL.md, section "Sessions"): that of a manager with an agent, of a host with a manager."""

import secrets

from cryptography.exceptions import InvalidTag

from . import datagrams, messages, noise

WINDOW = 128


class Window:
    """Accepts each counter once, and none that is too far behind."""

    def __init__(self):
        self.highest, self.seen = -1, set()

    def accept(self, counter):
        if counter <= self.highest - WINDOW or counter in self.seen:
            return False
        self.highest = max(self.highest, counter)
        self.seen = {seen for seen in self.seen if seen > self.highest - WINDOW} | {counter}
        return True


class Call:
    """An initiation, and the session that its response makes. Another try is another call."""

    def __init__(self, secret, own_public, peer_public, stamp, cookie=None):
        self.own_public, self.peer_public = own_public, peer_public
        self.index = secrets.randbits(32)
        self.noise = noise.begin(noise.SESSION, True, secret, peer_public)
        message = bytes(self.noise.write_message(stamp.to_bytes(8, "big")))
        self.datagram = datagrams.Initiation(self.index, message).emit(peer_public, cookie=cookie)

    def cookie_in(self, datagram):
        """Returns the cookie when this datagram is one for this call."""
        return datagrams.session_cookie(datagram, self.datagram, self.peer_public)

    def answered(self, datagram):
        """Returns the session when this is the response."""
        if datagrams.kind_of(datagram) != datagrams.RESPONSE:
            return None
        response = datagrams.Response.parse(datagram, self.own_public)
        if response.receiver != self.index:
            return None
        self.noise.read_message(response.noise)
        return Session(noise.TransportKeys(self.noise), self.index, response.sender)


class Answerer:
    """The side that is called: a host in its normal OS."""

    def __init__(self, secret, own_public, allowed):
        self.secret, self.own_public, self.allowed = secret, own_public, allowed
        self.sessions, self.newest_stamp = {}, 0

    def response(self, datagram):
        """Returns the response to an initiation, or None when it gets none. Makes the session."""
        initiation = datagrams.Initiation.parse(datagram, self.own_public)
        called = noise.begin(noise.SESSION, False, self.secret)
        try:
            stamp = int.from_bytes(called.read_message(initiation.noise), "big")
        except InvalidTag:
            return None
        peer = noise.remote_static(called)
        if peer != self.allowed or stamp <= self.newest_stamp:
            return None
        self.newest_stamp = stamp
        response = datagrams.Response(secrets.randbits(32), initiation.sender, bytes(called.write_message(b"")))
        self.sessions[response.sender] = Session(noise.TransportKeys(called), response.sender, initiation.sender)
        return response.emit(peer)

    def open(self, datagram):
        """Returns the session and the message of a transport datagram, or None."""
        session = self.sessions.get(datagrams.Transport.parse(datagram).receiver)
        message = session.open(datagram) if session else None
        return None if message is None else (session, message)


class Session:
    def __init__(self, keys, own_index, peer_index):
        self.keys, self.own_index, self.peer_index = keys, own_index, peer_index
        self.counter, self.window = 0, Window()

    def seal(self, message):
        assert len(message) <= messages.MESSAGE_SIZE_MAX
        sealed = self.keys.seal(self.counter, message)
        datagram = datagrams.Transport(self.peer_index, self.counter, sealed).emit()
        self.counter += 1
        return datagram

    def open(self, datagram):
        """Returns the message, or None for what is not of this session, not authentic, or not new."""
        if datagrams.kind_of(datagram) != datagrams.TRANSPORT:
            return None
        transport = datagrams.Transport.parse(datagram)
        if transport.receiver != self.own_index:
            return None
        try:
            message = self.keys.open(transport.counter, transport.sealed)
        except InvalidTag:
            return None
        return message if self.window.accept(transport.counter) else None
