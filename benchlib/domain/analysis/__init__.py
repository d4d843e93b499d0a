"""What the answers of a run say."""
