"""Wires the ingest stage: log topics → decode → count → counts topic, one transaction a flush.

::

    log topics ─► IngestWorker (consumer group) ─► Intake (decoder, Shaper, Combiner)
                                                       │
    <prefix>.counts, <prefix>.dead-letter, offsets ◄── Transactions

One process runs one worker; several are kept by a supervisor.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from streamwatch import metrics
from streamwatch.kafka.clients import require_topics
from streamwatch.kafka.ingest import IngestStats, run_worker
from streamwatch.supervisor import Supervisor, stop_on_signals

if TYPE_CHECKING:
    from pathlib import Path

    from streamwatch.config import Config


def run(config: Config, worker: int) -> None:
    """Run one worker until SIGTERM or SIGINT.

    Raises:
        StreamwatchError: as `run_worker` does.
    """
    port = config.ingest.metrics_port
    stats = IngestStats()
    metrics.watch_ingest(stats)
    listener = metrics.start(port and port + worker, stage="ingest")
    try:
        with stop_on_signals() as stop:
            run_worker(config, worker, stop, stats)
    finally:
        listener.stop()


def run_many(config: Config, config_file: Path | None, workers: int) -> int:
    """Keep several workers running until SIGTERM or SIGINT; returns the exit code.

    Raises:
        BrokerUnreachable: no broker answers at start-up.
        TopicMissing: a topic that ingest needs does not exist.
    """
    own = (config.topics.name("counts"), config.topics.name("dead-letter"))
    require_topics(config, (*(source.topic for source in config.sources), *own))
    command = [sys.executable, "-m", "streamwatch.cli", "ingest"]
    if config_file is not None:
        command += ["--config", str(config_file)]
    children = {f"ingest-{i}": [*command, "--worker", str(i)] for i in range(workers)}
    with stop_on_signals() as stop:
        return Supervisor(children).run(stop)
