"""The manager's side of a lab: keys, bundles, and the `firmcast` program inside the lab's network."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import binaries
from .firmware import OVMF_VARIABLES_BYTES
from .network import MANAGER_INTERFACE
from .server import VENDOR
from .shell import run, write

PRESERVE_VARIABLES = f"vars=0:0x{OVMF_VARIABLES_BYTES:x}"


@dataclass(frozen=True)
class Outcome:
    """How a run of `firmcast` ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def output(self):
        """All that it said."""
        return self.stdout + self.stderr

    def json(self):
        """Its output as one JSON value."""
        return json.loads(self.stdout)

    def results(self):
        """How a campaign ended for each host, by the host's name, from `update --json`."""
        events = [json.loads(line) for line in self.stdout.splitlines()]
        return {event["host"]: event for event in events if event["event"] == "result"}


class Manager:
    """Keys and bundles lie under `folder`; everything that `firmcast` says goes to `manager.log` beside it."""

    def __init__(self, folder, network):
        self.folder = folder / "manager"
        self.state = self.folder / "state"
        self.log = folder / "manager.log"
        self._network = network
        self._runs = 0
        self.state.mkdir(parents=True, exist_ok=True)
        self.program = binaries.firmcast()
        self.key = self.new_key("manager", self.state / "manager.key")
        self.release_key = self.new_key("release")

    def new_key(self, role, file=None):
        """Makes a key and returns the private key's file; the public key is beside it, as NAME.pub for NAME.key."""
        file = file or self.folder / f"{role}.key"
        run(self.program, "key", "new", "--role", role, "--out", file)
        return file

    def bundle(self, name, image, *, version, security_version=1, product="Virtual Server 1", key=None, preserve=True,
               expect_version=None, new_layout=False, more=()):  # fmt: skip
        """Makes a signed bundle for the lab's servers."""
        file = self.folder / f"{name}.fcb"
        options = [*more, *(["--preserve", PRESERVE_VARIABLES] if preserve else [])]
        if new_layout:
            options.append("--new-layout")
        if expect_version:
            options += ["--expect-version", expect_version]
        run(
            self.program, "bundle", "create", "--image", image, "--version", version,
            "--security-version", security_version, "--vendor", VENDOR, "--product", product,
            *options, "--key", key or self.release_key, "--out", file,
        )  # fmt: skip
        return file

    def stranger(self, folder):
        """Another manager in the same network, with keys of its own."""
        return Manager(folder, self._network)

    def start(self, *arguments, show=False):
        """Starts `firmcast` in the lab's network; its output goes to `process.output_file`, or to this terminal."""
        self._runs += 1
        output = self.folder / f"run-{self._runs}.out"
        command = self._network.inside("setpriv", "--pdeathsig", "KILL", self.program, *arguments)
        errors = output.with_suffix(".err")
        with open(output, "w") as out, open(errors, "w") as err, open(self.log, "a") as log:
            log.write(f"$ firmcast {' '.join(str(a) for a in arguments)}    (output in {output.name})\n")
            streams = {} if show else {"stdout": out, "stderr": err}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **streams)
        process.output_file, process.error_file = output, errors
        return process

    def credentials(self):
        """The options by which the program finds its key, its inventory and its history."""
        return ["--state", self.state]

    def start_enrolment(self):
        """Finds the hosts on the lab's network and keeps them."""
        return self.start("discover", "--interface", MANAGER_INTERFACE, "--enroll", "--json", *self.credentials())

    def start_update(self, bundle, *options, show=False):
        """Starts an update."""
        return self.start_campaign("update", bundle, *options, show=show)

    def start_campaign(self, command, bundle, *options, show=False):
        """Starts a campaign: `update` or `drill`."""
        form = [] if show else ["--json"]
        return self.start(command, "--bundle", bundle, *form, *options, *self.credentials(), show=show)

    def know(self, *hosts):
        """Puts servers into the inventory, as an enrolment does."""
        entries = [
            {
                "name": host.name, "key": self.public_key(self.folder / f"{host.name}.key"), "address": f"{host.address}:9847",
                "vendor": VENDOR, "product": host.machine.product,
            }
            for host in hosts
        ]  # fmt: skip
        (self.state / "inventory.json").write_text(json.dumps({"form": 1, "hosts": entries}))

    def public_key(self, file):
        """The text of the public key beside a private one."""
        return Path(file).with_suffix(".pub").read_text().strip()

    def serve(self, bundles, *options, policy=None):
        """Starts `firmcast serve` with this text as its policy; ends when the process is killed."""
        if policy:
            options = [*options, "--policy", write(self.folder / "policy.toml", policy)]
        options = ["--interface", MANAGER_INTERFACE, *options]
        return self.start("serve", "--bundles", bundles, "--json", *options, *self.credentials())


def events(process, kind=None):
    """What `firmcast serve` has said so far; `kind` chooses."""
    lines = process.output_file.read_text().splitlines(keepends=True)
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event for event in found if kind in (None, event["event"])]


def outcome(process):
    """What an ended process said."""
    said = (file.read_text(errors="replace") for file in (process.output_file, process.error_file))
    return Outcome(process.returncode, *said)
