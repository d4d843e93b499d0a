"""Panels: one per question that can be asked of a run."""
