"""What is inside compressed sections: as many files as UEFITool (Debian) reports."""

import re

from lab.shell import run

from . import sources

UEFITOOL = "uefitool-cli"


def check(folder, path, seen, failures):
    """Compares the number of files in all volumes, those inside compressed sections included, with UEFITool's."""
    found = re.search(r"firmware volumes with (\d+) files", seen["verdict"]["text"])
    if not found:
        return 0
    ours, theirs = int(found[1]), count(folder, path)
    failures.check(ours == theirs, f"{path.name}: firmcast walks {ours} files, UEFITool {theirs}")
    return ours


def count(folder, path):
    """The files in UEFITool's report of an image."""
    report = folder / "reports" / path.name
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    text = report.with_name(path.name + ".report.txt")
    text.unlink(missing_ok=True)
    report.write_bytes(path.read_bytes())
    run(program(folder), report, "report")
    files = [line for line in text.read_text().splitlines() if re.match(r"\s*File\s*\|", line)]
    return len(files)


def program(folder):
    return sources.unpack(folder, UEFITOOL) / "usr" / "bin" / "UEFIExtract"
