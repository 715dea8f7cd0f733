"""A root that is modelled is told how far it is from a path; controls are told in many ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bodies import tumble

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.bvh import write_bvh
from rnade_lightning.datamodules.motion.paths import CHANGES, walked


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tumbles") / "0.bvh"
    write_bvh(path, tumble())
    return path


@pytest.fixture(scope="module")
def free(file: Path) -> MocapDataModule:
    return data_of(file)


def data_of(file: Path, **options: object) -> MocapDataModule:
    data = MocapDataModule(str(file.parent), window=16, **options)  # type: ignore[arg-type]
    data.setup()
    return data


def test_a_motion_follows_its_own_path_and_no_other(free: MocapDataModule, file: Path) -> None:
    way = free.way(str(file), 60, 150)
    frames = free.score_input(file).frames[:60]
    places = free.places(frames)[:, 0, ::2]
    np.testing.assert_allclose(way.path, places, atol=1e-3)
    other = frames.flip(0)
    before = way.begun(2)
    for start in range(0, 60, 15):  # stretch by stretch, as it is drawn
        both = torch.stack((frames[start : start + 15], other[start : start + 15]))
        now, later, before = way.fit(both, start, before)
        assert now[0] == pytest.approx(0, abs=1e-6)
        assert now[1] < -0.1
        assert not later.any()  # before it has learnt
        np.testing.assert_allclose(before[0, 1:3], places[start + 14], atol=1e-3)


def test_a_path_is_drawn_where_a_motion_begins_to_follow_it(
    free: MocapDataModule, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = free.score_input(file).frames[:60]
    raw = np.asarray(free.score_input(file).raw)
    at = [free._fitted()[1].feature_names.index(name) for name in CHANGES]
    way = free.way_along(raw[20:60, at])
    places = free.places(frames)[:, 0, ::2]
    np.testing.assert_allclose(way.placed(frames), places[20:], atol=1e-3)
    shown: list[object] = []
    monkeypatch.setattr(
        type(free), "write", lambda self, raw, stem: shown.append(self.wanted) or []
    )
    way.render(frames, tmp_path / "a")
    free.render(frames, tmp_path / "b")
    np.testing.assert_allclose(shown[0], way.placed(frames))  # type: ignore[arg-type]
    assert shown[1] is None


def moved(free: MocapDataModule, changes: np.ndarray) -> torch.Tensor:
    """Return standardised frames ``(N, T, D)`` whose root has these changes ``(N, T, 3)``."""
    raw = np.asarray(free.score_input(next(iter(free._paths.values()))).raw)[:1]
    raw = np.tile(raw, (*changes.shape[:2], 1))
    raw[..., [free._fitted()[1].feature_names.index(name) for name in CHANGES]] = changes
    return torch.stack([free.standardise(x) for x in raw])


def test_a_run_up_leads_to_the_beginning_of_a_path(free: MocapDataModule) -> None:
    way = free.way("circle", 300, 150).with_run_up()
    n = way.n_before
    assert n == pytest.approx(2 * free.frame_rate, abs=way.n_stretch)
    assert n % way.n_stretch == 0
    (first,) = way.begun(1)
    heading, step = first[0], np.linalg.norm(way.path[1] - way.path[0])
    frames = moved(free, np.tile([0, 0, step], (1, n, 1)))
    now, _, known = way.fit(frames, -n, first[None])
    assert now[0] == pytest.approx(0, abs=1e-2)
    np.testing.assert_allclose(known[0, :3], [0, *way.path[0]])  # it starts anew
    assert 0 < heading < 0.1
    np.testing.assert_allclose(np.linalg.norm(first[1:3]), (n + 1) * step, rtol=1e-2)


def test_who_is_late_is_led_ahead_and_who_is_aside_is_led_back(free: MocapDataModule) -> None:
    rng, way = np.random.default_rng(0), free.way("line", 300, 150)
    speed = np.linalg.norm(way.path[1] - way.path[0])
    noise = rng.normal(size=(64, way.n_learnt, 3))
    changes = np.array([0.0, 0.0, speed]) + np.array([0.05, 0.1 * speed, 0.2 * speed]) * noise
    way = way.learnt(moved(free, changes), torch.from_numpy(noise))
    n, error = way.n_stretch, way._error
    roots = way.begun(4)
    roots[:, 3:] = 0, 0, speed
    roots[1, 2] -= 3 * error  # behind
    roots[2, 1] -= 3 * error  # to the right
    roots[3, 0] = -0.5  # looks to the right
    slopes = way.slopes(1, roots)
    np.testing.assert_allclose(slopes[0], 0, atol=0.1)
    assert slopes[1, 2] > 0.2
    assert slopes[2, 1] > 0.1
    assert slopes[3, 0] > 0.1
    frames = moved(free, np.tile([0.0, 0.0, speed], (1, n, 1)))
    roots[0, 1:3] = way.path[149]
    _, promised, known = way.fit(frames, 150, roots[:1])
    assert promised[0] > -0.5
    np.testing.assert_allclose(known[0, 3:], [0, 0, speed], atol=1e-4)
    assert way.fit(frames, 300 - n, roots[:1])[1] == 0  # there is nothing behind the end


def test_a_path_has_many_forms(free: MocapDataModule, file: Path, tmp_path: Path) -> None:
    rate, table = free.frame_rate, tmp_path / "path.csv"
    table.write_text("t,x,z\n0,0,0\n1,0,3\n2,0,6\n")
    waypoints = free.way(str(table), None, 150).path
    table.write_text("seconds,ahead\n0,3\n2,3\n")
    np.testing.assert_allclose(free.way(str(table), None, 150).path, waypoints, atol=1e-6)
    changes = f"0,0,{3 / rate}\n" * len(waypoints)
    table.write_text(f"root.turn,root.left,root.ahead\n{changes}")
    np.testing.assert_allclose(free.way(str(table), None, 150).path, waypoints, atol=1e-6)
    given = data_of(file, control=["root.turn", "root.ahead"])
    np.testing.assert_allclose(given.controls(str(table), 9, 150), [[0, 3 / rate]] * 9, atol=1e-6)
    assert len(given.controls("stop", None, 150)) == 150


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seconds,x,y\n0,1,2\n1,2,3\n", "its columns are seconds, x, y, which do not tell"),
        ("0,1,2\n1,2,3\n", "its columns are not named, which do not tell"),
        ("x,z\n0,1\n1,2\n", "add seconds"),
        ("ahead\n0\n1\n", "add a column seconds"),
        ("seconds,x,z\n0,1,2\n1,nan,3\n", "finite"),
        ("seconds,x,z\n0,1,2\n1,a,3\n", "line 3: 'a' is not a number"),
        ("", "holds no line of numbers"),
        (None, "no such file: give circle, line, stop"),
    ],
)
def test_what_tells_no_path_is_refused(
    free: MocapDataModule, text: str | None, said: str, tmp_path: Path
) -> None:
    table = tmp_path / "path.csv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(DataError, match=said):
        free.way(str(table), None, 150)


def test_paths_beyond_the_data_or_in_other_units_are_told(
    free: MocapDataModule, tmp_path: Path
) -> None:
    table = tmp_path / "path.csv"
    table.write_text("seconds,ahead\n0,9999\n2,9999\n")
    (line,) = free.way(str(table), None, 150).beyond()
    assert line.startswith("root.ahead is ")
    assert "beyond all training frames" in line
    table.write_text("seconds,ahead\n0,0.001\n2,0.001\n")
    (line,) = free.way(str(table), None, 150).beyond()
    assert "are they in the same units" in line
    table.write_text("seconds,ahead\n0,0\n2,0\n")  # who stands still has no units
    assert free.way(str(table), None, 150).beyond() == []


def test_a_root_that_is_not_modelled_by_its_changes_follows_no_path(file: Path) -> None:
    for options in ({"representation": "raw"}, {"ignore": ["root.*"]}):
        with pytest.raises(DataError, match="and is given none: leave --control out"):
            data_of(file, **options).way("line", None, 150)


def test_walked_goes_on_where_it_stopped() -> None:
    changes = np.random.default_rng(0).normal(size=(3, 20, 3))
    heading, path = walked(changes)
    first = walked(changes[:, :8])
    rest = walked(changes[:, 8:], first[0][:, -1], first[1][:, -1])
    np.testing.assert_allclose(np.concatenate([first[0], rest[0]], 1), heading)
    np.testing.assert_allclose(np.concatenate([first[1], rest[1]], 1), path)
