"""Which decoder reads which source topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamwatch.errors import ConfigError
from streamwatch.formats.json import JsonDecoder
from streamwatch.formats.otlp_json import OtlpJsonDecoder

if TYPE_CHECKING:
    from streamwatch.config import SourceTopic
    from streamwatch.formats import Decoder


def decoder_for(source: SourceTopic) -> Decoder:
    """A new decoder for the messages of one topic; not to be shared between threads.

    Raises:
        ConfigError: the topic's field mapping cannot be used.
    """
    if source.format == "otlp_json":
        return OtlpJsonDecoder()
    try:
        return JsonDecoder(source.mapping)
    except ValueError as error:
        raise ConfigError(
            f"sources[{source.topic}].mapping",
            f"a path cannot be used: {error}",
            "name fields without quotes, backslashes or control characters",
        ) from None
