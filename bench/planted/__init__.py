"""Models with planted faults, whose fix sets are known."""
