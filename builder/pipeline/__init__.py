"""The path of a build: what each of the three workers does with a build that it has claimed."""
