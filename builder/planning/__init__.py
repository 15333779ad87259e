"""Planning: from a recipe to a lock, which names every input by its digest."""
