"""Runs one instance of one service: `python -m shop.serve checkout --port 8001 ...`."""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys

import waitress

from shop import models

LOG_MODULES = {"checkout": "shop.otlp_log", "catalog": "shop.json_log"}


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("service", choices=LOG_MODULES)
    parser.add_argument("--release", required=True)
    parser.add_argument("--instance", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--log", required=True)
    arguments = parser.parse_args()

    logs = importlib.import_module(LOG_MODULES[arguments.service])
    flush = logs.install(
        arguments.log,
        {
            "service.name": arguments.service,
            "service.version": arguments.release,
            "service.instance.id": arguments.instance,
            "deployment.environment.name": "production",
        },
    )
    models.connect(arguments.database)
    application = importlib.import_module(f"shop.{arguments.service}").app
    log = logging.getLogger("shop.serve")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("%s %s starting", arguments.service, arguments.release)
    try:
        waitress.serve(logs.traced(application), host="127.0.0.1", port=arguments.port, threads=12)
    finally:
        log.info("%s %s stopped", arguments.service, arguments.release)
        flush()


if __name__ == "__main__":
    main()
