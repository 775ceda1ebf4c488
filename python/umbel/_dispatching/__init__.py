"""From the core's events to the application's functions, and back with what they return."""
