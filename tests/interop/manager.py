"""Plays manager against a real firmcastd in its normal OS."""

import os
import secrets
import time

from lab import BROADCAST, PATIENCE_S, PORT, REAL, ROOT, Cable, Failed, Socket, expect, program, wait_until
from peer import bundle, datagrams, keys, messages, noise, versions
from peer.session import Call

CAMPAIGN = "00000000000000ca"
REASON_UNTRUSTED, REASON_INCOMPLETE, REASON_NOT_NOW = 1, 14, 15
PART = 1024
# How long nothing must come. It passes without waiting for anything, so a slow machine changes no verdict.
SILENCE_S = 0.5
# No datagram is lost between the two namespaces: whoever does not answer for so long is a busy machine.
REPEAT_S = 5
# More than a host answers in a second.
BURST = 64
AGENT = (REAL, PORT)


class Dialogue:
    """What a manager says to one host, and hears."""

    def __init__(self, manager, sock):
        self.manager, self.socket, self.host, self.session = manager, sock, None, None

    def ask(self, datagram, to, take):
        """Repeats a datagram until `take` makes something of an answer."""
        end, tries = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < end:
            self.socket.send(datagram() if callable(datagram) else datagram, to)
            until, tries = time.monotonic() + REPEAT_S, tries + 1
            while (left := until - time.monotonic()) > 0:
                heard = self.socket.receive(left)
                taken = take(heard[0]) if heard else None
                if taken is not None:
                    self.forget_late_answers(tries)
                    return taken
        raise Failed(f"no answer from {to} in {PATIENCE_S} s")

    def forget_late_answers(self, tries):
        """What was asked more than once may be answered more than once."""
        while tries > 1 and self.socket.receive(REPEAT_S):
            pass

    def expect_silence(self, datagram, what, to=AGENT):
        self.socket.send(datagram, to)
        heard = self.socket.receive(SILENCE_S)
        expect(heard is None, f"{what} was answered: {heard}")

    def discover(self, to, spoken=versions.OURS):
        """Returns the host's key and identity. A request is answered once, so each try is a new one."""
        asked = {}

        def request():
            nonce = secrets.token_bytes(16)
            asked[nonce] = datagrams.discovery_request(self.manager, now_us(), nonce, versions=spoken)
            return asked[nonce]

        def take(datagram):
            if datagrams.kind_of(datagram) != datagrams.DISCOVERY_ANSWER:
                return None
            nonce, sealed = datagrams.parse_discovery_answer(datagram)
            host, payload = noise.open_from_anybody(self.manager.exchange, sealed)
            expect(nonce in asked and payload[:16] == nonce, "the answer names another question")
            expect(len(datagram) <= datagrams.DISCOVERY_REQUEST_SIZE, "the answer is larger than the question")
            identity, theirs = messages.parse_identity(payload[16:])
            expect(theirs == (versions.OURS if spoken else None), f"asked with versions {spoken}, the host speaks {theirs}")
            return host, identity, asked[nonce]

        return self.ask(request, to, take)

    def call(self, stamp=None, spoken=versions.OURS):
        """Opens a session. Who speaks a range of versions is told the other side's."""
        calls = []

        def initiation():
            calls.append(Call(self.manager.exchange, self.manager.public[:32], self.host, stamp or now_us()))
            return calls[-1].datagram

        def take(datagram):
            return calls[-1].answered(datagram)

        self.session = self.ask(initiation, AGENT, take)
        first = versions.said_first(spoken)
        if first:
            told = messages.parse(self.ask(lambda: self.session.seal(first), AGENT, lambda heard: self.session.open(heard) or None))
            expect(told[0] == "called speaks" and versions.range_in(told[1]) == versions.OURS, f"{told}")
        else:
            self.expect_silence(self.session.seal(first), "an empty message")
        return calls[-1]

    def tell(self, name, **fields):
        """Returns name and fields of the answer."""
        message = messages.emit(name, **fields)
        read = lambda datagram: self.session.open(datagram) or None
        return messages.parse(self.ask(lambda: self.session.seal(message), AGENT, read))

    def bring(self, manifest, campaign=CAMPAIGN):
        for at in range(0, len(manifest), PART):
            part = manifest[at:at + PART]
            answer = self.tell("manifest part", campaign=campaign, total=len(manifest), offset=at, bytes=part.hex())
            expect(answer == ("manifest held", {"campaign": campaign, "held": at + len(part)}), f"{answer}")

    def expect_refused(self, expected, name, **fields):
        kind, report = self.tell(name, **fields)
        expect(kind == "report" and messages.PHASES[report["phase"]] == "refused", f"{name}: {kind} {report}")
        expect(expected is None or report["reason"] == expected, f"{name}: reason {expected} expected, got {report}")
        expect(report["flash"] == 0, f"{name}: {report}")
        return report["reason"]


