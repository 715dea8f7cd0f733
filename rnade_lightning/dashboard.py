"""A W&B workspace for this project's runs, as code: ``python -m rnade_lightning.dashboard ENTITY``.

Needs the extra ``dashboard``; only `main` needs the network.
"""

from __future__ import annotations

from typing import Any

import jsonargparse

TITLE = "RNN-RNADE"


def build(entity: str, project: str = "rnade-lightning") -> Any:
    """Return the workspace, a ``wandb_workspaces.workspaces.Workspace`` that is not saved yet.

    Args:
        entity: user or team that owns the project.
        project: name of the project.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    def lines(title: str, *keys: str, **options: Any) -> Any:
        return wr.LinePlot(title=title, x="trainer/global_step", y=list(keys), **options)

    def media(title: str, *keys: str) -> Any:
        return wr.MediaBrowser(title=title, media_keys=list(keys), num_columns=3)

    def by_name(title: str, pattern: str, **options: Any) -> Any:
        return wr.LinePlot(title=title, x="trainer/global_step", metric_regex=pattern, **options)

    kinds = ("truth", "continuation", "one_step", "free")
    sections = {
        "Likelihood": [
            lines("nats per frame, and what to beat",
                  "val/nll", "train/nll", "val/nll_copy_last", "val/nll_var"),
            by_name("log p of validation sequences", "val/log_p/.*"),
            lines("nats per frame, raw units", "val/nll_raw"),
            lines("bits per sample (sound)", "val/bits_per_sample"),
            media("over time, by feature, calibration", "likelihood/image"),
        ],
        "Does it mean anything": [
            lines("KS distance of the PIT", "val/ks"),
            lines("degenerate features", "val/n_degenerate"),
            lines("floor", "val/floor"),
        ],
        "Samples": [
            media("films", *(f"samples/{kind}/video" for kind in kinds)),
            media("players", *(f"samples/{kind}/html" for kind in kinds)),
            media("sounds", *(f"samples/{kind}/audio" for kind in kinds)),
            media("pictures", *(f"samples/{kind}/image" for kind in kinds)),
        ],
        "Gradients": [
            lines("relative error of the gradient",
                  "gradcheck/algorithm", "gradcheck/difference", log_y=True),
            by_name("norm by parameter", "grad_norm/.*", log_y=True),
            lines("share of clipped steps", "grad_norm/clipped"),
        ],
    }  # fmt: skip
    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[
            ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()
        ],
    )


def main(entity: str, project: str = "rnade-lightning") -> None:
    """Save the workspace to W&B, and print where it is.

    Args:
        entity: user or team that owns the project.
        project: name of the project.
    """
    print(build(entity, project).save().url)


if __name__ == "__main__":
    jsonargparse.auto_cli(main)
