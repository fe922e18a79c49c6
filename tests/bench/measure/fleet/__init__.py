"""The fleet's program and its stores."""
