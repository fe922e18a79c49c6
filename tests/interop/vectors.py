"""Makes every test vector of docs/vectors anew, from docs/PROTOCOL.md and without firmcast, and compares."""

import hashlib
import json
from pathlib import Path

from peer import bundle, datagrams, erasure, keys, messages, noise, transfer, versions

VECTORS = Path(__file__).resolve().parent.parent.parent / "docs" / "vectors"


class Different(Exception):
    """A vector that this implementation makes otherwise."""


class Checks:
    def __init__(self):
        self.count = 0

    def same(self, what, made, expected):
        self.count += 1
        made = made.hex() if isinstance(made, bytes) else made
        if made != expected:
            raise Different(f"{what}:\n  docs/vectors says {expected}\n  docs/PROTOCOL.md makes {made}")


def load(name):
    return json.loads((VECTORS / name).read_text())


def unhex(text):
    return bytes.fromhex(text)


def owners(vectors):
    return (keys.Host(unhex(vectors["host"]["secret"])), keys.Manager(unhex(vectors["manager"]["secret"])),
            keys.Release(unhex(vectors["release"]["secret"])))


def check_keys(checks, vectors, with_files=True):
    for role, owner in zip(("host", "manager", "release"), owners(vectors)):
        vector, secret = vectors[role], unhex(vectors[role]["secret"])
        checks.same(f"{role} key", owner.public, vector["public"])
        checks.same(f"{role} fingerprint", keys.shown(keys.fingerprint(role, owner.public)), vector["fingerprint"])
        if with_files:
            checks.same(f"{role} file", keys.public_line(role, owner.public), vector["public file"])
            checks.same(f"{role} secret file", keys.secret_text(role, secret, owner.public), vector["secret file"])
            checks.same(f"{role} file read", keys.read_public(role, vector["public file"] + " a comment"), vector["public"])


def check_discovery(checks, vector, host, manager):
    nonce = unhex(vector["nonce"])
    checks.same("discovery request", datagrams.discovery_request(manager, vector["stamp"], nonce), vector["request"])
    payload = nonce + messages.write_fields(messages.IDENTITY, vector["identity"])
    sealed = noise.seal_to(host.exchange, manager.public[:32], payload, unhex(vector["ephemeral of the answer"]))
    checks.same("discovery answer", datagrams.discovery_answer(nonce, sealed), vector["answer"])
    found, sealed = datagrams.parse_discovery_answer(unhex(vector["answer"]))
    sender, opened = noise.open_from_anybody(manager.exchange, sealed)
    checks.same("who answered", (found, sender, opened[:16]), (nonce, host.public, nonce))
    checks.same("identity in the answer", messages.parse_identity(opened[16:]), (vector["identity"], None))
    check_versions(checks, vector, host, manager)


def check_versions(checks, vector, host, manager):
    """A request that says which versions the manager speaks, and its answer."""
    nonce = unhex(vector["nonce"])
    asked = datagrams.discovery_request(manager, vector["stamp"], nonce, versions=versions.OURS)
    checks.same("request with versions", asked, vector["request with versions"])
    stamp, read_nonce, spoken = datagrams.read_discovery_request(asked, manager.public)
    checks.same("request read", (stamp, read_nonce, spoken), (vector["stamp"], nonce, versions.OURS))
    payload = nonce + messages.write_fields(messages.IDENTITY, vector["identity"]) + bytes(versions.OURS)
    sealed = noise.seal_to(host.exchange, manager.public[:32], payload, unhex(vector["ephemeral of the answer"]))
    checks.same("answer with versions", datagrams.discovery_answer(nonce, sealed), vector["answer with versions"])


