"""Run every experiment of ``experiments.yaml``, and write the stored metrics as RESULTS.md and as
the table of README.md.

    python -m benchmarks.results                           both, from the stored metrics
    python -m benchmarks.results run TASK [NAME ..] --data PATH [--seeds 0 1 2] [--try]

``run`` trains, tests and measures from nothing; NAME is a model or an ablation of the task, all of
them if none is given. It refuses a checkout with changes; with ``--try`` it stores nothing. Run
folders stay below ``runs/results/``.

Conventions:
    As in `rows`. Ours are the rows whose name begins with RNN-RNADE or RNN-Experts. Runs say which
    files they read (see `provenance`). Rows that are ``told`` come from elsewhere.
"""

import argparse
import csv
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import control, waypoints
from benchmarks.pairs import PAIRED, Blocks, in_pairs
from benchmarks.provenance import PAGES, clean_commit
from benchmarks.rows import HERE, STORE, Metrics, experiments, run
from benchmarks.search import of_row, ranked
from benchmarks.stored import Refused, check_frames, stored
from rnade_lightning.callbacks.comparison_rows import PROCESS

TRIED = STORE / "tried"
ENDS = ("pit_low", "pit_high")
OURS = ("RNN-RNADE", "RNN-Experts")
MARK_START, MARK_END = "<!-- by python -m benchmarks.results -->", "<!-- end of it -->"


def spread(values: list[float | None], digits: int = 2) -> str:
    """Return the mean and, if there are several, the standard deviation; in powers of ten from a
    million on.

    >>> spread([1.0, 2.0, 3.0]), spread([1.0]), spread([2e25])
    ('2.00 ± 1.00', '1.00', '2e+25')
    """
    known = [v for v in values if v is not None]
    if not known:
        return ""
    mean = statistics.mean(known)
    if abs(mean) >= 1e6:
        return f"{mean:.0e}"
    text = f"{mean:.{digits}f}"
    return text if len(known) == 1 else f"{text} ± {statistics.stdev(known):.{digits}f}"


def compared(task: str, spec: Any) -> dict[str, Blocks | None]:
    """Return the blocks of the rows of a task that can be compared in pairs, by name; of baselines
    those beside the model whose `numbers_of` they are."""
    found = {name: stored(task, name) for name in spec["models"]}
    check_frames(task, found)
    blocks = {name: Blocks.of(runs) for name, runs in found.items() if runs}
    for runs in reversed(found.values()):
        blocks |= {name: Blocks.of(runs, name) for r in runs[:1] for name in r["baselines"]}
    if spec["columns"][0][0] == "bits_per_sample":
        n = next((of[0]["features"] for of in found.values() if of), 1)
        blocks = {name: b and b.in_bits(n) for name, b in blocks.items()}
    return blocks


def is_higher(spec: Any) -> bool:
    """Return whether the first figure of a task is better where it is higher."""
    return bool(spec["columns"][0][0] == "log_prob")


def numbers_of(task: str, spec: Any) -> dict[str, list[dict[str, float | None]]]:
    """Return the figures of the test part by row, a list over seeds: of the models, of the
    baselines beside the last model that has them, so that they are those of the first, and of those
    that are told."""
    runs = {name: stored(task, name) for name in spec["models"]}
    rows = {name: [r["test"] for r in of] for name, of in runs.items() if of}
    for of in reversed(runs.values()):
        rows |= {name: [numbers] for r in of[:1] for name, numbers in r["baselines"].items()}
    rows |= {name: [numbers] for name, numbers in spec.get("told", {}).items()}
    first = spec["columns"][0][0]
    return {n: of for n, of in rows.items() if n in runs or math.isfinite(mean_of(of, first))}


