"""`python -m eventstore.cli`, where the script is not on the path."""

from eventstore.cli import main

main()
