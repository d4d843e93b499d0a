"""Model servers: how they are found, probed, asked and started."""
