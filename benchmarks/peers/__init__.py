"""Other libraries, each in an environment of its own, used as their documentation tells users to.

Everything in here but `environments` and `client` runs in the peers' environments, on the standard library and the one
peer: so these modules import neither the framework nor each other's libraries.
"""
