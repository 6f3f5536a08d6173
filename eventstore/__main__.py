"""`python -m eventstore` is the `eventstore` command."""

from eventstore.cli import main

main()
