"""The VM lab: virtual servers with real firmware in emulated flash, on a private network. See docs/LAB.md."""
