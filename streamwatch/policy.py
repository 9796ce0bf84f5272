"""Policies: what a service's rollouts are judged by, as data."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Probability = Annotated[float, Meta(gt=0, lt=1)]
Seconds = Annotated[int, Meta(ge=0)]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds for one service. Every field has a default that is meant to be kept.

    Attributes:
        false_halt_probability: chance that a rollout of a harmless release is ever halted, however
            often it is looked at.
        tolerated_ratio: error-rate ratio, candidate over baseline, that is still accepted.
        unacceptable_ratio: `Successful` means: the ratio is shown to be below this.
        miss_probability: chance that a release at `unacceptable_ratio` is called `Successful`.
        negligible_error_rate: errors per unit of exposure below which a release passes without a
            comparison, once shown (a service whose two releases make no errors at all).
        exposure: what a rate is per: log records, or records that stand for a request; `auto`
            takes requests where both releases have them, since a release that logs more is not
            a release that serves more.
        warm_up_seconds: an instance younger than this is left out of the comparison.
        window_seconds: event time that one step of evidence covers.
        window_cap: greatest evidence, in nats, that one window may add: what one burst can prove.
        raw_window_cap: the same where clients are not known, so that one client's retries count.
        arm_noise: how much two healthy arms differ for reasons other than the release
            (variance of the log rate ratio over a window).
        crash_bypass: halt at once when at least half of the candidate's last ten seconds failed.
        dry_run: say what would be done, and do nothing: signals carry `dry_run: true`.
        inconclusive: what a deployment tool is advised to do meanwhile.
        idle_close_seconds: a rollout ends when one of its releases is silent for this long.
        max_rollout_seconds: a rollout ends at this age.
    """

    false_halt_probability: Probability = 0.001
    tolerated_ratio: Annotated[float, Meta(ge=1, le=100)] = 1.25
    unacceptable_ratio: Annotated[float, Meta(gt=1, le=1000)] = 2.0
    miss_probability: Probability = 0.05
    negligible_error_rate: Probability = 0.001
    exposure: Literal["auto", "records", "requests"] = "auto"
    warm_up_seconds: Seconds = 45
    window_seconds: Annotated[int, Meta(ge=1, le=600)] = 10
    window_cap: Annotated[float, Meta(gt=0)] = 6.0
    raw_window_cap: Annotated[float, Meta(gt=0)] = 2.0
    arm_noise: Annotated[float, Meta(ge=0)] = 0.2
    crash_bypass: bool = True
    dry_run: bool = False
    inconclusive: Literal["hold", "go"] = "hold"
    idle_close_seconds: Annotated[int, Meta(ge=10)] = 900
    max_rollout_seconds: Annotated[int, Meta(ge=60)] = 86_400


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes to the policy of the services that match both patterns (`*` and `?` as in a shell).

    Attributes:
        set: policy fields and their new values.
        service: pattern on `service.name`.
        environment: pattern on `deployment.environment.name`.
    """

    set: dict[str, bool | int | float | str]
    service: str = "*"
    environment: str = "*"


class Policies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A default policy and overrides; of several that match, the later wins, field by field."""

    default: Policy = Policy()
    overrides: tuple[Override, ...] = ()

    def of(self, environment: str, service: str) -> Policy:
        """The policy in force for one service.

        Raises:
            msgspec.ValidationError: an override names an unknown field or a value out of range.
        """
        fields = msgspec.to_builtins(self.default)
        for override in self.overrides:
            if fnmatchcase(service, override.service) and fnmatchcase(
                environment, override.environment
            ):
                fields |= override.set
        return msgspec.convert(fields, Policy)
