"""Keys, fingerprints and keyed checks (docs/PROTOCOL.md, sections "Keys" and "Sessions")."""

import base64
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

MAC_SIZE = 16


def keyed(key, text, size=32):
    return hashlib.blake2s(text, key=key, digest_size=size).digest()


def exchange_public(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def signing_public(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def fingerprint(role, public):
    return hashlib.sha256(f"firmcast-{role}-key".encode() + b"\0" + public).digest()


def shown(digest):
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_line(role, public):
    return f"firmcast-{role}-key {base64.b64encode(public).decode()} {shown(fingerprint(role, public))}"


def secret_text(role, secret, public):
    digits = base64.b64encode(secret).decode()
    return f"firmcast-{role}-key PRIVATE: keep this file secret\n{digits}\n{shown(fingerprint(role, public))}\n"


def read_public(role, line):
    word, digits, stated = line.split()[:3]
    public = base64.b64decode(digits, validate=True)
    assert word == f"firmcast-{role}-key" and stated == shown(fingerprint(role, public)), line
    return public


def mac_key(label, public):
    return hashlib.blake2s(label.encode() + public).digest()


def session_mac(receiver_public, checked):
    return keyed(mac_key("firmcast session mac", receiver_public), checked, MAC_SIZE)


def discovery_mac(manager_public, checked):
    return keyed(mac_key("firmcast discovery mac", manager_public), checked, MAC_SIZE)


def session_cookie_mac(responder_public, checked):
    return keyed(mac_key("firmcast session cookie", responder_public), checked, MAC_SIZE)


def discovery_cookie_mac(manager_public, checked):
    return keyed(mac_key("firmcast discovery cookie", manager_public), checked, MAC_SIZE)


def cookie_proof(cookie, checked):
    """The cookie mac of an initiation or a discovery request."""
    return keyed(mac_key("firmcast cookie mac", cookie), checked, MAC_SIZE)


@dataclass
class Host:
    secret: bytes

    @property
    def exchange(self):
        return self.secret

    @property
    def public(self):
        return exchange_public(self.secret)


@dataclass
class Manager:
    seed: bytes

    @property
    def exchange(self):
        return keyed(self.seed, b"firmcast 1 manager exchange")

    @property
    def discovery(self):
        return Ed25519PrivateKey.from_private_bytes(keyed(self.seed, b"firmcast 1 manager discovery"))

    @property
    def public(self):
        return exchange_public(self.exchange) + self.discovery.public_key().public_bytes_raw()


@dataclass
class Release:
    seed: bytes

    @property
    def key(self):
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def public(self):
        return signing_public(self.seed)

    @property
    def kid(self):
        return fingerprint("release", self.public)
