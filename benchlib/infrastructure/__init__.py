"""Store, executor thread and engines: everything that touches the world."""
