"""The programs: simulated hosts of a site, workers, and the campaigns that workers begin."""

import os
import select
import shlex
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

from database import URL
from networks import Failed, address, broadcast, command

STOP_MAX_S = 120
# How long a worker looks for its store at its start.
START_MAX_S = 15
RESTART_S = 2
CAMPAIGN_OPTIONS = "--reach-timeout 20 --transfer-timeout 20 --boot-timeout 60".split()


class Hosts:
    """The hosts of one site, in one process; what they record is read by a thread."""

    def __init__(self, networks, simulator, seed, number, site, first, count, take):
        words = [simulator, "sockets", "run", "--seed", seed, "--first", first, "--count", count]
        words += ["--address", address(number, 0), "--broadcast", broadcast(number)]
        self.numbers = range(first, first + count)
        self.process = subprocess.Popen(networks.inside(site, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._read, args=(take,), daemon=True)
        self.thread.start()

    def _read(self, take):
        for line in self.process.stdout:
            take(line)

    def tell(self, word):
        """`round`: all are what they were at first. `mend N`: a sound one takes the place of this host."""
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def close(self):
        # The end of its input is its end.
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Life:
    """A worker from one start to its end, in seconds since 1970."""

    worker: "Worker"
    name: str
    begin: float
    end: float = float("inf")
    was_killed: bool = False


class Worker:
    """A worker of a site. Each of its lives has a name of its own, as with the default name."""

    def __init__(self, fleet, site, name, key):
        self.fleet, self.site, self.name, self.key = fleet, site, name, key
        self.state = fleet.folder / name
        self.state.mkdir()
        self.lives = []
        self.process = None
        self.is_dead, self.is_stopping = True, False
        command(*fleet.networks.inside("hub", fleet.programs["firmcast-fleet"], "--state", self.state, "--store", URL,
                                       "release", "add", fleet.folder / "bundle.fcb"))  # fmt: skip
        # Tells of each campaign when it begins; `exec` keeps its number.
        script = self.state / "firmcast"
        log, program = shlex.quote(str(fleet.folder / "campaigns.log")), shlex.quote(str(fleet.programs["firmcast"]))
        script.write_text(f'#!/bin/sh\necho "$(date +%s.%N) $$ {name} $*" >> {log}\nexec {program} "$@"\n')
        script.chmod(0o755)

    def start(self):
        life = Life(self, f"{self.name}-{len(self.lives)}", time.time())
        words = [self.fleet.programs["firmcast-fleet"], "--state", self.state, "--store", URL, "work", "--site", self.site]
        words += ["--name", life.name, "--key", self.fleet.folder / self.key, "--firmcast", self.state / "firmcast", "--", *CAMPAIGN_OPTIONS]
        with open(self.fleet.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                self.fleet.networks.inside(self.name, *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.lives.append(life)
        self.is_dead = False

    def is_alive(self):
        return not self.is_dead and not self.is_stopping

    def look_after(self):
        """Does what systemd does with `Restart=on-failure`: a worker that does not find its store at its start ends, and is started again."""
        if not self.is_alive() or self.process.poll() is None:
            return
        life, now = self.lives[-1], time.time()
        found_no_store = now < life.begin + START_MAX_S and (
            self.fleet.database.was_away(life.begin, now) or self.fleet.networks.was_cut(self.site, life.begin, now)
        )
        if not found_no_store:
            raise Failed(f"{life.name} ended by itself, with status {self.process.returncode}")
        life.end, self.is_dead = now, True
        self.fleet.trouble.plan(RESTART_S, self.start)

    def kill(self):
        life = self.lives[-1]
        life.was_killed, life.end, self.is_dead = True, time.time(), True
        self.process.kill()
        self.process.wait()

    def begin_stop(self):
        """Tells it to let its hosts go. From here on it takes nobody over."""
        self.lives[-1].end = time.time()
        self.is_stopping = True
        self.process.send_signal(signal.SIGTERM)

    def has_stopped(self):
        """Whether it has followed."""
        if self.process.poll() is None:
            if time.time() > self.lives[-1].end + STOP_MAX_S:
                raise Failed(f"{self.name} was told to stop and works on after {STOP_MAX_S} s")
            return False
        if self.process.returncode != 0:
            raise Failed(f"{self.name} was told to stop and ended with status {self.process.returncode}")
        self.is_dead, self.is_stopping = True, False
        return True

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@dataclass
class Campaign:
    begin: float
    pid: int
    worker: str
    is_look: bool
    hosts: set
    handle: int
    end: float = float("inf")
    was_killed: bool = False


@dataclass
class Campaigns:
    """What campaigns there are: read from what each says of itself when it begins."""

    path: object
    all: list = field(default_factory=list)
    offset: int = 0
    # Campaigns of which two name one host at a time: earlier, later, host.
    overlaps: list = field(default_factory=list)

    def look(self):
        """Call it often: ends are as exact as that."""
        for campaign in self.running():
            if not campaign.handle or select.select([campaign.handle], [], [], 0)[0]:
                campaign.end = time.time()
                if campaign.handle:
                    os.close(campaign.handle)
        with open(self.path, encoding="utf-8") as file:
            file.seek(self.offset)
            for line in file.read().splitlines(keepends=True):
                if not line.endswith("\n"):
                    break
                self.offset += len(line)
                self._add(line)

    def _add(self, line):
        begin, pid, worker, *words = line.split()
        try:
            handle = os.pidfd_open(int(pid))
        except ProcessLookupError:
            handle = 0
        hosts = {word.removeprefix("--host=") for word in words if word.startswith("--host=")}
        is_look = not {"--look", "--dry-run"}.isdisjoint(words)
        campaign = Campaign(float(begin), int(pid), worker, is_look, hosts, handle)
        for other in self.running():
            # A worker may begin with a host that is home while it looks for others.
            by_one = other.worker == worker and (other.is_look or campaign.is_look)
            if not by_one and not (other.is_look and campaign.is_look):
                self.overlaps += [(other, campaign, host) for host in hosts & other.hosts]
        self.all.append(campaign)

    def running(self):
        return [campaign for campaign in self.all[-200:] if campaign.end == float("inf")]

    def kill(self, campaign):
        """As if its own bug ended it: its worker lives."""
        campaign.was_killed = True
        try:
            signal.pidfd_send_signal(campaign.handle, signal.SIGKILL)
        except (ProcessLookupError, OSError):
            pass
