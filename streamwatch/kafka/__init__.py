"""Everything that talks to Kafka: client settings, topics, the embedded broker, the ingest loop."""
