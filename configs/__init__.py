"""The shipped experiments: ``base.yaml`` is under every run, ``motion.yaml`` is what ``fit`` runs
where no data are named."""
