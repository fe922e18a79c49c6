"""What goes wrong and when, from a seed."""

import heapq
import random
import time

# Mean seconds between two of a kind, and how long it lasts.
KINDS = {
    "kill-worker": (12, [(0.1, 2), (4, 12), (15, 40)]),
    "stop-worker": (90, [(0.1, 2), (4, 12)]),
    "kill-campaign": (30, [(0, 0)]),
    "kill-store": (80, [(0.1, 1), (2, 5), (10, 16)]),
    "cut-site": (100, [(10, 14), (14, 30)]),
}


class Trouble:
    """Does what the seed says, as far as it can be done just then."""

    def __init__(self, seed, fleet):
        self.chance = random.Random(seed)
        self.fleet = fleet
        self.due = []
        self.sequence = 0
        self.is_over = False
        self.tally = {kind: 0 for kind in KINDS}

    def begin(self):
        for kind in KINDS:
            self._plan_next(kind)

    def plan(self, after_s, act, *arguments):
        """Has something done later."""
        self.sequence += 1
        heapq.heappush(self.due, (time.monotonic() + after_s, self.sequence, act, arguments))

    def _plan_next(self, kind):
        self.plan(self.chance.expovariate(1 / KINDS[kind][0]), self._strike, kind)

    def _strike(self, kind):
        if self.is_over:
            return
        span = self.chance.uniform(*self.chance.choice(KINDS[kind][1]))
        place = self.chance.random()
        if getattr(self, "_" + kind.replace("-", "_"))(span, place):
            self.tally[kind] += 1
        self._plan_next(kind)

    def step(self):
        """Does what is due."""
        while self.due and self.due[0][0] <= time.monotonic():
            _, _, act, arguments = heapq.heappop(self.due)
            act(*arguments)

    def end(self):
        """From now on nothing goes wrong. What was planned to be mended is mended when its time comes."""
        self.is_over = True

    def is_calm(self):
        return self.is_over and not self.due

    def _kill_worker(self, span, place):
        worker = _pick(place, [worker for worker in self.fleet.workers if worker.is_alive()])
        if worker:
            self.fleet.say(f"kill -9 {worker.lives[-1].name}, back in {span:.1f} s")
            worker.kill()
            self.plan(span, worker.start)
        return worker

    def _stop_worker(self, span, place):
        worker = _pick(place, [worker for worker in self.fleet.workers if worker.is_alive()])
        if worker:
            self.fleet.say(f"stop {worker.lives[-1].name}, back in {span:.1f} s")
            worker.begin_stop()
            self.plan(0.2, self._await_stop, worker, span)
        return worker

    def _await_stop(self, worker, span):
        if worker.has_stopped():
            self.plan(span, worker.start)
        else:
            self.plan(0.2, self._await_stop, worker, span)

    def _kill_campaign(self, _, place):
        campaign = _pick(place, [campaign for campaign in self.fleet.campaigns.running() if not campaign.is_look])
        if campaign:
            self.fleet.say(f"kill -9 a campaign of {campaign.worker} with {len(campaign.hosts)} hosts")
            self.fleet.campaigns.kill(campaign)
        return campaign

    def _kill_store(self, span, _):
        if self.fleet.database.is_up:
            self.fleet.say(f"kill the store, back in {span:.1f} s")
            self.fleet.database.kill()
            self.plan(span, self.fleet.database.start)
            return True
        return False

    def _cut_site(self, span, place):
        networks = self.fleet.networks
        site = _pick(place, [site for site in self.fleet.sites if not networks.was_cut(site, time.time(), float("inf"))])
        if site:
            self.fleet.say(f"cut site {site} off from the store for {span:.1f} s")
            networks.cut(site)
            self.plan(span, networks.mend, site)
        return site


def _pick(place, choices):
    return choices[int(place * len(choices))] if choices else None
