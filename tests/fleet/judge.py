"""The store's events, held against what was done to the workers, and against the hosts' own record."""

import json
from collections import Counter, defaultdict

TAKEOVER_MAX_S = 10.0
# Before it dies a worker may have held a host for which the store had not answered yet.
RECONNECT_S = 3.0


class Judge:
    """Follows all events of the store."""

    def __init__(self, hosts, database, networks):
        self.hosts = {host.name: host for host in hosts}
        self.database = database
        self.networks = networks
        self.owners = defaultdict(list)  # Host: (since, name of a worker's life or None).
        self.tries = Counter()
        self.claimed = {}
        self.ends = {}
        self.rollout = None
        self.violations = []
        self.tally = Counter()
        self.slowest_s = 0.0
        self.last = 0
        self.judged = set()

    def read(self, text, rollout):
        """Takes the events that are new, as JSON, a line each."""
        if rollout != self.rollout:
            self.rollout = rollout
            self.tries.clear()
            self.ends.clear()
        for line in text.splitlines():
            event = json.loads(line)
            self.last = max(self.last, event["id"])
            if event["host"]:
                self._follow(event)

    def _follow(self, event):
        host, at, kind = event["host"], event["at"] / 1e6, event["kind"]
        if not self.hosts[host].is_planned:
            self.violations.append(f"{host} is outside of the plan: {event}")
        if kind == "claimed":
            self.tries[host] += 1
            self.ends.pop(host, None)
            self.claimed[host] = at
            self.owners[host].append((at, event["by"]))
        elif kind == "lease-lost":
            self.tries[host] += 1
            self.tally["taken over"] += 1
            self.owners[host].append((at, event["by"]))
        elif kind == "ended":
            self.ends[host] = (at, event["detail"])
            self.owners[host].append((at, None))

    def in_flight_since(self, host):
        """When the host was claimed that has not ended yet; 0 when none is."""
        owners = self.owners[host]
        return self.claimed.get(host, 0.0) if owners and owners[-1][1] else 0.0

    def _owner(self, host, at):
        owner = None
        for since, name in self.owners[host]:
            if since > at:
                break
            owner = name
        return owner

    def check_takeovers(self, lives, until):
        """Each host of a worker that died is taken over in time, where there was somebody who could."""
        for life in lives:
            if not life.was_killed or life.name in self.judged or life.end + TAKEOVER_MAX_S > until:
                continue
            self.judged.add(life.name)
            end = life.end + TAKEOVER_MAX_S
            if not self._could_be_followed(life, lives, end):
                continue
            held = [host for host in self.owners if self._owner(host, life.end) == life.name]
            for host in held:
                after = [at for at, _ in self.owners[host] if at > life.end]
                if not after or min(after) > end:
                    self.violations.append(f"{host} of {life.name}, which died at {life.end:.3f}, was not taken over by {end:.3f}: {after[:1]}")
                else:
                    self.slowest_s = max(self.slowest_s, min(after) - life.end)
            self.tally["deaths followed"] += 1
            self.tally["hosts that they left"] += len(held)

    def _could_be_followed(self, life, lives, end):
        begin = life.end - RECONNECT_S
        if self.database.was_away(begin, end) or self.networks.was_cut(life.worker.site, begin, end):
            return False
        others = (other for other in lives if other.worker is not life.worker and other.worker.site == life.worker.site)
        return any(other.begin < begin and other.end > end for other in others)

    def check_overlaps(self, overlaps):
        """Two campaigns named a host at a time: right only if the first was over for it."""
        for earlier, later, host in overlaps:
            if not any(name is None and earlier.begin < at <= later.begin + 1 for at, name in self.owners[host]):
                self.violations.append(f"{host} is in two campaigns at a time: {earlier} and {later}")
        overlaps.clear()

    def count_finished_alone(self, jobs):
        """Hosts that were taken over while they wrote or waited for their release, and are confirmed."""
        for host, spans in jobs.items():
            taken = [at for at, name in self.owners[host] if name]
            if self.hosts[host].is_sound and any(begin < at < end for at in taken for begin, end in spans):
                self.tally["finished without their manager"] += 1
