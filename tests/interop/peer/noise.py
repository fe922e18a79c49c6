"""Noise handshakes, on the library noiseprotocol (docs/PROTOCOL.md, sections "Sessions" and "Discovery")."""

import secrets
import warnings

from noise.connection import Keypair, NoiseConnection

PROLOGUE = b"firmcast 1"
SESSION = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
SEALED = b"Noise_X_25519_ChaChaPoly_BLAKE2s"


def begin(pattern, initiator, secret, peer=None, ephemeral=None):
    noise = NoiseConnection.from_name(pattern)
    noise.set_prologue(PROLOGUE)
    noise.set_as_initiator() if initiator else noise.set_as_responder()
    noise.set_keypair_from_private_bytes(Keypair.STATIC, secret)
    noise.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral or secrets.token_bytes(32))
    if peer is not None:
        noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, peer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of ephemeral keys that somebody chose
        noise.start_handshake()
    return noise


def remote_static(noise):
    return noise.noise_protocol.handshake_state.rs.public_bytes


class TransportKeys:
    """The two keys of a session; each message has the nonce that its datagram names."""

    def __init__(self, noise):
        assert noise.handshake_finished
        protocol = noise.noise_protocol
        self.sending, self.receiving = protocol.cipher_state_encrypt, protocol.cipher_state_decrypt

    def seal(self, counter, message):
        self.sending.n = counter
        return self.sending.encrypt_with_ad(b"", message)

    def open(self, counter, sealed):
        """Raises InvalidTag when the message is not authentic."""
        self.receiving.n = counter
        return self.receiving.decrypt_with_ad(b"", sealed)


def seal_to(secret, peer, message, ephemeral=None):
    """One message to the owner of `peer`, which proves whose it is."""
    return bytes(begin(SEALED, True, secret, peer, ephemeral).write_message(message))


def open_from_anybody(secret, sealed):
    """Returns the sender's key and the message."""
    noise = NoiseConnection.from_name(SEALED)
    noise.set_prologue(PROLOGUE)
    noise.set_as_responder()
    noise.set_keypair_from_private_bytes(Keypair.STATIC, secret)
    noise.start_handshake()
    state = noise.noise_protocol.handshake_state
    message = bytes(noise.read_message(sealed))
    return state.rs.public_bytes, message
