"""The fast paths behind `RNADE.log_prob` and `sample`: the same numbers, sooner.

`fused` is the one operation that `log_prob` calls; it hands the frames to `cpu` (compiled, over
`lanes`) or, on any other device, to `blocks` (torch operations on blocks of features). `recurrent`
runs the recurrence in time and `sampler` draws sequences, both compiled for the CPU. Nothing here
is needed to know what the model computes: that is in `rnade` and `sequence_model`, and
``backend="torch"`` runs just that.
"""