def table_of(task: str, spec: Any) -> list[str]:
    """Return the models of a task and their baselines, best first."""
    columns = [(key, heading, *(digits or [2])) for key, heading, *digits in spec["columns"]]
    found = {name: stored(task, name) for name in spec["models"]}
    sound = any("spectral_distance_db" in r["free"] for runs in found.values() for r in runs)
    higher = is_higher(spec)
    blocks = compared(task, spec)
    first = next((name for name, of in blocks.items() if of is not None), "")
    pairs, leader = in_pairs(blocks, columns[0][2], higher)
    paired = columns[0][0] in PAIRED and any(any(cells) for cells in pairs.values())
    rows = []
    for name, of in numbers_of(task, spec).items():
        runs = found.get(name, [])
        cells = [f"**{name}**" if name == leader and paired else name]
        cells[0] += " (told)" * (name in spec.get("told", {}))
        cells += [spread([numbers.get(key) for numbers in of], n) for key, _, n in columns]
        cells += pairs.get(name, ["", ""]) * paired
        cells.append(spread([r["free"].get("seconds") for r in runs], 0))
        spectra = [r["free"].get("spectral_distance_db") for r in runs]
        cells += [spread(spectra, 1)] * sound + [str(len(runs) or "")]
        rows.append((mean_of(of, columns[0][0]), cells))
    better = 1 if higher else -1
    rows.sort(key=lambda row: (math.isfinite(row[0]), better * row[0]), reverse=True)
    head = ["", *(heading for _, heading, _ in columns)]
    head += ["error", f"above {first}"] * paired
    return _markdown([*head, "free, s", *["spectrum, dB"] * sound, "seeds"], [r for _, r in rows])


def mean_of(of: list[dict[str, float | None]], key: str) -> float:
    """Return the mean of a figure over seeds; nan without any."""
    known = [v for numbers in of if (v := numbers.get(key)) is not None]
    return statistics.mean(known) if known else math.nan


def in_a_minute() -> list[str]:
    """Return the first table of the page: of every task ours, which is the first of its rows, the
    best other, and which is won."""
    rows = []
    for task, spec in experiments().items():
        key, heading, digits = [*spec["columns"][0], 2][:3]
        found = {name: of for name, of in numbers_of(task, spec).items() if name != PROCESS}
        higher = is_higher(spec)

        def best(
            ours: bool,
            key: str = key,
            of: Any = found,
            higher: bool = higher,
            models: Any = spec["models"],
        ) -> tuple[str, float]:
            known = {n: mean_of(v, key) for n, v in of.items() if n.startswith(OURS) == ours}
            known = {n: v for n, v in known.items() if math.isfinite(v)}
            if not known:
                return "", math.nan
            if ours and (first := next((n for n in models if n in known), "")):
                return first, known[first]
            return (max if higher else min)(known.items(), key=lambda item: item[1])

        (name, own), (rival, other) = best(True), best(False)
        blocks, difference, won = compared(task, spec), "", ""
        pair = blocks.get(name), blocks.get(rival)
        if pair[0] is not None and pair[1] is not None and key in PAIRED:
            above, error = pair[0].above(pair[1])
            difference = f"{above:.{digits}f} ± {error:.{digits}f}"
            better = above if higher else -above
            won = "yes" if better > 2 * error else "no" if better < -2 * error else "neither"
        elif name and rival:
            difference = f"{own - other:.{digits}f}"
            won = f"{'yes' if (own > other) == higher else 'no'}, without an error"
        cells = [f"[{spec['title']}](#{anchor(spec['title'])})", heading]
        cells.append(f"{own:.{digits}f}" if name else "not run")
        cells += [f"{other:.{digits}f}, {rival}" if rival else "", difference, won]
        for more in ("error_of_samples", "error_of_mean"):
            pair_of = mean_of(found.get(name, []), more), best(False, more, found, False)[1]
            shown = more in {column[0] for column in spec["columns"]} and more != key
            cells.append(" / ".join(f"{v:.2f}" for v in pair_of) if shown and name else "")
        rows.append(cells)
    head = ["task", "figure", "ours", "best other", "difference", "won",
            "error of samples, ours / best other", "of mean"]  # fmt: skip
    return _markdown(head, rows)


def not_won() -> list[str]:
    """Return what ours does not reach, a line a task."""
    return [
        f"- [{spec['title']}](#{anchor(spec['title'])}): {spec['not_won'].strip()}"
        for spec in experiments().values()
        if "not_won" in spec
    ]


def anchor(title: str) -> str:
    """Return the address of a heading.

    >>> anchor("MOCAP.mat, without leaks")
    'mocapmat-without-leaks'
    """
    return "".join(c for c in title.lower() if c.isalnum() or c in " -").replace(" ", "-")


