from __future__ import annotations

import pytest

from streamwatch.config import FieldMapping, SourceTopic
from streamwatch.errors import ConfigError
from streamwatch.formats.json import JsonDecoder
from streamwatch.formats.otlp_json import OtlpJsonDecoder
from streamwatch.formats.registry import decoder_for


def test_the_format_chooses_the_decoder_and_the_mapping_reaches_it() -> None:
    assert isinstance(decoder_for(SourceTopic(topic="t", format="otlp_json")), OtlpJsonDecoder)
    decoder = decoder_for(SourceTopic(topic="t", mapping=FieldMapping(service=("app",))))
    assert isinstance(decoder, JsonDecoder)
    assert decoder.decode(b'{"app":"a"}')[0].service == "a"


def test_an_impossible_path_is_a_config_error_that_names_the_topic() -> None:
    with pytest.raises(ConfigError, match=r"sources\[logs\]\.mapping"):
        decoder_for(SourceTopic(topic="logs", mapping=FieldMapping(service=('a"b',))))
