"""Plays dead hosts against a real `firmcast serve`, over a network that loses datagrams."""

import hashlib
import os
import random
import secrets
import time

from lab import MANAGER_PORT, PATIENCE_S, PORT, REAL, ROOT, Cable, Socket, command, expect, program, wait_until
from peer import bundle, datagrams, keys, messages, versions
from peer.session import Call
from peer.transfer import Receiver, Sender

MANAGER = (REAL, MANAGER_PORT)
BOARD = {"vendor": "ACME", "product": "S1"}
IMAGE_SIZE = 192 * 1024
PART_MAX = 1024
LOSS = 0.1
DAMAGE = 0.03
UNTOUCHED, UPDATED, UNTOUCHED_BROKEN = 0, 1, 6
REASON_NONE, REASON_UPDATED, REASON_NO_BUNDLE = 0, 100, 212
HOLD_S, HOLD_TOLD_S = range(45, 76), 3600
VALID, INVALID = 0, 1
# What a newer version may bring.
MORE = b"\x5a\xa5"
UNKNOWN_TYPE = 0xEE
TICK_S = 0.02
RETRY_S = 0.5
SILENCE_S = 0.5
GROUP = "239.1.2.3"


class DeadHost:
    """One host; each step waits for what the manager must do next."""

    def __init__(self, manager, release, seed, is_whole, is_newer):
        self.key = keys.Host(secrets.token_bytes(32))
        self.manager, self.release, self.is_whole, self.is_newer = manager, release, is_whole, is_newer
        self.socket, self.random = Socket(PORT), random.Random(seed)
        self.session = self.receiver = self.campaign = None
        self.manifest, self.heard, self.lost = bytearray(), [], 0
        # One host of version 2, and one of today's and all that are to come.
        self.spoken = (versions.OURS[0], versions.NEWER[1]) if is_newer else versions.UNSAID
        self.phase, self.flash, self.digests = "ready", UNTOUCHED if is_whole else UNTOUCHED_BROKEN, None
        self.sender, self.address, self.excerpt = None, MANAGER, None
        # What is unknown to older versions must not stand where they expect something that they know.
        self.lacking = [] if is_newer else None

    # What the host says.

    def say(self, name, **fields):
        message = messages.emit(name, **fields) + (MORE if self.is_newer else b"")
        self.socket.send(self.session.seal(message), self.address)

    def identity(self):
        return {
            "environment": 1, "boot id": "11" * 16, "flash size": IMAGE_SIZE, "obstacle": 0, "floor": 0, "host": "dead1",
            "BIOS version": "1.0", "flash": "bios", "agent version": "another implementation", "obstacle detail": "",
            "condition": 0 if self.is_whole else 2, "doubt": "", "last end": None,
        } | BOARD

    def ask_for_help(self, wants_image=1, **changed):
        self.say("help request", **{
            "wants image": wants_image, "finding": VALID if self.is_whole else INVALID, "offset": 0, "why": "tests",
            "identity": self.identity() | changed, "rescues": 0 if self.is_newer else None,
        })

    def report(self):
        reason = REASON_UPDATED if self.phase in ("updated", "rebooting") else 0
        self.say("report", campaign=self.campaign, phase=messages.PHASES.index(self.phase), reason=reason, flash=self.flash,
                 done=0, total=0, digests=self.digests, detail="", lacking=self.lacking)

    # What it hears.

    def listen(self, seconds=TICK_S):
        """Takes one datagram; returns name and fields of a message that brings the host on."""
        heard = self.socket.receive(seconds)
        if heard is None:
            return None
        datagram, sender = heard
        expect(sender[0] == REAL, f"a datagram from {sender}")
        if datagrams.kind_of(datagram) in (datagrams.FRAGMENT, datagrams.STATUS_REQUEST):
            self.take_broadcast(datagram)
            return None
        message = self.session.open(datagram) if self.session else None
        if not message:
            return None
        if message[0] not in messages.COMMANDS | messages.VERSIONS:
            self.say("command not understood", type=message[0])
            return None
        name, fields = messages.parse(message)
        self.heard.append(name)
        return name, fields

    def take_broadcast(self, datagram):
        if self.receiver is None:
            return
        if self.random.random() < LOSS:
            self.lost += 1
            return
        if self.random.random() < DAMAGE:
            at = self.random.randrange(datagrams.BROADCAST_HEADER_SIZE, len(datagram))
            datagram = datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1:]
        answer = self.receiver.handle(datagram)
        if answer is not None:
            self.say("fragment status", **answer)

    def until(self, what, is_so, repeat):
        """Handles what comes, and says something again and again, until it is so."""
        end, next_time = time.monotonic() + PATIENCE_S, 0
        while not is_so():
            expect(time.monotonic() < end, f"waited {PATIENCE_S} s in vain: {what}; heard {self.heard[-10:]}")
            if time.monotonic() >= next_time:
                next_time = time.monotonic() + RETRY_S
                repeat()
            heard = self.listen()
            if heard is not None:
                self.handle(*heard)

    def handle(self, name, fields):
        if name == "query":
            self.say("identity", **self.identity())
        elif name == "manifest part":
            self.take_manifest(fields)
        elif name == "join" and self.receiver is None and len(self.manifest) == self.manifest_size:
            self.receiver, self.phase = Receiver(fields["parameters"], fields.get("FEC scheme", 0)), "receiving"
            self.excerpt = fields.get("excerpt")
            if fields["family"] == 4:
                self.socket.join(".".join(map(str, bytes.fromhex(fields["group"]))))
            self.group = fields["group"]
        elif name == "backup status" and self.sender is not None:
            self.offer_answers.append(fields)
        self.last[name] = fields

    def take_manifest(self, fields):
        expect(fields["campaign"] == self.campaign, f"a manifest of another campaign: {fields['campaign']}")
        part = bytes.fromhex(fields["bytes"])
        expect(0 < len(part) <= PART_MAX, f"a part of {len(part)} bytes")
        self.manifest_size = fields["total"]
        if fields["offset"] == len(self.manifest):
            self.manifest += part
        self.say("manifest held", campaign=self.campaign, held=len(self.manifest))

    # What it does.

    def call(self):
        calls, self.last, self.manifest_size = [], {}, None

        def attempt():
            calls.append(Call(self.key.exchange, self.key.public, self.manager.public[:32], time.time_ns() // 1000))
            self.socket.send(calls[-1].datagram, self.address)

        end, self.session = time.monotonic() + PATIENCE_S, None
        while self.session is None:
            expect(time.monotonic() < end, "the manager does not answer calls")
            attempt()
            heard = self.socket.receive(RETRY_S)
            while heard is not None and self.session is None:
                self.session = calls[-1].answered(heard[0])
                heard = None if self.session else self.socket.receive(TICK_S)
        self.say_versions()
        return calls[-1]

    def say_versions(self):
        first = versions.said_first(self.spoken)
        self.socket.send(self.session.seal(first), self.address)
        if first:
            self.until("the manager says its versions", lambda: "called speaks" in self.last, lambda: None)
            theirs = versions.range_in(self.last["called speaks"])
            expected = versions.common(self.spoken, versions.OURS)
            expect(versions.common(self.spoken, theirs) == expected, f"the manager speaks {theirs}")

    def be_too_new(self, is_told):
        """Calls in versions that the manager does not speak."""
        self.spoken, spoken = versions.NEWER, self.spoken
        self.call()
        self.until("the service tells of a host that is too new", is_told, self.ask_for_help)
        expect("enlist" not in self.heard, "a host without a common version is enlisted")
        self.spoken = spoken

    def be_held(self):
        """Asks with a board for which there is nothing, and then only tells something."""
        recorded = self.call()
        self.socket.send(recorded.datagram, self.address)
        until = time.monotonic() + SILENCE_S
        while (left := until - time.monotonic()) > 0:
            heard = self.socket.receive(left)
            expect(not heard or datagrams.kind_of(heard[0]) != datagrams.RESPONSE, "a copy of an initiation is answered")
        other_board = lambda: self.ask_for_help(product="S9")
        self.until("the manager holds a host for which it has nothing", lambda: "hold" in self.last, other_board)
        held = self.last.pop("hold")
        expect(held["reason"] == REASON_NO_BUNDLE and held["again"] in HOLD_S, f"{held}")
        only_tell = lambda: self.ask_for_help(wants_image=0)
        is_told = lambda: self.last.get("hold", {}).get("again") == HOLD_TOLD_S
        self.until("the manager has been told", is_told, only_tell)
        expect(self.last["hold"] == {"again": HOLD_TOLD_S, "reason": REASON_NONE, "detail": ""}, f"{self.last['hold']}")
        expect("enlist" not in self.heard, "a host that wants nothing is enlisted")

    def be_enlisted(self):
        self.call()
        self.until("the manager enlists the host", lambda: "enlist" in self.last, self.ask_for_help)
        if self.is_newer:
            say_news = lambda: self.socket.send(self.session.seal(bytes([UNKNOWN_TYPE])), self.address)
            self.until("the manager says that it does not understand", lambda: "answer not understood" in self.last, say_news)
            expect(self.last["answer not understood"]["type"] == UNKNOWN_TYPE, f"{self.last}")
        enlisted = self.last["enlist"]
        expect(enlisted["transfer timeout"] > 0, f"{enlisted}")
        self.campaign = enlisted["campaign"]
        self.call()

    def receive(self):
        """Returns the image, received and verified."""
        self.until("the manager brings the manifest", lambda: len(self.manifest) == self.manifest_size, self.report)
        manifest = bundle.open_signed(bytes(self.manifest), self.release)
        self.until("the manager names the transfer", lambda: self.receiver is not None, self.report)
        if self.excerpt is None:
            expect(self.receiver.geometry.payload_size == manifest[7], "the payload's size is the manifest's")
        self.until("all fragments arrive", self.receiver.is_complete, self.report)
        payload = self.receiver.payload()
        digest = manifest[8] if self.excerpt is None else bytes.fromhex(self.excerpt["payload digest"])
        expect(hashlib.sha256(payload).digest() == digest, "the payload has the digest that it should have")
        image = payload if self.excerpt is None else self.merge(payload, manifest)
        expect(hashlib.sha256(image).digest() == manifest[10], "the image has the manifest's digest")
        self.phase = "verified"
        return image

    def be_committed(self, image, before, how="commit"):
        self.until(f"the manager says {how}", lambda: how in self.last, self.report)
        expect(self.last[how]["campaign"] == self.campaign, f"{how}: {self.last[how]}")
        if how == "commit with escrow":
            self.give_backup(before)
        for self.phase in ("backing up", "writing", "verifying"):
            self.report()
        self.phase, self.flash = "updated", UPDATED
        self.digests = [hashlib.sha256(content).hexdigest() for content in (before, image)]
        self.until("the manager releases the host", lambda: "release" in self.last, self.report)
        self.phase = "rebooting"
        self.report()

    def give_backup(self, backup):
        self.phase = "escrow"
        parameters = {"campaign": self.campaign, "group key": secrets.token_bytes(32).hex(), "payload size": len(backup),
                      "fragment size": self.receiver.geometry.fragment_size}
        digest = hashlib.sha256(backup).hexdigest()
        self.sender, self.offer_answers = Sender(parameters, backup), []
        offer = lambda: self.say("backup offer", parameters=parameters, digest=digest, closed=[[0x1000, 0x100]])
        self.until("the manager takes the offer", lambda: self.offer_answers, offer)
        expect(self.offer_answers[0]["round"] == 0, f"the first backup status is of round 0: {self.offer_answers[0]}")
        self.send_lossy(self.sender.first_pass())
        # A manager that has all of it goes on to *backup stored* and answers no more.
        while "backup stored" not in self.last:
            request, asked = self.sender.request(), self.sender.round
            answered = lambda: [status for status in self.offer_answers if status["round"] == asked]
            is_told = lambda: answered() or "backup stored" in self.last
            self.until("the manager says what it lacks", is_told, lambda: self.socket.send(request, self.address))
            missing = sum(status["missing"] for status in answered()[:1])
            self.send_lossy(self.sender.repairs(missing))
        self.until("the backup is stored", lambda: "backup stored" in self.last, self.report)
        expect(self.last["backup stored"]["digest"] == digest, f"{self.last['backup stored']}")

    def send_lossy(self, fragments):
        for number, datagram in enumerate(fragments):
            if self.random.random() >= LOSS:
                self.socket.send(datagram, self.address)
            if number % 16 == 0:
                time.sleep(0.002)  # a receive buffer is finite

    def close(self):
        self.socket.close()


class Service:
    """A real `firmcast serve` with one bundle that the other implementation made."""

    def __init__(self, cable, image, policy):
        self.cable, folder = cable, cable.folder
        self.manager, self.release = keys.Manager(secrets.token_bytes(32)), keys.Release(secrets.token_bytes(32))
        self.key = folder / "manager.key"
        self.key.write_text(keys.secret_text("manager", self.manager.seed, self.manager.public))
        self.key.chmod(0o600)
        (folder / "policy.toml").write_text(policy)
        (folder / "bundles").mkdir()
        signed = bundle.sign(bundle.describe(image, l2=1, l3=BOARD["vendor"], l4=[BOARD["product"]], l13="2.0"), self.release)
        (folder / "bundles" / "s1.fcb").write_bytes(bundle.join(signed, image))
        shown = command(program("firmcast"), "bundle", "show", folder / "bundles" / "s1.fcb")
        expect(keys.shown(self.release.kid) in shown, f"firmcast bundle show: {shown}")

    def start(self, *options):
        folder = self.cable.folder
        line = keys.public_line("release", self.release.public)
        self.cable.start("serve.log", program("firmcast"), "serve", "--bundles", folder / "bundles", "--policy", folder / "policy.toml",
                         "--key", self.key, "--state", folder / "state", "--trust", line, "--json", *options)
        wait_until("firmcast serve listens", lambda: "9848" in self.cable.log("serve.log"))


def rescue(name, how, policy, options=()):
    """Returns what a host went through, from its first call to its reboot."""
    cable = Cable(ROOT / "target" / "interop" / name)
    try:
        image, before = os.urandom(IMAGE_SIZE), os.urandom(0x1000) + b"\xff" * 0x100 + os.urandom(IMAGE_SIZE - 0x1100)
        service = Service(cable, image, policy)
        service.start(*options)
        with_escrow = how != "commit"
        host = DeadHost(service.manager, service.release, seed=1, is_whole=with_escrow, is_newer=with_escrow)
        host.be_too_new(lambda: "protocol-mismatch" in cable.log("serve.log"))
        host.be_held()
        host.be_enlisted()
        expect(host.receive() == image, "the image that was received is another one")
        expect(bool(host.group) == ("--group" in options), f"the group that the host joins: {host.group!r}")
        host.be_committed(image, before, how)
        wait_until("the manager tells that the host was rescued", lambda: '"rescued"' in cable.log("serve.log"))
        host.close()
        if with_escrow:
            backups = list((cable.folder / "state").rglob("*"))
            kept = [file for file in backups if file.is_file() and file.stat().st_size == len(before)]
            expect([file.read_bytes() for file in kept] == [before], f"the backup is kept: {backups}")
        damaged = host.receiver.counts["corrupt"]
        expect(host.lost and damaged, "the network loses and damages datagrams")
        return f"{host.lost} broadcasts lost, {damaged} damaged; {how}, updated, released"
    finally:
        cable.close()


def run():
    group = rescue("dead-host-group", "commit", "unknown_hosts = true\ngather_s = 0\n", ["--interface", "cable", "--group", GROUP])
    broken = rescue("dead-host", "commit", "unknown_hosts = true\ngather_s = 0\n", ["--interface", "cable"])
    whole = rescue("dead-host-escrow", "commit with escrow", "unknown_hosts = true\ngather_s = 0\nescrow = true\n", ["--unicast"])
    return f"a real firmcast serve rescues hosts of another implementation: by broadcast {broken}; by multicast {group}; by unicast {whole}"
