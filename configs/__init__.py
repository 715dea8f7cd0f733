"""The shipped experiments: ``base.yaml`` is part of every run. ``fit`` runs ``motion.yaml`` if no
data are given."""
