"""A small sample database of real advisories, for laptops and tests without a network. It says of itself what it is."""
