"""The verdict of the gate for people: what passed, what failed, why, and what would make it pass."""
