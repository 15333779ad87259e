"""`goldsmith doctor`: what Goldsmith needs on this machine, looked at piece by piece, and how to mend what is wrong."""
