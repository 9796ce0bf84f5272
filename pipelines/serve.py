"""Wires the serve stage: verdicts and signals topics → feed → HTTP.

::

    <prefix>.verdicts (compacted) ─┐
                                   ├─► Feed (View: Board, Halts) ─► make_app ─► HTTP
    <prefix>.signals ──────────────┘

Serve keeps nothing of its own: everything is read from the topics again at each start.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING

from aiohttp import web

from streamwatch.api.app import make_app
from streamwatch.api.consumer import open_consumer
from streamwatch.api.feed import Feed
from streamwatch.errors import ConfigError, StageFailed
from streamwatch.kafka import clients

if TYPE_CHECKING:
    from streamwatch.config import Config

log = logging.getLogger(__name__)

#: Requests in flight get this long at the end; with the consumer's stop, less than ten seconds.
STOP_SECONDS = 3.0


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        BrokerUnreachable: no broker answers at start-up.
        TopicMissing: the verdicts or signals topic does not exist.
        ConfigError: the address cannot be listened on, or a secret's file cannot be read.
        StageFailed: the feed ended, which it never should.
    """
    verdicts, signals = config.topics.name("verdicts"), config.topics.name("signals")
    clients.require_topics(config, (verdicts, signals))

    # The one repeats itself several times a second while a broker is away, and the feed says it
    # once; the other writes a traceback for every malformed request that anyone sends.
    for name in ("aiokafka", "aiohttp.server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    feed = Feed(
        verdicts,
        signals,
        config.serve.fresh_seconds,
        lambda: open_consumer(config.kafka, (verdicts, signals)),
    )
    asyncio.run(_serve(config, feed))


async def _serve(config: Config, feed: Feed) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(make_app(feed), access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    following = asyncio.create_task(feed.run(), name="feed")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await _listen(runner, config)
        await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            raise StageFailed(f"serve: the feed ended: {following.exception()!r}")
    finally:
        following.cancel()
        stopping.cancel()
        await asyncio.gather(following, stopping, return_exceptions=True)
        await runner.cleanup()
    log.info("serve has stopped")


async def _listen(runner: web.AppRunner, config: Config) -> None:
    host, port = config.serve.host, config.serve.port
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigError(
            "serve.port", f"cannot listen on {host}:{port}: {error.strerror}", "choose another"
        ) from None
    for address in runner.addresses:
        url = f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}"
        log.info("serving on %s", url)
        print(f"serving on {url}", file=sys.stderr, flush=True)  # noqa: T201 -- narration for people
