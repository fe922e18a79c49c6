"""What is inside compressed sections, and the tree: the same files as UEFITool (Debian) reports."""

import re

from lab.shell import run

from . import sources

UEFITOOL = "uefitool-cli"
FILE = re.compile(r"\s*File\s*\|\s*(?P<type>[^|]*?)\s*\|\s*(?P<base>\S+)\s*\|\s*(?P<size>\S+)\s*\|[^|]*\|\s*-+ (?P<name>[^|]*?)(?: \| (?P<text>.*?))?\s*$")


def check(folder, path, seen, failures):
    """Compares all files, those inside compressed sections included, with UEFITool's: their number as the verdict
    has it, and each one of the tree by place, length, GUID and name."""
    found = re.search(r"firmware volumes with (\d+) files", seen["verdict"]["text"])
    if not found:
        return 0
    ours, theirs = int(found[1]), report(folder, path)
    failures.check(ours == len(theirs), f"{path.name}: firmcast walks {ours} files, UEFITool {len(theirs)}")
    tree = seen["tree_files"]
    failures.check(len(tree) == len(theirs), f"{path.name}: the tree has {len(tree)} files, UEFITool {len(theirs)}")
    for mine, other in zip(tree, theirs):
        failures.check(is_same(mine, other), f"{path.name}: the tree has {mine}, UEFITool {other}")
    return ours


def is_same(mine, other):
    """Whether a file of the tree is the one that UEFITool has. It shows no GUID of padding, and has names of its own for files without one."""
    is_there = mine["offset"] == other["offset"] and mine["length"] == other["length"]
    is_named = other["guid"] == "padding file" or mine["guid"] == other["guid"]
    return is_there and is_named and mine["name"] in (None, other["text"])


def report(folder, path):
    """The files in UEFITool's report of an image, in the order of the report."""
    report = folder / "reports" / path.name
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    text = report.with_name(path.name + ".report.txt")
    text.unlink(missing_ok=True)
    report.write_bytes(path.read_bytes())
    run(program(folder), report, "report")
    files = [line for line in map(FILE.match, text.read_text().splitlines()) if line]
    return [{
        "offset": None if file["base"] == "N/A" else int(file["base"], 16),
        "length": int(file["size"], 16),
        "guid": file["name"].lower(),
        "text": file["text"],
    } for file in files]


def program(folder):
    return sources.unpack(folder, UEFITOOL) / "usr" / "bin" / "UEFIExtract"
