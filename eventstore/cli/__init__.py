"""The command line: `eventstore --help`.

    errors      exit codes, and how errors reach people and machines
    options     what every command has: settings, application, store, output
    loading     finding the application that `module:object` names
    output      tables, columns and JSON
    running     coroutines under signals

Each other module holds the commands of one group.
"""


def main() -> None:
    """Run the command line of this process; the entry point of the `eventstore` script."""
    from eventstore.cli.app import app  # noqa: PLC0415 - whoever only imports the package need not load the commands

    app(prog_name="eventstore")