def details_of(task: str, spec: Any) -> list[str]:
    """Return what the rows of a task cost, what they were made of, and how far to trust them."""
    found = {name: of for name in spec["models"] if (of := stored(task, name))}
    ends = sorted(-statistics.mean(v) for of in found.values() if (v := _known_nll(of)))
    second = ends[-2] if len(ends) > 1 else math.inf
    rows = []
    for name, of in found.items():
        density = [r.get("density", {}) for r in of]
        reached = [next((at for at, nll in r.get("curve", []) if -nll >= second), None) for r in of]
        trials = of_row(task, name)
        rows.append([
            name,
            ", ".join(sorted({r["code"][:7] if r["code"] else "none" for r in of})),
            spread([d.get("n_degenerate") for d in density], 0),
            spread([d.get("floor") for d in density][:1], 3),
            spread([d.get("ks") for d in density], 3),
            " / ".join(spread([100 * d[key] for d in density], 1) for key in ENDS
                       if all(key in d for d in density)),
            f"{of[0]['parameters']:,}",
            f"{of[0]['updates']:,}",
            spread([-v for v in _known_nll(of)]),
            spread(reached, 0) if all(at is not None for at in reached) else "",
            spread([r["seconds"] / 60 for r in of], 1),
            spread([r.get("peak_mib") for r in of], 0),
            f"{sum(trial.seconds for trial in trials) / 60:.1f}" if trials else "",
        ])  # fmt: skip
    head = ["", "commit", "degenerate", "floor", "KS", "PIT ends, %", "parameters", "updates",
            "validation log p", "to the runner-up's, s", "minutes", "peak, MiB",
            "search, min"]  # fmt: skip
    summary = ["", "<details>", "<summary>commits, calibration and costs</summary>", ""]
    return [*summary, *_markdown(head, rows), "", "</details>"] if rows else []


def _known_nll(runs: list[Metrics]) -> list[float]:
    return [v for r in runs for v in r["val_nll"] if v is not None]


def figures_of(task: str, spec: Any) -> list[str]:
    """Return the figures of long samples of the models of a task, beside held-out data."""
    lines = []
    for name in spec["models"]:
        found = [r for r in stored(task, name) if "figures" in r]
        if not found:
            continue
        sound = "spectral_distance_db" in found[0].get("free", {})
        length, page = ("10 s", "audio") if sound else ("a minute", "motion")
        runs = [r["figures"] for r in found]
        rows = [
            [figure, *(spread([r[s][figure] for r in runs], 3) for s in runs[0])]
            for figure in next(iter(runs[0].values()))
        ]
        link = f"[what they are](docs/{page}.md#figures-of-samples)"
        lines += ["", f"Samples of {length} by {name} ({link}):", ""]
        lines += _markdown(["", *runs[0]], rows)
    return lines


def ablations_of(task: str, spec: Any) -> list[str]:
    """Return the validation likelihood of the first model with one thing changed, in pairs."""
    found = [r for name in spec.get("ablations") or {} for r in stored(task, name)]
    shipped = [r for r in stored(task, next(iter(spec["models"]))) if "val_blocks" in r][:1]
    if not found or not shipped:
        return []
    check_frames(task, {"the model as shipped": shipped, **{r["name"]: [r] for r in found}},
                 "val_blocks")  # fmt: skip
    rows = [["as shipped", "", f"{-shipped[0]['val_nll'][0]:.2f}", ""]]
    for r in found:
        above, error = Blocks.of_validation(r).above(Blocks.of_validation(shipped[0]))
        pair = f"{above:.2f}" + ("" if math.isnan(error) else f" ± {error:.2f}")
        options = spec["ablations"][r["name"]]["options"]
        rows.append([r["name"], f"`{options}`", f"{-r['val_nll'][0]:.2f}", pair])
    return ["", "One thing changed, seed 0, log p of the **validation** part, which chose the "
            "options, and how far it is above the model as shipped on the same frames:", "",
            *_markdown(["", "options", "log p", "above as shipped"], rows)]  # fmt: skip


