"""Bundles that a host must refuse before anything happens. One server serves them all."""

from lab.scenario import group_setup, scenario
from scenarios.updates import refused


@group_setup("refusals")
def one_server(lab):
    """One server that waits for instructions."""
    lab.boot(lab.add_server(lab.firmware.ovmf_old))
    lab.enroll(*lab.servers)


@scenario(group="refusals", limit_s=240)
def wrong_release_key(lab):
    """A bundle signed with a release key that the host does not trust is refused"""
    stranger = lab.manager.new_key("release", lab.manager.folder / "stranger.key")
    bundle = lab.manager.bundle("stranger", lab.firmware.ovmf_new, version="2", key=stranger)
    refused(lab, bundle, "manifest-untrusted")


@scenario(group="refusals", limit_s=240)
def wrong_board(lab):
    """A bundle for another board is refused"""
    bundle = lab.manager.bundle("other-board", lab.firmware.ovmf_new, version="2", product="Virtual Server 9")
    refused(lab, bundle, "wrong-board")


@scenario(group="refusals", limit_s=240)
def image_larger_than_chip(lab):
    """An image that is larger than the flash chip is refused"""
    bundle = lab.manager.bundle("oversized", lab.firmware.oversized, version="2", preserve=False)
    refused(lab, bundle, "image-size-mismatch")
