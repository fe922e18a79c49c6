"""The scenarios: every function marked with `@scenario` in this folder."""
