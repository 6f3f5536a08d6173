"""The benchmark suite: `make bench`. What it measures, beside what, and what it found: docs/benchmarks.md."""