def now_us():
    return time.time_ns() // 1000


def signed_manifest(release, blocks=1200):
    """Of an image with so many blocks that its manifest takes several parts."""
    image = os.urandom(4096) * 16 * min(blocks, 64)
    return bundle.sign(bundle.describe(image, l2=1, l3="ACME", l4=["S1"], l13="2.0"), release)


def start_agent(cable, manager, release):
    folder = cable.folder
    config = folder / "agent.toml"
    config.write_text(
        f'listen = "0.0.0.0:{PORT}"\nhost_key = "{folder}/host.key"\nstate_dir = "{folder}/state"\n'
        f'trusted_dir = "{folder}/trusted.d"\n'
        f'trusted_managers = ["{keys.public_line("manager", manager.public)}"]\n'
        f'trusted_releases = ["{keys.public_line("release", release.public)}"]\n'
    )
    (folder / "trusted.d").mkdir()
    cable.start("firmcastd.log", program("firmcastd"), "--foreground", "--config", config)
    wait_until("firmcastd listens", lambda: "listens on" in cable.log("firmcastd.log"))


def lasting(identity):
    """What does not change with the programs that run on this machine meanwhile."""
    in_the_way = identity["obstacle detail"].split("; ")[0]
    return {field: value for field, value in identity.items() if field != "findings"} | {"obstacle detail": in_the_way}


def check_discovery(dialogue):
    host, identity, request = dialogue.discover((BROADCAST, PORT))
    findings = identity["findings"]
    expect(any(reason for _, _, reason in findings), f"what is in the way is among {findings}")
    again, older, _ = dialogue.discover((BROADCAST, PORT), spoken=None)
    expect(again == host and "findings" not in older and lasting(older) == lasting(identity), f"a request of version 2: {older}")
    dialogue.expect_silence(request, "a replayed discovery request")
    forged = bytearray(datagrams.discovery_request(dialogue.manager, now_us(), secrets.token_bytes(16)))
    forged[60] ^= 1
    dialogue.expect_silence(bytes(forged), "a discovery request with a wrong signature")
    stranger = keys.Manager(secrets.token_bytes(32))
    request = datagrams.discovery_request(stranger, now_us(), secrets.token_bytes(16))
    dialogue.expect_silence(request, "a discovery request of a stranger")
    return host, identity


def check_session(dialogue, identity):
    call = dialogue.call()
    kind, told = dialogue.tell("query")
    expect(kind == "identity" and lasting(told) == lasting(identity), f"query: {kind} {told}, discovery said {identity}")
    expect(told["findings"], "findings in a session")
    expect(told["environment"] == 0 and told["agent version"], f"{told}")
    dialogue.expect_silence(call.datagram, "a doubled initiation")
    late = Call(dialogue.manager.exchange, dialogue.manager.public[:32], dialogue.host, 1)
    dialogue.expect_silence(late.datagram, "an initiation with an old stamp")
    stranger = keys.Manager(secrets.token_bytes(32))
    foreign = Call(stranger.exchange, stranger.public[:32], dialogue.host, now_us())
    dialogue.expect_silence(foreign.datagram, "a stranger's initiation")
    again = dialogue.session.seal(messages.emit("query"))
    dialogue.ask(again, AGENT, lambda datagram: dialogue.session.open(datagram))
    dialogue.expect_silence(again, "a replayed transport datagram")


