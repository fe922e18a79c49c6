"""Datagrams before anything is decrypted, and sealed broadcasts (docs/PROTOCOL.md, section "Datagrams").

Sizes and types stand here and nowhere else.
"""

import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from . import keys

FORM = 2

INITIATION, RESPONSE, TRANSPORT, DISCOVERY_REQUEST, DISCOVERY_ANSWER, FRAGMENT, STATUS_REQUEST, COOKIE = range(1, 9)

DISCOVERY_REQUEST_SIZE = 1232
INITIATION_NOISE_SIZE = 104
INITIATION_CHECKED = 8 + INITIATION_NOISE_SIZE
RESPONSE_NOISE_SIZE = 48
DISCOVERY_CHECKED = 100
DISCOVERY_VERSIONS = DISCOVERY_CHECKED + 2 * keys.MAC_SIZE
COOKIE_SIZE = 16
TAG_SIZE = 16
BROADCAST_HEADER_SIZE = 12


def start(kind, form=FORM):
    return struct.pack(">BBH", kind, form, 0)


def kind_of(datagram, form=FORM):
    """Returns the type of a datagram of this form, or None."""
    return datagram[0] if len(datagram) >= 4 and datagram[1] == form else None


@dataclass
class Initiation:
    sender: int
    noise: bytes

    def emit(self, receiver_public, form=FORM, cookie=None):
        checked = start(INITIATION, form) + struct.pack(">I", self.sender) + self.noise
        proof = keys.cookie_proof(cookie, checked) if cookie else b""
        return checked + keys.session_mac(receiver_public, checked) + proof

    @classmethod
    def parse(cls, datagram, own_public, form=FORM, cookie=None):
        checked, mac, proof = datagram[:INITIATION_CHECKED], datagram[INITIATION_CHECKED:][:keys.MAC_SIZE], \
            datagram[INITIATION_CHECKED + keys.MAC_SIZE:]
        assert checked[:4] == start(INITIATION, form) and len(checked) == INITIATION_CHECKED
        assert mac == keys.session_mac(own_public, checked)
        assert proof == (keys.cookie_proof(cookie, checked) if cookie else b"")
        return cls(struct.unpack(">I", checked[4:8])[0], checked[8:])


@dataclass
class Response:
    sender: int
    receiver: int
    noise: bytes

    def emit(self, receiver_public, form=FORM):
        checked = start(RESPONSE, form) + struct.pack(">II", self.sender, self.receiver) + self.noise
        return checked + keys.session_mac(receiver_public, checked)

    @classmethod
    def parse(cls, datagram, own_public, form=FORM):
        checked, mac = datagram[:-keys.MAC_SIZE], datagram[-keys.MAC_SIZE:]
        assert checked[:4] == start(RESPONSE, form) and len(checked) == 12 + RESPONSE_NOISE_SIZE
        assert mac == keys.session_mac(own_public, checked)
        return cls(*struct.unpack(">II", checked[4:12]), checked[12:])


@dataclass
class Transport:
    receiver: int
    counter: int
    sealed: bytes

    def emit(self, form=FORM):
        return start(TRANSPORT, form) + struct.pack(">IQ", self.receiver, self.counter) + self.sealed

    @classmethod
    def parse(cls, datagram, form=FORM):
        assert datagram[:4] == start(TRANSPORT, form) and len(datagram) >= 16 + TAG_SIZE
        return cls(*struct.unpack(">IQ", datagram[4:16]), datagram[16:])


def discovery_request(manager, stamp, nonce, form=FORM, cookie=None, versions=None):
    signer = keys.fingerprint("manager", manager.public)[:8]
    signed = start(DISCOVERY_REQUEST, form) + struct.pack(">Q", stamp) + nonce + signer
    checked = signed + manager.discovery.sign(signed)
    proof = keys.cookie_proof(cookie, checked) if cookie else bytes(keys.MAC_SIZE)
    mac = keys.discovery_mac(manager.public, checked)
    return (checked + mac + proof + bytes(versions or ())).ljust(DISCOVERY_REQUEST_SIZE, b"\0")


