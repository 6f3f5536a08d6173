"""What the choices of the schema cost and save: each is measured against what else could have been chosen."""
