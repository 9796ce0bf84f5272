"""A real Apache Kafka for tests, from whatever this machine has: see `choose.obtain`."""
