"""Which versions of what is said in sessions a side speaks (docs/PROTOCOL.md, section "Versions")."""

from . import messages

OURS = (2, 4)
UNSAID = (2, 2)
NEWER = (200, 201)


def common(ours, theirs):
    """Returns the newest version that both understand, or None."""
    highest = min(ours[1], theirs[1])
    return highest if highest >= max(ours[0], theirs[0]) else None


def said_first(spoken):
    """Returns the caller's first message. Who speaks version 2 only says nothing of versions."""
    return b"" if spoken == UNSAID else messages.emit("caller speaks", lowest=spoken[0], highest=spoken[1])


def answer(spoken):
    return messages.emit("called speaks", lowest=spoken[0], highest=spoken[1])


def range_in(fields):
    return fields["lowest"], fields["highest"]
