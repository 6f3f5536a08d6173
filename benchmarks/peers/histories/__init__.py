"""The libraries before the history checker: one workload, played by each of them, and judged as our own log is.

`process`, `playing` and the modules named as libraries run in the libraries' environments, on the standard library and
the one library; `judging` and `__main__` run in the project's.
"""
