"""A simulated rater with planted effects, and the exact values an analysis should find."""
