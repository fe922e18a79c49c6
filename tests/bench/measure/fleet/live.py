"""How long an event takes from its commit in the store to the open pages, with 1 and with 1,000 of them."""

import json
import os
import resource

from .stores import stores

STREAMS = (1, 1000)
EVENTS = int(os.environ.get("BENCH_FLEET_EVENTS", "100"))
HOSTS = 10_000


def measure(report):
    """One program tells an event and then listens on all streams of a `firmcast-fleet web`."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for store in stores():
        store.load("fill", "--hosts", HOSTS, "--ended", 100, "--in-flight", 500)
        page, address = store.start_page()
        try:
            for streams in STREAMS:
                measured = json.loads(store.load("live", "--page", address, "--streams", streams, "--events", EVENTS))
                first, last = ([round(ms, 1) for ms in measured[which]] for which in ("first_ms", "last_ms"))
                report.row(**{
                    "store": store.name, "open pages": streams, "first page, median ms": first[0], "worst": first[1],
                    "last page, median ms": last[0], "worst of last": last[1],
                })  # fmt: skip
        finally:
            page.terminate()
            page.wait()
    report.note(f"{EVENTS} events, 0.15 to 0.3 s apart, from the answer to who told it to the byte in who listens, which share the processors")
