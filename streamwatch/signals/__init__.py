"""Signals: what streamwatch asks of deployment tools, and how it is put on the wire."""
