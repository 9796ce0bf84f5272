"""Subscriber SDK: halt signals as an iterator. Needs kafka-python and nothing else of streamwatch.

::

    from streamwatch.client import subscribe

    for signal in subscribe("kafka:9092", group="my-deployer"):
        if signal.kind == "halt" and not signal.dry_run:
            stop_rollout(signal.service, signal.release)
"""

from streamwatch.client.subscriber import Signal, subscribe

__all__ = ["Signal", "subscribe"]
