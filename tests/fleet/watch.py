"""What the hosts record of themselves, held against what may be done to them. The store is not asked."""

import heapq
import json
import queue
from collections import Counter
from dataclasses import dataclass

# Records of different sites are read so much later than they are made, at most.
LAG_S = 1.0
# A sound chip takes the release in one job.
WRITES_MAX = 1


@dataclass
class Host:
    """A host as the plan has it, and as it is by its own record."""

    number: int
    name: str
    fate: str
    site: str
    rack: str
    is_planned: bool
    is_away: bool = False
    holds: str = "old"
    writes: int = 0

    @property
    def is_sound(self):
        return self.fate == "sound"


class Watch:
    """Holds what the hosts record against the limits. Broken hosts may stay away when they have failed, and do not count."""

    def __init__(self, hosts, limits, folder):
        self.hosts = {host.number: host for host in hosts}
        self.limits = limits
        self.lines = queue.SimpleQueue()
        self.waiting = []
        self.file = open(folder / "hosts.jsonl", "w", encoding="utf-8")
        self.violations = []
        self.away = Counter()
        self.most = Counter()
        self.tally = Counter()
        # When hosts began to write, and when they were home again: of the round that goes on.
        self.jobs = {}
        self.sequence = 0

    def look(self, now):
        """Takes what was recorded, in the order of time."""
        while not self.lines.empty():
            line = self.lines.get()
            self.file.write(line)
            self.sequence += 1
            record = json.loads(line)
            heapq.heappush(self.waiting, (record["at"] / 1e6, self.sequence, record))
        while self.waiting and self.waiting[0][0] < now - LAG_S:
            at, _, record = heapq.heappop(self.waiting)
            self._follow(at, self.hosts[record["host"]], record["is"], record["facts"])
        self.file.flush()

    def _violated(self, at, host, what):
        self.violations.append(f"{at:.3f} {host.name}: {what}")

    def _follow(self, at, host, what, facts):
        follow = getattr(self, "_" + what.replace("-", "_"))
        follow(at, host, facts)
        if not host.is_planned:
            self._check_outsider(at, host, what, facts)
        if facts.get("holds"):
            host.holds = facts["holds"]

    def _check_outsider(self, at, host, what, facts):
        if what not in ("replaced", "home"):
            self._violated(at, host, f"is outside of the plan, and was touched: {what} {facts}")

    def _replaced(self, at, host, facts):
        self._set_away(at, host, False)
        host.holds, host.writes = "old", 0
        self.jobs.pop(host.name, None)

    def _spoke(self, at, host, facts):
        """Whom it answers is of interest for those outside of the plan."""

    def _accepted(self, at, host, facts):
        self.tally["accepted"] += 1
        if host.is_away:
            self._violated(at, host, f"left for another campaign although it is not home: {facts}")
        if host.is_sound and host.holds == "new":
            # Nothing is written then, but it is cut off from its work.
            self._violated(at, host, f"left its work although it holds the release: {facts}")
        self._set_away(at, host, True)

    def _recovery(self, at, host, facts):
        """Nothing is done to it yet."""

    def _job(self, at, host, facts):
        self.tally["jobs"] += 1
        self.jobs.setdefault(host.name, []).append([at, float("inf")])

    def _changes(self, at, host, facts):
        host.writes += 1
        self.tally["writes"] += 1
        if host.is_sound and host.writes > WRITES_MAX:
            self._violated(at, host, f"is written the {host.writes}nd time: {facts}")

    def _job_over(self, at, host, facts):
        if host.is_sound and facts["holds"] != "new":
            self._violated(at, host, f"has written, and holds something else: {facts}")

    def _home(self, at, host, facts):
        self._set_away(at, host, False)
        for job in self.jobs.get(host.name, []):
            job[1] = min(job[1], at)

    def _dead(self, at, host, facts):
        if host.is_sound:
            self._violated(at, host, "does not start any more")

    def _violation(self, at, host, facts):
        self._violated(at, host, facts["what"])

    def _set_away(self, at, host, is_away):
        if not host.is_sound or host.is_away == is_away:
            return
        host.is_away = is_away
        for domain, most in (("all", self.limits["all"]), ((host.site, host.rack), self.limits["rack"])):
            self.away[domain] += 1 if is_away else -1
            kind = "all" if domain == "all" else "rack"
            self.most[kind] = max(self.most[kind], self.away[domain])
            if self.away[domain] > most:
                self._violated(at, host, f"{self.away[domain]} hosts of {domain} are away, {most} may be")
