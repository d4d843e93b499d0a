"""Executing runs: the worker thread, the clients it asks, the progress it tells."""
