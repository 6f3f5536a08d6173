"""What can be wrong with the way to PostgreSQL, the server, or the schema."""

from __future__ import annotations

from eventstore.errors.tree import ConfigurationError, SchemaError, UnavailableError


class NotConnectedError(UnavailableError):
    """No connection to PostgreSQL could be had; nothing was sent."""


class NotPrimaryError(UnavailableError):
    """Whoever follows the log has reached a replica: how far the log is settled, only the primary knows."""

    def __init__(self) -> None:
        super().__init__(
            "this PostgreSQL is a replica: the log is followed on the primary only; name the primary in the DSN"
        )


class MissingMigrationError(SchemaError):
    """The database's schema is absent or older than this version of the framework needs."""

    def __init__(self, schema: str, found: str | None, needed: str) -> None:
        self.schema = schema
        self.found = found
        self.needed = needed
        state = f"is at revision {found}" if found else "has not been created"
        super().__init__(f"the schema {schema!r} {state}, this version needs {needed}: run `eventstore migrate`")


class SchemaTooNewError(SchemaError):
    """The database's schema was migrated by a newer version of the framework than this one."""

    def __init__(self, schema: str, found: str, needed: str) -> None:
        self.schema = schema
        self.found = found
        self.needed = needed
        super().__init__(
            f"the schema {schema!r} is at revision {found}, which this version (at {needed}) does not know: upgrade "
            "this service with `pip install --upgrade pg-eventstore`"
        )


class UnsupportedServerError(SchemaError):
    """The PostgreSQL server is older than the framework supports."""

    def __init__(self, found: str, needed: str) -> None:
        self.found = found
        self.needed = needed
        super().__init__(f"the server is PostgreSQL {found}, this framework needs {needed} or newer: upgrade it")


class InvalidDsnError(ConfigurationError):
    """The database address cannot be parsed. The address itself is never shown: it may hold a password."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"invalid DSN: {problem}; write it as postgresql://user:password@host:5432/database")


class UnsafeServerError(ConfigurationError):
    """PostgreSQL runs with a setting under which an acknowledged append can be lost."""

    def __init__(self, setting: str, consequence: str) -> None:
        self.setting = setting
        super().__init__(
            f"PostgreSQL runs with {setting}=off: {consequence}; set {setting}=on, or, where events may be lost (in "
            "tests), open the store with ?eventstore.durability_check=off at the end of the DSN"
        )


class WrongEventLoopError(ConfigurationError):
    """A store belongs to the event loop it was opened in; open another one in this loop."""

    def __init__(self) -> None:
        super().__init__("this store was opened in another event loop: open one in each loop that uses it")


class ClosedError(ConfigurationError):
    """The store or worker is not open: it was closed, or its `async with` has not been entered."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the {what} is not open: use it inside its `async with` block")
