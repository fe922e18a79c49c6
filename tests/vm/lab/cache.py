"""Things that take long to make are made once: each lies in a folder that is named for what it was made from."""

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from .paths import CACHE


def digest_of(*parts):
    """A short digest of strings, bytes and the contents of files and folders."""
    state = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            state.update(len(piece).to_bytes(8, "big") + piece)
    return state.hexdigest()[:16]


def _pieces(part):
    if isinstance(part, Path) and part.is_dir():
        for file in sorted(p for p in part.rglob("*") if p.is_file()):
            yield str(file.relative_to(part)).encode()
            yield str(file.stat().st_mode & 0o111).encode()
            yield file.read_bytes()
    elif isinstance(part, Path):
        yield part.read_bytes()
    elif isinstance(part, bytes):
        yield part
    else:
        yield str(part).encode()


def cached(name, parts, make):
    """The folder `name-<digest of parts>`; `make(folder)` fills it when it is not there yet.

    A lock makes parallel runs wait for each other, and the rename at the end makes a folder appear whole or not at all.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{name}-{digest_of(*parts)}"
    with open(CACHE / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        print(f"lab: preparing {name} (kept in {folder})", flush=True)
        unfinished = CACHE / f".{name}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        make(unfinished)
        unfinished.rename(folder)
    return folder
