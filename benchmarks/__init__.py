"""How fast benchlib is, and how to measure it."""
