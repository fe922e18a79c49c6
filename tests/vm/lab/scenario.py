"""What a scenario is: a function that takes a lab, named and described by its own name and docstring."""

import importlib
from dataclasses import dataclass
from typing import Callable

from .paths import VM_DIR

LIMIT_S = 600

SCENARIOS = {}
_setups = {}


@dataclass(frozen=True)
class Scenario:
    """One row of the report."""

    name: str
    about: str
    run: Callable
    limit_s: int
    # Scenarios of one group run one after the other in the same lab, which the group's setup made ready.
    group: str | None
    with_manager: bool
    # Not part of a run of all scenarios.
    on_demand: bool

    def setup(self, lab):
        """Makes the lab of this scenario's group ready."""
        if self.group in _setups:
            _setups[self.group](lab)


def scenario(limit_s=LIMIT_S, group=None, with_manager=True, on_demand=False):
    """Registers a function as a scenario. `limit_s` is its time in all, without what is prepared once."""

    def register(function):
        name = function.__name__.replace("_", "-")
        about = " ".join(function.__doc__.split())
        SCENARIOS[name] = Scenario(name, about, function, limit_s, group, with_manager, on_demand)
        return function

    return register


def group_setup(group):
    """Registers a function that makes the lab ready for all scenarios of `group`."""

    def register(function):
        _setups[group] = function
        return function

    return register


def load():
    """Imports every file in `scenarios/`."""
    for file in sorted((VM_DIR / "scenarios").glob("*.py")):
        if file.stem != "__init__":
            importlib.import_module(f"scenarios.{file.stem}")
    return SCENARIOS
