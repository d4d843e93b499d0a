"""A rater with planted effects, and the exact truth about it."""
