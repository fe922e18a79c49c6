"""How many hosts workers claim and end in a second, on both stores, beside what the bare database commits."""

import json
import os

from .stores import stores

HOSTS = 10_000
WORKERS = [int(number) for number in os.environ.get("BENCH_FLEET_WORKERS", "1,3,8").split(",")]
# Hosts in one claim.
AT_ONCE = (1, 50)
SECONDS = float(os.environ.get("BENCH_FLEET_SECONDS", "4"))
BARE_SECONDS = 2


def measure(report):
    """Workers begin with hosts of a rollout and report each as confirmed, as fast as the store lets them."""
    closings = []
    for durable in (True, False):
        for store in stores(durable):
            for workers in WORKERS:
                bare = store.bare_commits_per_s(workers, BARE_SECONDS)
                for at_once in AT_ONCE:
                    options = ("--workers", workers, "--at-once", at_once, "--seconds", SECONDS)
                    measured = json.loads(store.load("claims", *options))
                    report.row(**row(store, workers, at_once, measured, bare))
            if not durable:
                closings.append((store.name, json.loads(store.load("looks", "--hosts", HOSTS))))
    for name, closing in closings:
        report.row(**{"closing a wave, store": name, "hosts": HOSTS, "s": round(closing["seconds"], 2)})
    report.note(f"a rollout over {HOSTS:,} hosts at 5 sites with limits for all, each site and each rack; {SECONDS:g} s each")
    report.note(f"bare commits: one row of a table changed in each, by as many connections, for {BARE_SECONDS} s (pgbench; Python's sqlite3)")


def row(store, workers, at_once, measured, bare):
    commits = measured["commits"] / measured["seconds"]
    return {
        "store": store.name,
        "waits for the disk": store.durable,
        "workers": workers,
        "hosts in a claim": at_once,
        "hosts/s": round(measured["hosts"] / measured["seconds"]),
        "claims/s": round(measured["claims"] / measured["seconds"]),
        "commits/s": round(commits),
        "bare commits/s": round(bare),
        "share": f"{commits / bare:.2f}",
        "claim, median ms": round(measured["claim_ms"][0], 2),
        "worst": round(measured["claim_ms"][1], 1),
        "report, median ms": round(measured["report_ms"][0], 2),
        "worst of reports": round(measured["report_ms"][1], 1),
        "busy": measured["busy"],
    }
