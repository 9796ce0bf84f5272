"""A Kafka for development and benchmarks: `PYTHONPATH=tests python -m kafka_cluster [BROKERS]`."""

from __future__ import annotations

import signal
import sys

from kafka_cluster.java import JavaCluster

if __name__ == "__main__":
    with JavaCluster(int(sys.argv[1]) if len(sys.argv) > 1 else 1) as cluster:
        sys.stdout.write(f"{cluster.bootstrap}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
