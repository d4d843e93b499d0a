"""The store: rows in, frozen records out."""
