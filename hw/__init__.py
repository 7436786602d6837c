"""One thin adapter for each device of the box."""
