"""What is fast, and how to measure it."""
