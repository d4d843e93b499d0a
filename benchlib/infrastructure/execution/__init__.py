"""Executing runs: the worker thread, asking and storing, progress and monitoring."""
