"""What a projection does with an event that it cannot apply: tries again, and then stops, or parks its stream.

applied in a batch --fails--> the batch is divided until the event stands alone
alone: tried again, more and more slowly, `attempts` times in all; a process that dies at it has tried, too
then   Stop: the worker ends with the error, right before the event
       Park: the stream is held back from the event on, in the transaction that moves on; all others go on
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from eventstore.errors import ConfigurationError
from eventstore.lifecycle import Backoff


@dataclass(frozen=True, slots=True)
class _Attempts:
    attempts: int
    first: float = 0.1
    longest: float = 30.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.attempts < 1:
            raise ConfigurationError(f"{name}(attempts=...) must be at least 1, not {self.attempts}")
        if not 0 < self.first <= self.longest:
            raise ConfigurationError(f"{name} waits `first` seconds, then longer up to `longest`: 0 < first <= longest")

    def backoff(self) -> Backoff:
        """Return the waits between the attempts."""
        return Backoff(first=self.first, most=self.longest)


@dataclass(frozen=True, slots=True)
class Stop(_Attempts):
    """Try an event again, and if that does not help, stop the worker right before it.

    Attributes:
        attempts: How often an event is tried in all, the first time included.
        first: The wait before the second attempt, in seconds; each further one is twice as long.
        longest: The longest wait.

    Raises:
        ConfigurationError: A number makes no sense.
    """

    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Park(_Attempts):
    """Try an event again, and if that does not help, hold back the rest of its stream; all other streams go on.

    Attributes:
        attempts: How often an event is tried in all, the first time included.
        first: The wait before the second attempt, in seconds; each further one is twice as long.
        longest: The longest wait.
        limit: How many streams may be held back; one more stops the worker, for then the handler is broken.

    Raises:
        ConfigurationError: A number makes no sense.
    """

    attempts: int = 5
    limit: int = 100

    def __post_init__(self) -> None:
        # Not super(): with slots, the class that it would look up is not this one any more.
        _Attempts.__post_init__(self)
        if self.limit < 1:
            raise ConfigurationError(f"Park(limit=...) must be at least 1, not {self.limit}")


FailurePolicy: TypeAlias = Stop | Park
