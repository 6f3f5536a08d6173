"""For web services: metadata that follows a request into the events it causes."""

from eventstore.web.middleware import MetadataMiddleware

__all__ = ["MetadataMiddleware"]
