"""What runs are made of: personas and traits."""
