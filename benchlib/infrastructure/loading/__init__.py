"""Answers from the store, as the domain takes them."""
