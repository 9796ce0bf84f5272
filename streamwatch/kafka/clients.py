"""How every Kafka client is set up, and what start-up asks of the brokers.

Four client libraries are in use, each with its own names for the same settings: librdkafka
(ingest), kafka-python (topics, subscriber SDK), aiokafka (serve) and Faust (detect). They are built
here from one `streamwatch.config.Kafka`, so that a credential is described once. Secrets are read
from their files at each call: a client made after a rotation uses the new ones.
"""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamwatch.errors import BrokerUnreachable, ConfigError, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamwatch.config import Config, Kafka

CLIENT_ID = "streamwatch"
_LOG = logging.getLogger(__name__)
#: One question to a broker takes no longer than this, so that a refusal is noticed early.
_ASK_SECONDS = 1.0


def librdkafka(config: Kafka) -> dict[str, object]:
    """Settings that every confluent-kafka client starts from; the caller adds its own.

    What the library has to say goes to our log instead of stderr, and only while the client is
    polled.

    Raises:
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """
    security = config.security
    settings: dict[str, object] = {
        "bootstrap.servers": ",".join(_addresses(config)),
        "client.id": CLIENT_ID,
        "security.protocol": security.protocol,
        "log.connection.close": False,
        "logger": _LOG,
        "error_cb": _log_error,
    }
    if security.protocol.startswith("SASL"):
        username, password = _credentials(config)
        settings["sasl.mechanism"] = security.sasl_mechanism
        settings["sasl.username"] = username
        settings["sasl.password"] = password
    if security.protocol.endswith("SSL"):
        _ssl_context(config)  # for its checks: librdkafka's own complaint does not name the key
        files = {
            "ssl.ca.location": security.ca_file,
            "ssl.certificate.location": security.certificate_file,
            "ssl.key.location": security.key_file or security.certificate_file,
        }
        settings |= {key: path for key, path in files.items() if path is not None}
    return settings


def kafka_python(config: Kafka) -> dict[str, object]:
    """Settings for kafka-python's clients.

    Raises:
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """
    return aiokafka(config) | {
        "bootstrap_timeout_ms": round(config.connect_timeout_seconds * 1000),
    }


def aiokafka(config: Kafka) -> dict[str, object]:
    """Settings for aiokafka's clients.

    Raises:
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """
    security = config.security
    settings: dict[str, object] = {
        "bootstrap_servers": _addresses(config),
        "client_id": CLIENT_ID,
        "security_protocol": security.protocol,
    }
    if security.protocol.startswith("SASL"):
        username, password = _credentials(config)
        settings["sasl_mechanism"] = security.sasl_mechanism
        settings["sasl_plain_username"] = username
        settings["sasl_plain_password"] = password
    if security.protocol.endswith("SSL"):
        settings["ssl_context"] = _ssl_context(config)
    return settings


def faust_broker(config: Kafka) -> tuple[list[str], Any]:
    """What a Faust app takes as `broker` and `broker_credentials`.

    Returns:
        The brokers' URLs, and a `faust.Credentials` or None for plain text.

    Raises:
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """
    # Imported here because Faust takes half a second to import and only detect uses it.
    from faust.auth import SASLCredentials, SSLCredentials  # noqa: PLC0415

    security = config.security
    urls = [f"kafka://{address}" for address in _addresses(config)]
    context = _ssl_context(config) if security.protocol.endswith("SSL") else None
    if security.protocol.startswith("SASL"):
        username, password = _credentials(config)
        return urls, SASLCredentials(
            username=username,
            password=password,
            mechanism=security.sasl_mechanism,
            ssl_context=context,
        )
    return urls, SSLCredentials(context) if context else None


class Probe:
    """Asks the brokers for their topics, quietly, until they answer.

    Args:
        config: the brokers.

    Attributes:
        reason: why the last question was not answered, as librdkafka puts it; empty at first.
        refused: whether a broker answered and refused the credentials, which waiting cannot cure.

    Raises:
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """

    def __init__(self, config: Kafka) -> None:
        self.reason = ""
        self.refused = False
        # librdkafka reports each failed connection: only the last matters, and it is raised.
        quiet = {"error_cb": self._note, "log_level": 0}
        try:
            self._admin = AdminClient(librdkafka(config) | quiet)
        except KafkaException as error:
            raise ConfigError(
                "kafka", _text(error.args[0]), "correct `bootstrap` or `security`"
            ) from None

    def ask(self, timeout_seconds: float) -> dict[str, int] | None:
        """Every topic that the credentials may see with its partitions, or None for no answer."""
        try:
            metadata = self._admin.list_topics(timeout=timeout_seconds)
        except KafkaException as error:
            self._admin.poll(0)
            if not self.reason:
                self.reason = _text(error.args[0])
            return None
        return {
            name: len(topic.partitions)
            for name, topic in metadata.topics.items()
            if topic.error is None
        }

    def _note(self, error: KafkaError) -> None:
        # librdkafka's public names of its own errors begin with an underscore.
        if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001
            self.refused = True
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self.reason = _text(error)


