"""Other programs that read firmware, and where the firmware comes from."""
