"""Error fingerprints: a stateless shape per record, and groups of shapes per service."""