def topics_present(config: Kafka) -> dict[str, int]:
    """Every topic that the credentials may see, with its number of partitions.

    Blocks until a broker answers, at most `connect_timeout_seconds`.

    Raises:
        BrokerUnreachable: none answered in that time, or one refused the credentials.
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """
    begin = time.monotonic()
    deadline = begin + config.connect_timeout_seconds
    probe = Probe(config)
    while True:
        left = deadline - time.monotonic()
        present = probe.ask(max(min(left, _ASK_SECONDS), 0.001))
        if present is not None:
            return present
        if probe.refused or time.monotonic() >= deadline:
            break
    waited = time.monotonic() - begin
    problem = "refuses the credentials" if probe.refused else "does not answer"
    raise BrokerUnreachable(
        f"Kafka at {config.bootstrap} {problem} (waited {waited:.1f} s): {probe.reason}"
    )


def wait_for_broker(config: Kafka) -> None:
    """Return once a broker answers; blocks at most `connect_timeout_seconds`.

    Raises:
        BrokerUnreachable: none answered in that time, or one refused the credentials.
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """
    topics_present(config)


def require_topics(config: Config, names: Iterable[str]) -> dict[str, int]:
    """The number of partitions of each named topic; blocks like `wait_for_broker`.

    Raises:
        TopicMissing: one or more do not exist, or the credentials may not describe them.
        BrokerUnreachable: no broker answered in time, or one refused the credentials.
        ConfigError: no address, or a secret or certificate file that cannot be used.
    """
    present = topics_present(config.kafka)
    wanted = list(names)
    missing = [name for name in wanted if name not in present]
    if missing:
        logs = {source.topic for source in config.sources}
        fixes = []
        if not logs.issuperset(missing):
            fixes.append("run `streamwatch topics create`")
        if not logs.isdisjoint(missing):
            fixes.append("create the log topic or correct `sources`")
        raise TopicMissing(
            f"no such topic at {config.kafka.bootstrap}: {', '.join(missing)}; {'; '.join(fixes)}"
        )
    return {name: present[name] for name in wanted}


def _addresses(config: Kafka) -> list[str]:
    addresses = [part.strip() for part in config.bootstrap.split(",") if part.strip()]
    if not addresses:
        raise ConfigError("kafka.bootstrap", "is empty", "write `host:port`")
    return addresses


def _credentials(config: Kafka) -> tuple[str, str]:
    username = _secret("username_file", config.security.username_file)
    return username, _secret("password_file", config.security.password_file)


def _secret(key: str, path: str | None) -> str:
    text = _readable(key, path).rstrip("\r\n")
    if not text:
        raise ConfigError(f"kafka.security.{key}", f"{path} is empty", "write the secret into it")
    return text


def _readable(key: str, path: str | None) -> str:
    if path is None:
        raise ConfigError(f"kafka.security.{key}", "is missing", "name a file")
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        # The decoder's own words would quote the secret.
        problem = f"{path} is not UTF-8 text"
    except OSError as error:
        problem = f"cannot read {path}: {error.strerror}"
    raise ConfigError(f"kafka.security.{key}", problem, "name a readable file")


def _ssl_context(config: Kafka) -> ssl.SSLContext:
    security = config.security
    context = ssl.create_default_context()
    if security.ca_file is not None:
        text = _readable("ca_file", security.ca_file)
        try:
            context = ssl.create_default_context(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            raise _bad_pem("ca_file", security.ca_file, error) from None
    if security.certificate_file is not None:
        _readable("certificate_file", security.certificate_file)
        if security.key_file is not None:
            _readable("key_file", security.key_file)
        try:
            # A password callback, so that an encrypted key is an error and not a question.
            context.load_cert_chain(
                security.certificate_file, security.key_file, password=lambda: ""
            )
        except (ssl.SSLError, ValueError) as error:
            raise _bad_pem("certificate_file", security.certificate_file, error) from None
    elif security.key_file is not None:
        raise ConfigError(
            "kafka.security.certificate_file", "is missing", "a key_file needs its certificate"
        )
    return context


def _bad_pem(key: str, path: str, error: Exception) -> ConfigError:
    problem = f"{path} cannot be used: {getattr(error, 'reason', None) or error}"
    return ConfigError(f"kafka.security.{key}", problem, "write PEM that belongs together")


def _text(error: KafkaError) -> str:
    return " ".join(str(error.str()).split())


def _log_error(error: KafkaError) -> None:
    _LOG.warning("%s", _text(error))
