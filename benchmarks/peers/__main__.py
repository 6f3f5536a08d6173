"""Serves a peer: `python -m benchmarks.peers MODULE DSN CONNECTIONS`."""

from benchmarks.peers.serving import main

main()
