"""Answers from the store, in the form that the domain takes."""
