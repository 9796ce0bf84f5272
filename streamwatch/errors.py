"""Every exception streamwatch raises, in one tree.

::

    StreamwatchError                 base of all; `exit_code` is what the command line ends with
    ├── ConfigError                  a configuration or policy key is wrong (exit 2)
    ├── UsageError                   a command was called wrongly: no such file, bad option (exit 2)
    ├── InvalidMessage               one message or record cannot be used: it becomes a dead letter
    └── InfrastructureError          something outside the process failed (exit 4)
        ├── BrokerUnreachable        no broker answers at the bootstrap address
        ├── TopicMissing             a topic that must exist does not
        ├── Fenced                   a newer process took over this one's transactional id
        └── StageFailed              a stage of the pipeline ended or stopped making progress
"""

from __future__ import annotations

from enum import StrEnum


class StreamwatchError(Exception):
    """Base of every error that streamwatch raises on purpose."""

    exit_code = 4


class ConfigError(StreamwatchError):
    """A configuration key has a wrong name, type or value.

    Args:
        key: dotted path of the key, as written in `streamwatch.yaml`.
        problem: what is wrong with it.
        fix: what to write instead.
    """

    exit_code = 2

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"config: {key}: {problem}; {fix}")
        self.key = key
        self.problem = problem
        self.fix = fix


class UsageError(StreamwatchError):
    """A command was called in a way that it cannot serve."""

    exit_code = 2


class Reason(StrEnum):
    """Why a message became a dead letter: a closed set, in wire formats and metric labels."""

    UNDECODABLE = "undecodable"
    WRONG_TYPE = "wrong_type"
    MISSING_SERVICE = "missing_service"
    MISSING_RELEASE = "missing_release"
    MISSING_TIMESTAMP = "missing_timestamp"
    ABSURD_TIMESTAMP = "absurd_timestamp"
    TOO_LARGE = "too_large"
    OVERLAPPING_OFFSETS = "overlapping_offsets"


class InvalidMessage(StreamwatchError):
    """One message, or one record in it, cannot be used.

    Args:
        reason: the closed-set reason that is counted.
        detail: one short sentence for a person; may quote the input, so it is hostile text.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InfrastructureError(StreamwatchError):
    """Something outside this process failed: a broker, a topic, a sibling process."""


class BrokerUnreachable(InfrastructureError):
    """No Kafka broker answered at the configured address."""


class TopicMissing(InfrastructureError):
    """A topic that must exist does not."""


class Fenced(InfrastructureError):
    """A newer process uses this process's transactional id; this one must end."""


class StageFailed(InfrastructureError):
    """A stage of the pipeline ended, or made no progress for too long."""
