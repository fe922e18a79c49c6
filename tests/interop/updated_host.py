"""Plays a host that a real `firmcast` discovers and updates: agent, recovery environment, and agent again."""

import hashlib
import json
import os
import secrets
import subprocess
import time

import zstandard

from dead_host import BOARD, IMAGE_SIZE, TICK_S, DeadHost
from lab import OURS, PATIENCE_S, REAL, ROOT, Cable, Failed, expect, program
from peer import bundle, datagrams, keys, messages, noise, versions
from peer.session import Answerer

VARIABLES = ("variables", 0x2000, 0x1000)
NORMAL_OS, RECOVERY = 0, 1


class UpdatedHost(DeadHost):
    """A dead host's recovery environment, with an agent around it."""

    def __init__(self, manager, release, image):
        super().__init__(manager, release, seed=2, is_whole=True, is_newer=False)
        self.answerer = Answerer(self.key.exchange, self.key.public, manager.public[:32])
        size = bundle.BLOCK_SIZE_MIN
        self.chip = os.urandom(size) + image[size:2 * size] + os.urandom(len(image) - 2 * size)
        self.version, self.last_end = "1.0", None
        self.questions, self.measured = set(), 0
        self.speaks = self.spoken = versions.OURS
        self.boot(NORMAL_OS)
        self.first_boot = self.boot_id

    def boot(self, environment):
        """Nothing that was in memory is there any more."""
        self.environment, self.boot_id = environment, secrets.token_hex(16)
        self.manifest, self.manifest_size, self.campaign = bytearray(), None, None
        self.answerer.sessions.clear()

    def identity(self):
        return super().identity() | {"environment": self.environment, "boot id": self.boot_id, "BIOS version": self.version,
                                     "last end": self.last_end}

    # The agent.

    def find_lacking(self):
        """Which pieces of the image the chip does not hold."""
        manifest = bundle.open_signed(bytes(self.manifest), self.release)
        size, digests = manifest[11], manifest[12]
        is_there = lambda piece: hashlib.sha256(self.piece(piece, size)).digest() == digests[32 * piece:32 * piece + 32]
        count = len(digests) // 32
        return [count, [piece for piece in range(count) if not is_there(piece)]]

    def piece(self, number, size):
        return self.chip[number * size:number * size + size]

    def merge(self, payload, manifest):
        """Returns the image of the pieces that travelled and those of the chip."""
        count, carried = self.excerpt["pieces"]
        size, image_size = manifest[11], manifest[9]
        raw = zstandard.ZstdDecompressor().decompress(payload, max_output_size=image_size)
        image = b""
        for number in range(count):
            length = min(size, image_size - number * size)
            piece, raw = (raw[:length], raw[length:]) if number in carried else (self.piece(number, size)[:length], raw)
            image += piece
        expect(raw == b"", "an excerpt has no more than its pieces")
        return image

    def be_agent(self, is_over):
        """Answers the manager until it is so."""
        end = time.monotonic() + PATIENCE_S
        while not is_over():
            if time.monotonic() > end:
                raise Failed(f"the manager did not go on in {PATIENCE_S} s; heard {self.heard[-10:]}")
            heard = self.socket.receive(TICK_S)
            if heard is not None:
                self.hear_as_agent(*heard)

    def hear_as_agent(self, datagram, sender):
        kind = datagrams.kind_of(datagram)
        if kind == datagrams.DISCOVERY_REQUEST:
            self.answer_question(datagram, sender)
        elif kind == datagrams.INITIATION:
            response = self.answerer.response(datagram)
            if response:
                self.socket.send(response, sender)
        elif kind == datagrams.TRANSPORT:
            opened = self.answerer.open(datagram)
            if opened and opened[1]:
                self.session, self.address = opened[0], sender
                name, fields = messages.parse(opened[1])
                self.heard.append(name)
                self.answer_as_agent(name, fields)

    def answer_question(self, datagram, sender):
        asked = datagrams.read_discovery_request(datagram, self.manager.public)
        expect(asked is not None, f"a discovery request that is none: {datagram.hex()}")
        _stamp, nonce, spoken = asked
        if nonce in self.questions:
            return  # the same question for hosts of version 2
        self.questions.add(nonce)
        expect(spoken == versions.OURS, f"the manager speaks {spoken}")
        payload = nonce + messages.write_fields(messages.IDENTITY, self.identity()) + bytes(self.speaks)
        sealed = noise.seal_to(self.key.exchange, self.manager.public[:32], payload)
        self.socket.send(datagrams.discovery_answer(nonce, sealed), sender)

    def answer_as_agent(self, name, fields):
        if name == "caller speaks":
            self.socket.send(self.session.seal(versions.answer(self.speaks)), self.address)
            expect(versions.range_in(fields) == versions.OURS, f"the manager speaks {fields}")
        elif name == "query":
            self.say("identity", **self.identity())
        elif name == "manifest part":
            if fields["campaign"] != self.campaign:
                self.campaign, self.manifest = fields["campaign"], bytearray()
            self.take_manifest(fields)
        elif name == "begin":
            self.lacking = self.find_lacking()
            self.say_phase("accepted")
            self.lacking = None
            self.begun = fields
        elif name == "measure":
            self.measure()

    def say_phase(self, phase):
        self.phase = phase
        self.report()

    def measure(self):
        manifest = bundle.open_signed(bytes(self.manifest), self.release)
        digest = bundle.stable_digest(self.chip, manifest.get(15, []))
        # The first answer is a late one, of the boot before: it says nothing about this one.
        boot_id, self.measured = (self.boot_id if self.measured else self.first_boot), self.measured + 1
        self.say("measurement", **{
            "campaign": self.campaign, "matches": int(digest == manifest[16]), "stable digest": digest.hex(), "boot id": boot_id,
            "BIOS version": self.version, "BIOS vendor": "ACME", "detail": "",
        })

    # An update.

    def be_updated(self, how="commit"):
        self.begun = None
        self.be_agent(lambda: self.begun is not None)
        campaign = self.begun["campaign"]
        self.boot(RECOVERY)
        self.campaign, self.phase = campaign, "ready"
        self.call()
        image = self.receive()
        name, offset, size = VARIABLES
        before, kept = self.chip, self.chip[offset:offset + size]
        self.chip = image[:offset] + kept + image[offset + size:]
        self.be_committed(self.chip, before, how)
        self.boot(NORMAL_OS)
        self.version = "2.0"
        self.last_end = {"campaign": campaign, "reason": 100, "flash": 1, "detail": ""}


