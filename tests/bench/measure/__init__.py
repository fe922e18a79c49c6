"""What `make bench` measures, one module each."""
