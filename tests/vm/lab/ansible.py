"""Ansible with the collection of contrib/ansible: Debian's ansible-core, unless ANSIBLE_BIN names a folder with another."""

import json
import os
import re
import shutil
from pathlib import Path

from .paths import PROJECT
from .shell import run

BIN = Path(os.environ["ANSIBLE_BIN"]).resolve() if os.environ.get("ANSIBLE_BIN") else None
SOURCE = PROJECT / "contrib/ansible/firmcast/fleet"
# The findings that ansible-test ignores. It reads only the file that is named for its own version.
IGNORED = "tests/sanity/ignore-2.14.txt"


class Ansible:
    """A copy of the collection lies under `place`, and all that Ansible keeps."""

    def __init__(self, place):
        if not BIN:
            run(PROJECT / ".ci/need", "ansible-playbook", "ansible-core")
        self.collection = place / "ansible_collections/firmcast/fleet"
        home = str(place / "home")
        self.environment = {
            "ANSIBLE_COLLECTIONS_PATH": str(place), "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_HOME": home, "HOME": home, "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        Path(home).mkdir(parents=True)
        shutil.copytree(SOURCE, self.collection)
        self.version = run(self.tool("ansible"), "--version", env=self.environment).split()[2].rstrip("]")
        series = re.match(r"\d+\.\d+", self.version)[0]
        shutil.copy(SOURCE / IGNORED, self.collection / f"tests/sanity/ignore-{series}.txt")

    def tool(self, name):
        """The program of that name."""
        return str(BIN / name) if BIN else name


def inventory_of(listed):
    """What `ansible-inventory --list` wrote; newer ones mark text that is not to be evaluated."""

    def plain(pairs):
        found = dict(pairs)
        return found.get("__ansible_unsafe", found)

    return json.loads(listed, object_pairs_hook=plain)
