"""What can be compared with a golden inventory: one module for each kind of subject, all of one shape."""