class Manager:
    """The real program, with a key and a bundle that the other implementation made."""

    def __init__(self, cable):
        self.cable, folder = cable, cable.folder
        self.manager, self.release = keys.Manager(secrets.token_bytes(32)), keys.Release(secrets.token_bytes(32))
        self.key, self.bundle = folder / "manager.key", folder / "s1.fcb"
        self.key.write_text(keys.secret_text("manager", self.manager.seed, self.manager.public))
        self.key.chmod(0o600)
        self.image = image = os.urandom(IMAGE_SIZE)
        manifest = bundle.describe(image, ([VARIABLES], [], []), l2=1, l3=BOARD["vendor"], l4=[BOARD["product"]], l5=["1.0"],
                                   l13="2.0", l14="2.0")
        self.bundle.write_bytes(bundle.join(bundle.sign(manifest, self.release), image))

    def start(self, log, *words):
        return self.cable.start(log, program("firmcast"), *words, "--json", "--key", self.key, "--state", self.cable.folder / "state")


def check_end(process, cable, log, expected=0):
    try:
        code = process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"the manager does not end: {cable.log(log)}") from None
    expect(code == expected, f"the manager ended with {code}, not {expected}: {cable.log(log)}")


def check_discovery(manager, host):
    asking = manager.start("discover.log", "discover", "--enroll", "--timeout", "2")
    host.be_agent(lambda: asking.poll() is not None)
    check_end(asking, manager.cable, "discover.log")
    found = json.loads(manager.cable.log("discover.log"))
    shown = keys.shown(keys.fingerprint("host", host.key.public))
    expect(host.questions and shown in json.dumps(found), f"discover does not show {shown}: {found}")


def check_mismatch(manager, host):
    """A host that is too new is named as such, and nothing happens to it."""
    host.speaks = versions.NEWER
    asking = manager.start("discover-newer.log", "discover", "--timeout", "2")
    host.be_agent(lambda: asking.poll() is not None)
    said = manager.cable.log("discover-newer.log")
    expect("protocol-mismatch" in said, f"discover, with a host of newer versions: {said}")
    updating = manager.start("update-newer.log", "update", "--bundle", manager.bundle, "--host", OURS)
    host.be_agent(lambda: updating.poll() is not None)
    check_end(updating, manager.cable, "update-newer.log", expected=1)
    results = manager.cable.events("update-newer.log", "result")
    expect([result["reason"] for result in results] == ["protocol-mismatch"] and "begin" not in host.heard, f"{results}")
    host.speaks = versions.OURS


def check_update(manager, host):
    updating = manager.start("update.log", "update", "--bundle", manager.bundle, "--host", OURS)
    host.be_updated()
    host.be_agent(lambda: updating.poll() is not None)
    check_end(updating, manager.cable, "update.log")
    expect(host.excerpt is not None and host.excerpt["pieces"] == [3, [0, 2]], f"the pieces that travelled: {host.excerpt}")
    results = manager.cable.events("update.log", "result")
    expect(len(results) == 1 and results[0]["confirmed"] and results[0]["reason"] == "confirmed", f"{results}")
    expect(host.measured > 1, "a measurement of the boot before has confirmed the host")


def run():
    cable = Cable(ROOT / "target" / "interop" / "updated-host")
    try:
        manager = Manager(cable)
        host = UpdatedHost(manager.manager, manager.release, manager.image)
        check_discovery(manager, host)
        check_mismatch(manager, host)
        check_update(manager, host)
        host.close()
    finally:
        cable.close()
    return f"a real firmcast at {REAL} discovers, enrolls and updates a host of another implementation, and confirms it"