def searched_of(task: str, spec: Any) -> list[str]:
    """Return the best trials of the searches of a task, and what they took."""
    lines = []
    for name in spec.get("search", {}).get("rows", {}):
        trials = of_row(task, name)
        if not trials:
            continue
        rungs = sorted({trial.epochs for trial in trials}, reverse=True)
        minutes = sum(trial.seconds for trial in trials) / 60
        best = [trial for epochs in rungs for trial in ranked(trials, epochs)]
        rows = [
            [f"`{t.options}`" if t.options else "as it was", str(t.epochs),
             "failed" if t.val_nll is None else f"{-t.val_nll:.2f}", f"{t.seconds:.0f}"]
            for t in best
        ]  # fmt: skip
        commits = ", ".join(sorted({trial.commit[:7] for trial in trials}))
        summary = f"search of {name}: {len(trials)} trials, {minutes:.1f} minutes, {commits}"
        lines += ["", "<details>", f"<summary>{summary}</summary>", ""]
        lines += _markdown(["options", "epochs", "validation log p", "seconds"], rows)
        lines += ["", "</details>"]
    return lines


def tried_of(task: str) -> list[str]:
    """Return every configuration tried while options were chosen, on the validation part."""
    rows = []
    for path in sorted(TRIED.glob("*.csv")):
        with open(path, newline="") as file:
            rows += [row for row in csv.DictReader(file) if row["task"] == task]
    if not rows:
        return []
    keys = ("model", "options", "updates", "seconds", "val_nll", "note")
    lines = _markdown(list(keys), [[row[k].replace("|", "/") for k in keys] for row in rows])
    summary = f"{len(rows)} configurations tried, chosen on the validation part"
    return ["", "<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"]


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    align = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (head, align, *rows)]


def write_results() -> str:
    """Return the text of RESULTS.md."""
    head, rest = (HERE / "results.md.in").read_text().split("TABLE\n")
    before, after = rest.split("NOT WON\n")
    lines = [*head.splitlines(), *in_a_minute(), *before.splitlines(), *not_won()]
    lines += after.splitlines()
    for task, spec in experiments().items():
        lines += ["", f"## {spec['title']}", "", *spec["about"].strip().splitlines(), ""]
        lines += [*table_of(task, spec), "", *spec.get("remarks", "").strip().splitlines()]
        lines += ["", f"**Test part.** {spec['looked'].strip()}"]
        lines += [*figures_of(task, spec), *ablations_of(task, spec), *details_of(task, spec)]
        lines += [*searched_of(task, spec), *tried_of(task)]
        firsts = [r for name in spec["models"] for r in stored(task, name)[:1]]
        commands = [command for run in firsts for command in run["commands"]]
        if commands:
            lines += ["", "<details>", "<summary>commands</summary>", "", "```", *commands, "```",
                      "", "</details>"]  # fmt: skip
    return "\n".join([*lines, *control.page(), *waypoints.page()]) + "\n"


def with_results(readme: str) -> str:
    """Return the text of the README with the first table of the page between its marks."""
    before, _, rest = readme.partition(MARK_START)
    _, end, after = rest.partition(MARK_END)
    if not end:
        raise ValueError(f"README.md has no {MARK_START} .. {MARK_END}: put them back")
    table = [line.replace("](#", "](RESULTS.md#") for line in in_a_minute()]
    return "\n".join([before + MARK_START, *table, end + after])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    rerun = commands.add_parser("run", help="run models or ablations of a task from nothing")
    rerun.add_argument("task", choices=list(experiments()))
    rerun.add_argument("names", nargs="*", help="models or ablations; all if none is given")
    rerun.add_argument("--data", help="where the task's data are, if they are not simulated")
    rerun.add_argument("--try", dest="tried", action="store_true", help="store nothing")
    rerun.add_argument("--seeds", type=int, nargs="+", help="as in experiments.yaml if not given")
    args = parser.parse_args()
    if args.command == "run":
        os.environ.setdefault("WANDB_MODE", "offline")
        spec = experiments()[args.task]
        known = spec["models"] | (spec.get("ablations") or {})
        if unknown := set(args.names) - set(known):
            parser.error(f"{unknown.pop()!r} is none of: {'; '.join(known)}")
        for name in args.names or known:
            for seed in args.seeds or known[name].get("seeds", [0]):
                print(f"\n== {args.task}: {name}, seed {seed}", flush=True)
                commit = None if args.tried else clean_commit()
                run(args.task, name, args.data, seed, commit)
    try:
        pages = write_results(), with_results(Path("README.md").read_text())
    except Refused as error:
        sys.exit(f"error: {error}")
    for name, text in zip(PAGES, pages, strict=True):
        Path(name).write_text(text)
        print(name)


if __name__ == "__main__":
    main()
