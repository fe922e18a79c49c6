"""What schemathesis cannot know: how a rollout file looks."""

import json
import os
import re

import schemathesis
from hypothesis import strategies as st

# Rollouts that can be created as they are.
ROLLOUTS = json.loads(os.environ["API_ROLLOUTS"])
DIGEST = re.compile("[0-9a-fA-F]{64}")
FILE = ROLLOUTS[0]["file"].replace("made 0", "NAME")
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters='"\\'), min_size=1, max_size=20)
# Changes of a file, of which some leave it a rollout file.
CHANGES = [
    ("", ""),
    ("count = 6", "percent = 30"),
    ('hosts = "all"', 'hosts = "site=riga"'),
    ('hosts = "all"', 'hosts = "site=nowhere"'),
    ('hosts = "all"', 'hosts = "site=="'),
    ("rest = true", "rest = maybe"),
    ("rest = true", 'rest = true\napproval = "person"\nsoak = "30 min"'),
    ('"2.1"', '"9.9"'),
    ("hosts = 30", "percent = 25"),
    ("hosts = 30", "hosts = -1"),
    ("[limits]", "[limit]"),
]


@st.composite
def files(draw):
    text = FILE.replace("NAME", draw(NAMES))
    old, new = draw(st.sampled_from(CHANGES))
    return text.replace(old, new, 1) if old else text


@schemathesis.serializer("application/toml")
def toml(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


ANY = st.one_of(files(), files(), st.text(max_size=200), st.binary(max_size=200))
schemathesis.openapi.media_type("application/toml", ANY.map(lambda file: file if isinstance(file, bytes) else file.encode()))


@schemathesis.hook
def map_body(context, body):
    """Half of the rollouts that are well formed can be created, and half of the approvals are for a wave that there is."""
    if not isinstance(body, dict):
        return body
    file, plan, wave = (body.get(name) for name in ("file", "plan", "wave"))
    if isinstance(file, str) and isinstance(plan, str) and DIGEST.fullmatch(plan) and len(body) == 2 and len(file) % 2:
        return dict(ROLLOUTS[len(file) // 2 % len(ROLLOUTS)])
    if isinstance(wave, str) and len(wave) % 2:
        return body | {"wave": "rest"}
    return body
