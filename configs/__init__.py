"""The shipped experiments; ``base.yaml`` is what ``fit`` runs with no arguments."""
