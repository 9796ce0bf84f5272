"""streamwatch: error rates per release, judged while a rollout runs, halted when one is bad."""

__version__ = "0.1.0"
