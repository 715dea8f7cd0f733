"""Notes that the files of a motion corpus say."""

import numpy as np
import pytest

from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.motion.skeleton import neighbours
from rnade_lightning.datamodules.motion.sources import Sources, default_rate, is_interpolated


@pytest.mark.parametrize("source", [7.5, 12, 23.976, 24, 25, 29.97, 30, 40, 50, 59.94, 60, 72, 240])
def test_the_default_rate_takes_whole_frames_and_at_most_thirty(source: float) -> None:
    rate = default_rate(source)
    assert rate <= 30
    assert not is_interpolated(source, rate)
    before, _, part = neighbours(100, source, rate)
    assert not part.any()
    assert np.array_equal(before, np.arange(0, 100, round(source / rate)))
    assert rate > 15 or rate == source


@pytest.mark.parametrize(("source", "target"), [(24, 72), (24, 30), (50, 30), (30, 25), (60, 120)])
def test_frames_between_frames_are_told(source: float, target: float) -> None:
    assert is_interpolated(source, target)
    assert neighbours(100, source, target)[2].any()
    found = Sources()
    found.add(Recording({}, [], target, {"source_rate": source}))
    (caveat,) = found.caveats()
    assert f"interpolated.*{source} to {target}".split(".*")[0] in caveat
    assert f"{source} to {target} frames per second: 1 files" in caveat


@pytest.mark.parametrize(("source", "target"), [(30, 30), (29.97, 30), (120, 30), (119.88, 30)])
def test_whole_ratios_say_nothing(source: float, target: float) -> None:
    assert not is_interpolated(source, target)
    assert not neighbours(100, source, target)[2].any()
    found = Sources()
    found.add(Recording({}, [], target, {"source_rate": source}))
    assert found.caveats() == []


def test_the_card_says_what_was_resampled() -> None:
    found = Sources()
    for source, rate in ((120, 30), (120, 30), (24, 30), (30, 30)):
        found.add(Recording({}, [], rate, {"source_rate": source}))
    assert found.card({})["resampled"] == {
        "24 to 30 frames per second, interpolated": 1,
        "120 to 30 frames per second, frame 1 of 4": 2,
    }
    found = Sources()
    found.add(Recording({}, [], 30, {"source_rate": 29.97}))
    assert found.card({})["resampled"] == "nothing"


def test_gaps_filled_in_are_told() -> None:
    found = Sources()
    for filled in (0, 4):
        assert found.caveats() == []
        found.add(Recording({}, [], 30, {"markers": ["a"], "filled": [filled, 1000]}))
    (caveat,) = found.caveats()
    assert caveat.startswith("4 of 2,000 places of markers (0.20%) were not seen")
    assert found.card({"markers": ["a"]})["places_filled"] == 4


def test_an_axis_that_no_file_tells_is_named() -> None:
    found = Sources()
    assert found.usual_up is None
    found.add(Recording({}, [], 30, {"up": "y", "up_by": "usual for .bvh"}))
    assert found.usual_up == "y (usual for .bvh)"
    found.add(Recording({}, [], 30, {"up": "y", "up_by": "by feet and head"}))
    assert found.usual_up is None


@pytest.mark.parametrize(
    ("layout", "tall", "unit"),
    [
        ({"unit": "mm"}, 1.7, "mm (given by the files)"),
        ({"format": ".npz"}, 1.7, "metres (usual for .npz)"),
        ({"format": ".bvh"}, 170, "not given; centimetres, if this is a person"),
        ({"format": ".bvh"}, 28, "not given"),
        ({}, None, "not given"),
    ],
)
def test_the_card_says_the_unit_as_far_as_known(
    layout: dict[str, str], tall: float | None, unit: str
) -> None:
    found = Sources()
    found.add(Recording({}, [], 30, {"source_rate": 30} | ({"tall": tall} if tall else {})))
    assert found.card(layout)["unit"] == unit


def test_the_ground_is_that_of_most_files() -> None:
    found = Sources()
    assert found.ground is None
    for ground in (0.0, 0.2, 90.0):
        found.add(Recording({}, [], 30, {"ground": ground}))
    assert found.ground == 0.2
