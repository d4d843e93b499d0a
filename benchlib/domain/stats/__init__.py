"""Statistics on arrays: numbers in, numbers out; knows no run."""
