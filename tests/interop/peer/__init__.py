"""A second implementation of the firmcast protocol, written from docs/PROTOCOL.md. It shares no code with firmcast."""