def check_handshake(checks, vector, host, manager, form=datagrams.FORM):
    """Both sides of it: each makes its datagram, and reads the other's."""
    calling = noise.begin(noise.SESSION, True, manager.exchange, host.public, unhex(vector["initiator's ephemeral"]))
    called = noise.begin(noise.SESSION, False, host.exchange, None, unhex(vector["responder's ephemeral"]))
    initiation = datagrams.Initiation.parse(unhex(vector["initiation"]), host.public, form)
    stamp = vector["stamp"].to_bytes(8, "big")
    made = datagrams.Initiation(initiation.sender, bytes(calling.write_message(stamp))).emit(host.public, form)
    checks.same("initiation", made, vector["initiation"])
    checks.same("stamp", bytes(called.read_message(initiation.noise)), stamp.hex())
    checks.same("who called", noise.remote_static(called), manager.public[:32].hex())
    response = datagrams.Response.parse(unhex(vector["response"]), manager.public[:32], form)
    made = datagrams.Response(response.sender, initiation.sender, bytes(called.write_message(b"")))
    checks.same("response", made.emit(manager.public[:32], form), vector["response"])
    calling.read_message(response.noise)
    sides = {"manager": (noise.TransportKeys(calling), response.sender), "host": (noise.TransportKeys(called), initiation.sender)}
    for datagram in vector["transport"]:
        side = datagram.get("from", "manager")
        sender, receiver_index = sides[side]
        reader, _ = sides["host" if side == "manager" else "manager"]
        message, counter = unhex(datagram["message"]), datagram["counter"]
        made = datagrams.Transport(receiver_index, counter, sender.seal(counter, message)).emit(form)
        checks.same(f"transport {counter} from {side}", made, datagram["datagram"])
        read = datagrams.Transport.parse(unhex(datagram["datagram"]), form)
        checks.same(f"message in transport {counter}", reader.open(read.counter, read.sealed), datagram["message"])


def check_cookies(checks, session, host, manager):
    """A busy host's replies, and what the manager sends then."""
    vector = session["cookie in a session"]
    cookie, asked = unhex(vector["cookie"]), unhex(vector["initiation"])
    datagrams.Initiation.parse(asked, host.public)
    checks.same("cookie", datagrams.session_cookie(unhex(vector["reply"]), asked, host.public), vector["cookie"])
    proven = unhex(vector["initiation with the cookie"])
    again = datagrams.Initiation.parse(proven, host.public, cookie=cookie)
    checks.same("initiation with a cookie", again.emit(host.public, cookie=cookie), proven.hex())
    vector = session["cookie in discovery"]
    cookie, nonce = unhex(vector["cookie"]), unhex(vector["nonce"])
    asked = datagrams.discovery_request(manager, vector["stamp"], nonce)
    found = datagrams.discovery_cookie(unhex(vector["reply"]), asked, manager.public)
    checks.same("cookie of discovery", found, vector["cookie"])
    made = datagrams.discovery_request(manager, vector["stamp"], nonce, cookie=cookie, versions=versions.OURS)
    checks.same("request with a cookie", made, vector["request with the cookie"])
    vector = session["old stamp in discovery"]
    payload = unhex(vector["nonce"]) + b"\x80" + vector["newest stamp"].to_bytes(8, "big")
    sealed = noise.seal_to(host.exchange, manager.public[:32], payload, unhex(vector["ephemeral of the answer"]))
    checks.same("answer to an old stamp", datagrams.discovery_answer(unhex(vector["nonce"]), sealed), vector["answer"])


def check_messages(checks, vectors):
    seen = set()
    for vector in vectors["commands"] + vectors["answers"]:
        message = unhex(vector["message"])
        name, fields = messages.parse(message, all_known=True)
        seen.add(name)
        checks.same(f"fields of {vector['name']}", fields, vector["fields"])
        checks.same(vector["name"], messages.emit(name, vector["fields"]), vector["message"])
    checks.same("messages without a vector", sorted(set(name for name, _ in (messages.COMMANDS | messages.ANSWERS).values()) - seen), [])


def check_broadcast(checks, vectors, form=datagrams.FORM):
    campaign = int(vectors["campaign"], 16) if "campaign" in vectors else int(vectors["fragment"]["low half"], 16)
    group = datagrams.Group(campaign, unhex(vectors["group key"]), form)
    fragment, request = vectors["fragment"], vectors["status request"]
    made = group.fragment(fragment["block"], fragment["number"], unhex(fragment["data"]))
    checks.same("fragment", made, fragment["datagram"])
    made = group.status_request(request["round"], request["answer window in ms"], request["sent"], request["flags"])
    checks.same("status request", made, request["datagram"])
    checks.same("opened fragment", group.open(unhex(fragment["datagram"]))[3], fragment["data"])