def check_versions(dialogue):
    """A manager of version 2 is spoken to as ever; one that is too new is told so, and no more."""
    dialogue.call(spoken=versions.UNSAID)
    kind, told = dialogue.tell("query")
    expect(kind == "identity" and "findings" not in told, f"a query of version 2: {told}")
    expect(versions.common(versions.OURS, versions.NEWER) is None, "versions without a common one")
    dialogue.call(spoken=versions.NEWER)
    dialogue.expect_silence(dialogue.session.seal(messages.emit("query")), "a query of a version that the agent does not speak")
    dialogue.call()


def check_growth(dialogue):
    """A newer manager's messages: longer ones, and one of a type that the agent does not know."""
    read = lambda datagram: dialogue.session.open(datagram) or None
    longer = dialogue.ask(lambda: dialogue.session.seal(messages.emit("query") + b"\1\2\3"), AGENT, read)
    expect(messages.parse(longer)[0] == "identity", "a query with more behind it")
    answer = dialogue.ask(lambda: dialogue.session.seal(b"\x7f\1\2"), AGENT, read)
    expect(messages.parse(answer) == ("command not understood", {"type": 0x7F}), f"a command of type 7F: {answer.hex()}")
    dialogue.expect_silence(dialogue.session.seal(messages.emit("answer not understood", type=0x81)), "not understood")


def check_cookies(dialogue):
    """A burst is answered with cookies, and who returns one is served, although the host is busy."""
    manager, sock = dialogue.manager, dialogue.socket
    def new_call(cookie=None):
        return Call(manager.exchange, manager.public[:32], dialogue.host, now_us(), cookie)

    def burst_of_calls():
        calls = [new_call() for _ in range(BURST)]
        return [call.datagram for call in calls], lambda datagram: next(filter(None, (call.cookie_in(datagram) for call in calls)), None)

    def burst_of_questions():
        asked = [datagrams.discovery_request(manager, now_us(), secrets.token_bytes(16)) for _ in range(BURST)]
        def cookie_in(datagram):
            cookies = ((datagrams.discovery_cookie(datagram, request, manager.public), request) for request in asked)
            return next((found for found in cookies if found[0]), None)
        return asked, cookie_in

    cookie = overload(sock, burst_of_calls)
    call = new_call(cookie)
    dialogue.session = dialogue.ask(call.datagram, AGENT, call.answered)
    sock.send(dialogue.session.seal(b""), AGENT)
    expect(dialogue.tell("query")[0] == "identity", "a session that a cookie has opened")
    cookie, request = overload(sock, burst_of_questions)
    stamp, nonce = int.from_bytes(request[4:12], "big"), request[12:28]
    again = datagrams.discovery_request(manager, stamp, nonce, cookie=cookie)
    expect(again[:datagrams.DISCOVERY_CHECKED] == request[:datagrams.DISCOVERY_CHECKED], "the same request")
    is_answer = lambda datagram: datagrams.kind_of(datagram) == datagrams.DISCOVERY_ANSWER and datagram[4:20] == nonce or None
    dialogue.ask(again, AGENT, is_answer)