def read_discovery_request(datagram, manager_public, form=FORM):
    """Returns stamp, nonce and versions of a manager's request; None of anything else."""
    checked, mac = datagram[:DISCOVERY_CHECKED], datagram[DISCOVERY_CHECKED:][:keys.MAC_SIZE]
    signed, signature = checked[:-64], checked[-64:]
    signer = keys.fingerprint("manager", manager_public)[:8]
    if len(datagram) != DISCOVERY_REQUEST_SIZE or signed[:4] != start(DISCOVERY_REQUEST, form) or signed[28:] != signer:
        return None
    spoken, zeros = datagram[DISCOVERY_VERSIONS:][:2], datagram[DISCOVERY_VERSIONS + 2:]
    if mac != keys.discovery_mac(manager_public, checked) or any(zeros):
        return None
    try:
        Ed25519PublicKey.from_public_bytes(manager_public[32:]).verify(signature, signed)
    except InvalidSignature:
        return None
    return int.from_bytes(signed[4:12], "big"), signed[12:28], tuple(spoken) if any(spoken) else None


def discovery_answer(nonce, noise, form=FORM):
    return start(DISCOVERY_ANSWER, form) + nonce + noise


def parse_discovery_answer(datagram, form=FORM):
    """Returns the nonce and the Noise message."""
    assert datagram[:4] == start(DISCOVERY_ANSWER, form)
    return datagram[4:20], datagram[20:]


def cookie_in(datagram, asked, asked_checked, receiver, mac, form=FORM):
    """Returns the cookie that answers `asked`, of which so many bytes are before its mac; None for another datagram."""
    if datagram[:4] != start(COOKIE, form) or len(datagram) != 8 + COOKIE_SIZE + keys.MAC_SIZE:
        return None
    checked, found = datagram[:-keys.MAC_SIZE], datagram[-keys.MAC_SIZE:]
    asked_mac = asked[asked_checked:asked_checked + keys.MAC_SIZE]
    if checked[4:8] != receiver or found != mac(checked + asked_mac):
        return None
    return checked[8:]


def session_cookie(datagram, initiation, responder_public, form=FORM):
    mac = lambda checked: keys.session_cookie_mac(responder_public, checked)
    return cookie_in(datagram, initiation, INITIATION_CHECKED, initiation[4:8], mac, form)


def discovery_cookie(datagram, request, manager_public, form=FORM):
    mac = lambda checked: keys.discovery_cookie_mac(manager_public, checked)
    return cookie_in(datagram, request, DISCOVERY_CHECKED, request[12:16], mac, form)


class Group:
    """Seals and opens the broadcasts of one campaign."""

    def __init__(self, campaign, group_key, form=FORM):
        self.low, self.cipher, self.form = campaign & 0xFFFFFFFF, ChaCha20Poly1305(group_key), form

    def seal(self, kind, block, number, data):
        header = struct.pack(">BBHII", kind, self.form, block, self.low, number)
        return header + self.cipher.encrypt(self.nonce(kind, block, number), data, header)

    def open(self, datagram):
        """Returns type, block, number or round, and data. Raises InvalidTag when it does not open."""
        header, sealed = datagram[:BROADCAST_HEADER_SIZE], datagram[BROADCAST_HEADER_SIZE:]
        kind, form, block, low, number = struct.unpack(">BBHII", header)
        assert (form, low) == (self.form, self.low) and kind in (FRAGMENT, STATUS_REQUEST)
        return kind, block, number, self.cipher.decrypt(self.nonce(kind, block, number), sealed, header)

    @staticmethod
    def nonce(kind, block, number):
        return struct.pack(">B5xHI", kind, block, number)

    def fragment(self, block, number, data):
        return self.seal(FRAGMENT, block, number, data)

    def status_request(self, round_number, answer_window_ms, sent, flags):
        return self.seal(STATUS_REQUEST, 0, round_number, struct.pack(">III", answer_window_ms, sent, flags))
