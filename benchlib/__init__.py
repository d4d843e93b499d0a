"""Measure social bias in language models: personas, traits, ratings, and numbers that hold."""

__version__ = "0.1.0"
