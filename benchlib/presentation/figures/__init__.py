"""Data in, go.Figure out."""
