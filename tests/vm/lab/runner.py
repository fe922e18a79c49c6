"""Runs scenarios and reports: a PASS or FAIL for each with what was checked, and one line with the counts at the end."""

import re
import subprocess
import sys
import time
import traceback
from itertools import groupby

from .packages import LabCannotRun
from .paths import OUTPUT, VM_DIR
from .prompt import Prompt
from .server import ServerFailed
from .shell import CommandFailed
from .testbed import PATIENCE, CheckFailed, Lab

CONSOLE_LINES_SHOWN = 25


def units_of(scenarios):
    """The scenarios in the pieces that share a lab: a group, or one that has none."""
    keyed = sorted(scenarios, key=lambda s: (s.group or "", list(scenarios).index(s)))
    units = [list(found) for _, found in groupby(keyed, key=lambda s: s.group or s.name)]
    return sorted(units, key=lambda unit: min(list(scenarios).index(s) for s in unit))


def run(scenarios, kvm, keep, jobs):
    """Runs all; returns the exit status."""
    units = units_of(scenarios)
    passed = _run_in_parallel(units, kvm, jobs) if jobs > 1 and len(units) > 1 else _run_in_turn(units, kvm, keep)
    failed = len(scenarios) - passed
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if failed == 0 else 1


def _run_in_turn(units, kvm, keep):
    passed = 0
    for unit in units:
        lab = None
        for scenario in unit:
            holds, lab = _run_one(scenario, unit, lab, kvm, keep)
            passed += holds
        if lab is not None:
            lab.close()
    return passed


def _run_one(scenario, unit, lab, kvm, keep):
    """Runs one scenario in `lab`, or in a new one; returns whether it holds and the lab if it can be used again."""
    print(f"RUN  {scenario.name}: {scenario.about}", flush=True)
    began = time.monotonic()
    holds, problem = False, ""
    try:
        if lab is None:
            lab = Lab(OUTPUT / (scenario.group or scenario.name), kvm=kvm, with_manager=scenario.with_manager)
            lab.deadline = time.monotonic() + scenario.limit_s * PATIENCE
            scenario.setup(lab)
        lab.checked.clear()
        lab.deadline = time.monotonic() + scenario.limit_s * PATIENCE
        scenario.run(lab)
        holds = True
    except (CheckFailed, ServerFailed, CommandFailed, LabCannotRun, subprocess.TimeoutExpired) as failure:
        problem = str(failure)
    except KeyboardInterrupt:
        if lab is not None:
            lab.close()
        raise
    except Exception:
        problem = traceback.format_exc()
    _report(scenario, lab, holds, problem, time.monotonic() - began)
    if keep and lab is not None:
        Prompt(lab).cmdloop()
    if not holds and lab is not None:
        # The next scenario shall not suffer from what this one left behind.
        lab.close()
        lab = None
    return holds, lab


def _report(scenario, lab, holds, problem, seconds):
    for what in lab.checked if lab else []:
        print(f"  ok   {what}")
    if holds:
        print(f"PASS {scenario.name} ({seconds:.0f} s)", flush=True)
        return
    print("  BAD  " + problem.replace("\n", "\n       "))
    for server in lab.servers if lab else []:
        lines = server.console().splitlines()[-CONSOLE_LINES_SHOWN:]
        print(f"  console of {server.name}, its end ({server.console_file}):")
        print("".join(f"    | {line}\n" for line in lines), end="")
    print(f"FAIL {scenario.name} ({seconds:.0f} s)", flush=True)


def _run_in_parallel(units, kvm, jobs):
    """Each unit in a process of its own, `jobs` at a time; the output of one appears whole when it ends."""
    waiting, running, passed = list(units), [], 0
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                names = [scenario.name for scenario in waiting.pop(0)]
                command = [sys.executable, str(VM_DIR / "lab.py"), "run", *names, *(["--kvm"] if kvm else [])]
                running.append(_start(command, names))
            time.sleep(0.2)
            for child in [c for c in running if c.poll() is not None]:
                running.remove(child)
                text = child.output_file.read_text(errors="replace")
                counts = re.findall(r"^(\d+) passed, \d+ failed\n?\Z", text, re.MULTILINE)
                print(re.sub(r"^\d+ passed, \d+ failed\n?\Z", "", text, flags=re.MULTILINE), end="", flush=True)
                passed += int(counts[-1]) if counts else 0
    finally:
        for child in running:
            child.terminate()
            child.wait()
    return passed


def _start(command, names):
    OUTPUT.mkdir(parents=True, exist_ok=True)
    output = OUTPUT / f"{names[0]}.report"
    with open(output, "w") as file:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    child.output_file = output
    print(f"lab: running {', '.join(names)}", flush=True)
    return child