def overload(sock, make_burst):
    """Sends bursts until one of their datagrams is answered with a cookie; returns it."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        datagrams_of_burst, cookie_in = make_burst()
        for datagram in datagrams_of_burst:
            sock.send(datagram, AGENT)
        found = None
        while (heard := sock.receive(SILENCE_S)) is not None:
            found = cookie_in(heard[0]) or found
        if found:
            return found
    raise Failed("no cookie under load")


def check_window(dialogue):
    """A counter up to 127 below the highest is accepted once, one 128 below is not."""
    query = messages.emit("query")
    session = dialogue.session
    held = [session.seal(query) for _ in range(129)]
    dialogue.ask(held[128], AGENT, session.open)
    dialogue.expect_silence(held[0], "a counter 128 below the highest")
    dialogue.ask(held[1], AGENT, session.open)
    dialogue.expect_silence(held[1], "a counter for the second time")


def check_campaign(dialogue, release):
    manifest = signed_manifest(release)
    expect(len(manifest) > 2 * PART, "a manifest of several parts")
    times = {"reach timeout": 60, "transfer timeout": 60}
    dialogue.expect_refused(REASON_INCOMPLETE, "begin", campaign=CAMPAIGN, **times)
    forged = signed_manifest(keys.Release(secrets.token_bytes(32)))
    dialogue.bring(forged)
    dialogue.expect_refused(REASON_UNTRUSTED, "begin", campaign=CAMPAIGN, **times)
    dialogue.expect_refused(REASON_INCOMPLETE, "begin", campaign=CAMPAIGN, **times)
    dialogue.bring(manifest)
    # This machine is no board of that maker, and has no flash chip: whichever comes first.
    reason = dialogue.expect_refused(None, "begin", campaign=CAMPAIGN, **times)
    expect(reason not in (0, REASON_UNTRUSTED, REASON_INCOMPLETE), f"begin: reason {reason}")
    kind, told = dialogue.tell("foresee", campaign=CAMPAIGN)
    expect(kind == "foresight" and told["reason"] == reason and told["blocks"] == 0, f"foresee: {kind} {told}")
    kind, told = dialogue.tell("measure", campaign=CAMPAIGN)
    expect(kind == "measurement" and not told["matches"] and told["detail"], f"measure: {kind} {told}")
    part = manifest[:PART].hex()
    answer = dialogue.tell("manifest part", campaign="00000000000000cb", total=len(manifest), offset=0, bytes=part)
    expect(answer == ("manifest held", {"campaign": "00000000000000cb", "held": PART}), f"{answer}")
    dialogue.expect_refused(REASON_INCOMPLETE, "begin", campaign="00000000000000cb", **times)
    dialogue.expect_refused(reason, "begin", campaign=CAMPAIGN, **times)
    kind, told = dialogue.tell("release", campaign="00000000000000cb")
    expect(kind == "report" and messages.PHASES[told["phase"]] == "idle", f"release: {kind} {told}")


def check_recovery_commands(dialogue):
    parameters = {"campaign": CAMPAIGN, "group key": "00" * 32, "payload size": 1, "fragment size": 512}
    join = {"parameters": parameters, "report interval": 1000, "family": 0, "group": ""}
    status = dict.fromkeys(["round", "missing", "useful", "corrupt", "duplicate", "foreign", "out of range"], 0)
    commands = {
        "join": join, "commit": {"campaign": CAMPAIGN}, "enlist": {"campaign": CAMPAIGN, "transfer timeout": 60},
        "commit with escrow": {"campaign": CAMPAIGN, "rate": 1000, "unless broken": 0},
        "rehearse": {"campaign": CAMPAIGN, "rate": 0},
        "backup stored": {"campaign": CAMPAIGN, "digest": "00" * 32}, "hold": {"again": 1, "reason": 0, "detail": ""},
        "backup status": {"campaign": CAMPAIGN, "form": 1, "entries": []} | status,
    }
    for name, fields in commands.items():
        dialogue.expect_refused(REASON_NOT_NOW, name, **fields)


def run():
    cable = Cable(ROOT / "target" / "interop" / "manager")
    try:
        manager, release = keys.Manager(secrets.token_bytes(32)), keys.Release(secrets.token_bytes(32))
        start_agent(cable, manager, release)
        dialogue = Dialogue(manager, Socket())
        dialogue.host, identity = check_discovery(dialogue)
        line = (cable.folder / "host.pub").read_text()
        expect(dialogue.host == keys.read_public("host", line), "the answer's key is not that of host.pub")
        check_session(dialogue, identity)
        check_window(dialogue)
        check_versions(dialogue)
        check_growth(dialogue)
        check_cookies(dialogue)
        check_campaign(dialogue, release)
        check_recovery_commands(dialogue)
    finally:
        cable.close()
    return "a real firmcastd is discovered, called and instructed by a manager of another implementation"
