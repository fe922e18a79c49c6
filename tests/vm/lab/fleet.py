"""The fleet's side of a lab: `firmcast-fleet`, with its store, its workers and its page, in the lab's network."""

import html
import json
import os
import subprocess
from pathlib import Path

from . import binaries, packages
from .firmware import seabios_version
from .network import MANAGER_INTERFACE
from .server import VENDOR, Machine
from .shell import CommandFailed, write

PAGE = "127.0.0.1:8420"
PAGE_TIMEOUT_S = 60
# Columns and lines of what a browser shows, in pixels.
PICTURE_SIZE = "1100,1250"


class Fleet:
    """What it keeps lies under `folder`, with what each worker said in `NAME.log`."""

    def __init__(self, lab, operator):
        self.folder = lab.folder / "fleet"
        self.folder.mkdir()
        self.program = binaries.fleet()
        self._lab = lab
        self._operator = operator
        self._credentials = ["--state", self.folder / "state"]

    def says(self, *arguments, by=None):
        """Runs `firmcast-fleet` to its end as a person, the operator unless said otherwise; returns what it said."""
        return self._lab.network.run(self.program, *self._credentials, *arguments, env={"SUDO_USER": by or self._operator})

    def refusal(self, *arguments, by=None):
        """What `firmcast-fleet` says when it refuses; nothing when it does not."""
        try:
            self.says(*arguments, by=by)
        except CommandFailed as refused:
            return str(refused)
        return ""

    def import_table(self, text):
        """Takes over a table of hosts."""
        return self.says("hosts", "import", write(self.folder / "hosts.csv", text))

    def knows(self, places):
        """Takes over the enrolled servers with the labels of this table, and a bundle of the newer SeaBIOS; returns the
        bundle's version."""
        newer = self._lab.firmware.seabios_newer
        version = seabios_version(newer)
        bundle = self._lab.manager.bundle("newer", newer, version=version, preserve=False, expect_version=version)
        self.says("hosts", "import", self._lab.manager.state / "inventory.json")
        self.import_table(places)
        self.says("release", "add", bundle)
        return version

    def knows_stranger(self, name, site):
        """Takes over one more host, which is no machine of the lab."""
        key = self._lab.manager.public_key(self._lab.manager.new_key("host", self.folder / "stranger.key"))
        self.import_table(f"name,key,addresses,vendor,product,site\n{name},{key},10.77.0.15:9847,{VENDOR},{Machine.product},{site}\n")

    def worker(self, site, name, approver, *options):
        """Starts a worker of a site, whose campaigns have these options; a wave may begin by the word of this key's owner."""
        own = ["--site", site, "--name", name, "--key", self._lab.manager.key, "--approver", approver.with_suffix(".pub")]
        programs = ["--firmcast", self._lab.manager.program]
        return self._start(name, "work", *own, *programs, "--", "--interface", MANAGER_INTERFACE, *options)

    def _start(self, name, *arguments):
        command = self._lab.network.inside("setpriv", "--pdeathsig", "KILL", self.program, *self._credentials, *arguments)
        with open(self.folder / f"{name}.log", "w") as log:
            environment = {**os.environ, "SUDO_USER": self._operator}
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def serve_page(self):
        """Starts the page, and waits until it answers."""
        process = self._start("page", "web", "--listen", PAGE)

        def answers():
            try:
                return self.page("/")
            except CommandFailed:
                return process.poll() is not None

        self._lab.wait_until(answers, PAGE_TIMEOUT_S, "the page")

    def page(self, path):
        """What a browser gets from the page, its marked characters as people see them."""
        return html.unescape(self._lab.network.run("busybox", "wget", "-q", "-O", "-", f"http://{PAGE}{path}"))

    def picture(self, name, path):
        """Keeps what a browser shows as NAME.png in the folder that `LAB_PICTURES` names, if it names one."""
        folder = os.environ.get("LAB_PICTURES")
        if folder:
            packages.install("chromium", "fonts-dejavu-core")
            file = Path(folder).resolve() / f"{name}.png"
            how = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={PICTURE_SIZE}"]
            profile = f"--user-data-dir={self.folder / 'chromium'}"
            self._lab.network.run("chromium", *how, profile, f"--screenshot={file}", f"http://{PAGE}{path}", timeout_s=120)

    def rollout(self, name):
        """A rollout as it is, and how many attempts of each of its waves are in which state."""
        return json.loads(self.says("rollout", "show", name, "--json"))

    def events(self, host=None, kind=None):
        """What happened so far."""
        found = [json.loads(line) for line in self.says("events", "--json").splitlines()]
        return [event for event in found if host in (None, event["host"]) and kind in (None, event["kind"])]

    def claimed(self):
        """The hosts with which workers began."""
        return {event["host"] for event in self.events(kind="claimed")}

    def stages(self, host):
        """The stages through which a host went, each with the worker that told it."""
        return [(event["detail"], event["by"]) for event in self.events(host, "stage")]
