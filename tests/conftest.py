"""Quiet, offline, and without a trace of the person's own settings."""

import os

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["MPLBACKEND"] = "Agg"

import torch

torch.set_num_threads(1)  # small sizes: a second thread costs more than it brings
