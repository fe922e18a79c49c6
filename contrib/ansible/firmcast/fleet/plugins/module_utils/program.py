# Copyright (c) 2026 the firmcast developers
# Apache-2.0 OR MIT

"""How the program firmcast-fleet is called; the module and the inventory plugin do nothing by themselves."""


def command(program, state_directory=None):
    """Returns the words that every call begins with."""
    return [program] + (["--state", state_directory] if state_directory else [])


def environment(store=None):
    """Returns what the program reads of its environment. The address of a store may have a password, so it is no option:
    everybody on the machine sees those."""
    return {"FIRMCAST_FLEET_STORE": store} if store else {}
