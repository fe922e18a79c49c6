"""A table for people, and the same figures as JSON."""

import json
import os
import platform
import time

from lab.paths import TARGET
from lab.shell import run

OUTPUT = TARGET / "bench"


class Report:
    """Rows of one part. Rows may have different columns; each group of equal columns is one table."""

    def __init__(self, name, about):
        self.name = name
        self.about = about
        self._rows = []
        self._notes = []
        print(f"bench: measuring {name}", flush=True)

    def row(self, **columns):
        """One line of the table; also shown at once, since a part may take minutes."""
        self._rows.append(columns)
        print("bench:   " + ", ".join(f"{name} {_text(value)}" for name, value in columns.items()), flush=True)

    def note(self, text):
        """Something that the reader of the table must know."""
        self._notes.append(text)

    def finish(self):
        """Prints the table and writes the file."""
        OUTPUT.mkdir(parents=True, exist_ok=True)
        file = OUTPUT / f"{self.name}.json"
        contents = {"about": self.about, "machine": machine(), "rows": self._rows, "notes": self._notes}
        file.write_text(json.dumps(contents, indent=1) + "\n")
        print(f"\n{self.about}\n")
        for columns in dict.fromkeys(tuple(row) for row in self._rows):
            self._print_table([row for row in self._rows if tuple(row) == columns])
        for note in self._notes:
            print(f"  {note}")
        print(f"  ({file})\n", flush=True)

    @staticmethod
    def _print_table(rows):
        """As Markdown, for docs/BENCHMARKS.md."""
        lines = [list(rows[0])] + [[_text(value) for value in row.values()] for row in rows]
        widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
        lines.insert(1, ["-" * width for width in widths])
        for line in lines:
            first, *others = (cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(line, widths)))
            print("| " + " | ".join([first, *others]) + " |")
        print()


def _text(value):
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine():
    """What the figures depend on."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processors": os.cpu_count(),
        "model": _processor(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "revision": run("git", "describe", "--always", "--dirty", cwd=TARGET.parent).strip() if _in_git() else None,
    }


def _processor():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _in_git():
    return (TARGET.parent / ".git").exists()
