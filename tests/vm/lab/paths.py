"""Where things are. Everything the lab makes lies under `target/vm`."""

import os
from pathlib import Path

VM_DIR = Path(__file__).resolve().parents[1]
PROJECT = VM_DIR.parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
OUTPUT = TARGET / "vm"
CACHE = Path(os.environ.get("LAB_CACHE", OUTPUT / "cache"))
