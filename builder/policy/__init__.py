"""What may be released: the policy of a recipe, and the gate that judges a scan by it and explains itself."""
