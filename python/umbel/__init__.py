"""Real-time server for Python."""
