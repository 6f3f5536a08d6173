"""Names of topics: what a broker accepts, checked wherever a topic is declared."""

from __future__ import annotations

import re
from typing import Final

from eventstore.errors import ConfigurationError

TOPIC_NAMES: Final = "topics have 1 to 249 letters, digits, '.', '_' or '-'"

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_UNUSABLE: Final = frozenset({".", ".."})


def is_topic_name(name: str) -> bool:
    """Whether a topic can have this name."""
    return bool(_TOPIC.fullmatch(name)) and name not in _UNUSABLE


def require_topic_name(name: str | None, whose: str) -> None:
    """Check a topic's name where it is declared, if there is one.

    Args:
        name: The whole name.
        whose: What the topic is for.

    Raises:
        ConfigurationError: No topic can have it.
    """
    if name is not None and not is_topic_name(name):
        raise ConfigurationError(f"{whose} cannot go to {name!r}: {TOPIC_NAMES}")
