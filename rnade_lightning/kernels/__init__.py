"""The compiled paths behind `RNADE.log_prob` and `sample`: the same numbers, sooner.

`cpu` is the one operation that `log_prob` calls, compiled for the CPU over `lanes`; on any other
device it runs in `blocks`, torch operations on all features at once. `recurrent` runs the
recurrence in time and `sampler` draws sequences, both compiled for the CPU. Nothing here is needed
to know what the model computes: that is in `rnade` and `rnn_rnade`, and ``backend="torch"`` runs
just that.
"""
