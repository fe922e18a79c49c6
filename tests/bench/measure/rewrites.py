"""Rewrites of one flash chip by several programs, each in turn: time, erases, bytes written, memory."""

import json
import os
import random
import re
import statistics
from pathlib import Path

from lab.shell import run

# How often each program writes; the table has the median. A chip that takes its time needs no more than one.
_GIVEN = os.environ.get("BENCH_FLASH_ROUNDS")
ROUNDS, ROUNDS_TIMED = int(_GIVEN or 5), int(_GIVEN or 1)
# Shares of the eraseblocks that differ, in percent.
SHARES = (100, 70, 10)


def make_images(folder, chip_bytes, block_bytes):
    """An image of noise, and for each share one that differs from it in so many blocks, strewn over the chip."""
    noise = random.Random(2)
    base = noise.randbytes(chip_bytes)
    images = {"base": base}
    for share in SHARES:
        image = bytearray(base)
        count = chip_bytes // block_bytes
        for block in noise.sample(range(count), count * share // 100):
            image[block * block_bytes : (block + 1) * block_bytes] = noise.randbytes(block_bytes)
        images[f"differs-{share}"] = bytes(image)
    for name, contents in images.items():
        (folder / name).write_bytes(contents)
    return {name: folder / name for name in images}


class Tool:
    """A program that makes a chip hold a file. In `command`, {file} stands for the file."""

    def __init__(self, name, command):
        self.name = name
        self.command = command


class Chip:
    """A chip in a virtual machine.

    `run(command)` runs a shell command there and returns its output, or raises; `contents()` is what the chip holds,
    seen from outside; `device` is its node; `place` is the machine's folder with the images; `strace` and `exercise`
    are the commands there, and `spent`, if there is one, a file that says how many nanoseconds the chip has spent.
    """

    def __init__(self, run, contents, images, *, device, place, strace, exercise, spent=None):
        self._run, self._contents, self._images = run, contents, images
        self._device, self._place, self._strace, self._exercise = device, place, strace, exercise
        self._spent_file = spent
        self._holds = None

    def put(self, tool, image, before="", after=""):
        """Lets `tool` bring `image` to the chip and returns what was said; fails when the chip holds something else then."""
        said = self._run(f"{before}{tool.command.format(file=f'{self._place}/{image}')}{after}")
        if self._contents() != self._images[image].read_bytes():
            raise RuntimeError(f"the chip does not hold {image} after {tool.name}: {said}")
        self._holds = image
        return said

    def other(self, image):
        """The one of base and `image` that the chip does not hold."""
        return "base" if self._holds == image else image

    def timed(self, tool, image):
        """The time of one rewrite in milliseconds and the memory in KiB; what firmcast says of itself; what the chip does."""
        before = self._spent_ms()
        objects = objects_of(self.put(tool, image, before=f"{self._exercise} --time "))
        return objects[-1] | objects[0] | {name: ms - before[name] for name, ms in self._spent_ms().items()}

    def _spent_ms(self):
        return {"spent_ms": int(self._run(f"cat {self._spent_file}")) / 1e6} if self._spent_file else {}

    def counted(self, tool, image):
        """Erased bytes, calls that erase, and written bytes, as the system calls on the device say."""
        said = self.put(
            tool, image,
            before=f"{self._strace} --seccomp-bpf -f -qq -P {self._device} -e trace=ioctl,write,pwrite64 -s 0 -o /tmp/trace ",
            after=r"; sed -n 's/.*MEMERASE.*length=\([0-9a-fx]*\).*= 0$/erased \1/p; s/.*write.* = \([0-9]*\)$/written \1/p' /tmp/trace"
                  " | sort | uniq -c",
        )  # fmt: skip
        sums, calls = {"erased": 0, "written": 0}, {"erased": 0, "written": 0}
        for times, what, size in re.findall(r"^ *(\d+) (erased|written) (\w+)$", said, re.MULTILINE):
            sums[what] += int(times) * int(size, 0)
            calls[what] += int(times)
        return sums["erased"], calls["erased"], sums["written"]


def objects_of(output):
    """The JSON objects in a program's output, one a line."""
    return [json.loads(line) for line in re.findall(r"^\{.*\}$", output, re.MULTILINE)]


def compare(report, chip_name, chip, tools, block_bytes, rounds=ROUNDS):
    """One row for each share and tool. The tools take turns, so that what else this machine does meets all of them."""
    splits = []
    for share in SHARES:
        image = f"differs-{share}"
        chip.put(tools[0], "base")
        runs = {tool.name: [] for tool in tools}
        for _ in range(rounds):
            for tool in tools:
                runs[tool.name].append(chip.timed(tool, chip.other(image)))
        medians = {name: statistics.median(run["time_ms"] for run in found) for name, found in runs.items()}
        least = {name: min(run["time_ms"] for run in found) for name, found in runs.items()}
        best = min(ms for name, ms in least.items() if name != tools[0].name)
        spent = {name: min(run["spent_ms"] for run in found) for name, found in runs.items() if "spent_ms" in found[0]}
        for tool in tools:
            erased, erase_calls, written = chip.counted(tool, chip.other(image))
            report.row(**{
                "chip": chip_name,
                "differs %": share,
                "program": tool.name,
                "ms": round(medians[tool.name], 1),
                "least ms": round(least[tool.name], 1),
                "least of best peer": round(least[tool.name] / best, 3),
                **({"the chip's own ms": round(spent[tool.name], 1)} if spent else {}),
                "erases": erased // block_bytes,
                "erase calls": erase_calls,
                "bytes written": written,
                "memory KiB": max(run["memory_kib"] for run in runs[tool.name]),
            })  # fmt: skip
        splits.append((share, runs[tools[0].name]))
    # What else this machine does adds least to the quickest run.
    quickest = [(share, min(found, key=lambda run: run["time_ms"])) for share, found in splits]
    for row in (split, phases):
        for share, run in quickest:
            row(report, chip_name, share, run)


def split(report, chip_name, share, quickest):
    """Where firmcast's time went."""
    own_ms = quickest["time_ms"] - quickest["device_ms"]
    kinds = {f"{kind} ms": quickest[kind]["ms"] for kind in ("read", "erase", "write", "status")}
    calls = {f"{kind} calls": quickest[kind]["calls"] for kind in ("read", "write")}
    report.row(**{
        "firmcast on": chip_name,
        "differs %": share,
        "ms": quickest["time_ms"],
        **kinds,
        "own ms": round(own_ms, 1),
        "own %": round(100 * own_ms / quickest["time_ms"], 1),
        "digests ms": round(quickest["digest_ms"], 1),
        "read bytes": quickest["read"]["bytes"],
        **calls,
    })  # fmt: skip


def phases(report, chip_name, share, quickest):
    """Where firmcast's own time went."""
    own = {re.sub(r"(?<!^)(?=[A-Z])", " ", phase).lower(): round(ms, 1) for phase, ms in quickest["own"].items()}
    report.row(**{"own ms on": chip_name, "differs %": share, "opening": round(quickest["open_ms"], 1), **own})


def linked_with(program):
    """The libraries of a program of this machine, as {name: path}, its loader among them as ld.so."""
    listed = run("ldd", program)
    libraries = {name: Path(path).resolve() for name, path in re.findall(r"(\S+) => (/\S+)", listed)}
    loader = re.search(r"^\s*(/\S*ld-linux\S*)", listed, re.MULTILINE).group(1)
    return libraries | {"ld.so": Path(loader).resolve()}
