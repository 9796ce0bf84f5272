"""The HTTP API: what people and deployment tools ask about releases."""
