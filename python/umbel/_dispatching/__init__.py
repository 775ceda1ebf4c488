"""From the events of the core to the functions of the application, and back with what they return."""
