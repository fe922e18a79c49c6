"""The page, the API and the metrics over 10,000 and 100,000 hosts: how long an answer takes, and what the process holds."""

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

from lab import binaries, packages
from lab.paths import PROJECT

from ..idle import fields
from .stores import stores

SIZES = [int(size) for size in os.environ.get("BENCH_FLEET_HOSTS", "10000,100000").split(",")]
ANSWERS = 20
ENDED, IN_FLIGHT = 3000, 1000
ROLLOUT = "/rollout?name=winter"
PATHS = {
    "overview": "/",
    "rollout": ROLLOUT,
    "host": "/host?name=host000123",
    "API: rollouts": "/api/v1/rollouts",
    "API: a rollout": "/api/v1/rollouts/1",
    "API: 1,000 attempts": "/api/v1/rollouts/1/attempts?limit=1000",
    "API: 1,000 hosts": "/api/v1/hosts?limit=1000",
    "API: 1,000 events": "/api/v1/events?limit=1000",
    "metrics": "/metrics",
}
# Sizes at which a browser is asked, too, and how often.
BROWSER_SIZES = (10_000,)
LOADS = 7
TURNS = 20


def measure(report):
    """A rollout runs; before each answer a host comes to another stage, so nothing can be answered from what was read before."""
    for store in stores():
        for size in SIZES:
            with filled(store, size):
                measure_store(report, store, size)
    report.note(f"medians and worst of {ANSWERS}, by HTTP on loopback, each after another event; {ENDED:,} hosts have ended, {IN_FLIGHT:,} are in flight")
    report.note("first: after the program has started; MiB: what the process holds at its peak")


@contextmanager
def filled(store, size):
    """The store with a rollout over so many hosts, and nothing else."""
    store.clear()
    begun = time.monotonic()
    store.load("fill", "--hosts", size, "--ended", ENDED, "--in-flight", IN_FLIGHT)
    print(f"bench:   {size:,} hosts in {store.name} after {time.monotonic() - begun:.0f} s", flush=True)
    yield


def measure_store(report, store, size):
    turns = json.loads(store.load("turns", "--turns", TURNS))["turn_ms"]
    page, address = store.start_page()
    try:
        with teller(store) as tell:
            for name, path in PATHS.items():
                report.row(**{"store": store.name, "hosts": size, "answer": name, **answers(address, path, tell)})
        row = {"store": store.name, "hosts in the rollout": size, "MiB": round(fields(page, "status")["VmHWM"] / 1024)}
        row |= {"idle worker's turn, median ms": round(turns[0], 1), "worst": round(turns[1], 1)}
        row["Chromium, median s"], row["slowest"] = loads(address) if size in BROWSER_SIZES else (None, None)
        report.row(**row)
    finally:
        page.terminate()
        page.wait()


def answers(address, path, tell):
    first, size_bytes = answer(address, path)
    times = []
    for _ in range(ANSWERS):
        tell()
        times.append(answer(address, path)[0])
    figures = {"first ms": first, "median ms": statistics.median(times), "worst ms": max(times)}
    return {name: round(ms, 1) for name, ms in figures.items()} | {"KiB": round(size_bytes / 1024)}


def answer(address, path):
    """Milliseconds until the last byte, over a connection of its own, and how many bytes there were."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    ms = (time.monotonic() - begun) * 1000
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status}: {body[:300]}")
    return ms, len(body)


@contextmanager
def teller(store):
    """Has one event told at each call."""
    words = [binaries.fleet_load(), "stir", str(store.place())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def tell():
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()

        yield tell
        process.stdin.close()


def loads(address):
    """Seconds from the click to the loaded page of the rollout, in a browser without a screen."""
    packages.install("chromium", "chromium-driver")
    sys.path.append(str(PROJECT / "tests/page"))
    from browser import Driver

    times = []
    with Driver() as driver, driver.browser() as browser:
        for _ in range(LOADS):
            browser.open(f"http://{address}{ROLLOUT}")
            browser.wait("the loaded page", lambda: loaded_ms(browser) > 0)
            times.append(loaded_ms(browser) / 1000)
    return round(statistics.median(times), 2), round(max(times), 2)


def loaded_ms(browser):
    return browser.run("return performance.getEntriesByType('navigation')[0].loadEventEnd")
