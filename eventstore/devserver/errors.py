"""The one error of this package."""

from eventstore.errors import ConfigurationError


class DevServerError(ConfigurationError):
    """A development server could not be had; the message says what happened and what to do about it."""