def source_fragments(block):
    byte = lambda i, k: (i * block["per source"] + k * block["per byte"] + i * k * block["per both"]) % 256
    return [bytes(byte(i, k) for k in range(block["size"])) for i in range(block["sources"])]


def check_erasure(checks, block):
    sources = source_fragments(block)
    repairs = erasure.repair_count(len(sources), block.get("FEC scheme", 0))
    for repair, digest in block["sha256 of repair"].items():
        made = erasure.repair_fragment(sources, repairs, int(repair))
        checks.same(f"repair {repair} of {len(sources)}", hashlib.sha256(made).digest(), digest)
    if "first repair" not in block:
        return
    checks.same(f"first repair of {len(sources)}", erasure.repair_fragment(sources, repairs, 0), block["first repair"])
    lost = range(0, len(sources), 4)
    held = {number: fragment for number, fragment in enumerate(sources) if number not in lost}
    for repair in range(len(lost)):
        held[len(sources) + 1 + repair] = erasure.repair_fragment(sources, repairs, 1 + repair)
    checks.same(f"{len(sources)} sources restored", erasure.restore(len(sources), repairs, block["size"], held) == sources, True)


def check_transfer(checks, vector):
    geometry = transfer.Geometry(vector["payload size"], vector["fragment size"], vector["FEC scheme"])
    counts = [[geometry.source_count(block), geometry.repair_count(block)] for block in range(geometry.blocks)]
    where = f"{vector['payload size']} bytes by scheme {vector['FEC scheme']}"
    checks.same(f"blocks of {where}", counts, vector["source and repair fragments"])
    for index, block, number in vector["source fragments by index, block and number"]:
        checks.same(f"fragment {index} of {where}", geometry.index(block, number), index)


def check_bundle(checks, vector, release):
    signed, payload = bundle.split(unhex(vector["bundle"]))
    checks.same("payload", payload, vector["image"])
    manifest = bundle.open_signed(signed, release)
    shown = json.loads(json.dumps({str(label): value for label, value in manifest.items()}, default=bytes.hex))
    checks.same("manifest", shown, vector["manifest"])
    image = unhex(vector["image"])
    regions = tuple(manifest.get(label, []) for label in (15, 17, 18))
    labels = (2, 3, 4, 5, 13, 14, 19, 20, 21, 22, 24, 25, 27)
    stated = {f"l{label}": value for label, value in manifest.items() if label in labels}
    made = bundle.sign(bundle.describe(image, regions, **stated), release)
    checks.same("bundle", bundle.join(made, image), vector["bundle"])


def check_independent(checks, vectors):
    """What another implementation computed, in form 1 of the datagrams."""
    check_keys(checks, vectors, with_files=False)
    host, manager, _ = owners(vectors)
    checks.same("session mac key", keys.mac_key("firmcast session mac", host.public), vectors["session mac key of the host"])
    checks.same("discovery mac key", keys.mac_key("firmcast discovery mac", manager.public),
                vectors["discovery mac key of the manager"])
    first = vectors["version 1"]
    request = datagrams.discovery_request(manager, first["stamp"], unhex(first["nonce"]), form=1)
    checks.same("discovery request of version 1", request[:116], first["discovery request, first 116 bytes"])
    check_handshake(checks, first, host, manager, form=1)
    check_broadcast(checks, first, form=1)
    for block in vectors["erasure"]:
        check_erasure(checks, block)


def run():
    checks = Checks()
    key_vectors, session = load("keys.json"), load("session.json")
    host, manager, release = owners(key_vectors)
    check_keys(checks, key_vectors)
    checks.same("form", session["form"], datagrams.FORM)
    checks.same("versions", tuple(session["versions"]), versions.OURS)
    check_discovery(checks, session["discovery"], host, manager)
    check_handshake(checks, session["handshake"], host, manager)
    check_cookies(checks, session, host, manager)
    check_messages(checks, load("messages.json"))
    check_broadcast(checks, load("broadcast.json"))
    for block in load("erasure.json")["blocks"]:
        check_erasure(checks, block)
    for vector in load("erasure.json")["transfers"]:
        check_transfer(checks, vector)
    check_bundle(checks, load("bundle.json"), release)
    check_bundle(checks, load("bundle-of-parts.json"), release)
    check_independent(checks, load("independent.json"))
    return f"{checks.count} values are what docs/PROTOCOL.md makes of them"
