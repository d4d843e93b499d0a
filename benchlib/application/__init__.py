"""One method per question a page, a route or a shell asks."""
