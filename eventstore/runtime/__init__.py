"""What ties it together: the application, and the workers it runs."""

from eventstore.runtime.application import Application

__all__ = ["Application"]
