"""Quiet, offline, and without a trace of the person's own settings or on their disk."""

import atexit
import os
import shutil
import tempfile

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["MPLBACKEND"] = "Agg"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="rnade-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import torch  # noqa: E402

torch.set_num_threads(1)  # small sizes: a second thread costs more than it brings
