"""The bounds and the rule of the writer that settings say."""

from little_bell.config import Config
from little_bell.store.memory import Limits


def limits(config: Config) -> Limits:
    """What holds for hits of today, by the server, and for those of the past, by an import."""
    return Limits(
        int(config.instant_seconds * 1000),
        config.max_hits_per_email_hour,
        config.max_new_agents_per_hour,
        config.max_new_links_per_hour,
    )
