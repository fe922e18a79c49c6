#!/usr/bin/env python3
"""Runs the parts of tests/interop, all or those that are named, and tells what each showed."""

import sys

import dead_host
import lab
import manager
import updated_host
import vectors
import wireshark

PARTS = {"vectors": vectors.run, "manager": manager.run, "dead-host": dead_host.run, "updated-host": updated_host.run, "wireshark": wireshark.run}


def main(names):
    unknown = set(names) - set(PARTS)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if set(names or PARTS) != {"vectors"}:
        lab.build()
    failed = 0
    for name in names or PARTS:
        try:
            print(f"interop: {name}: {PARTS[name]()}", flush=True)
        except (vectors.Different, lab.Failed) as failure:
            failed += 1
            print(f"interop: {name} FAILED: {failure}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
