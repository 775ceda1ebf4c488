"""A running server, and the process around it: start, signals, log, stop."""
