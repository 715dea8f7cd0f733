"""A generic body stands as people do."""

import numpy as np
import pytest

from rnade_lightning.datamodules.motion.amass import body_tree
from rnade_lightning.datamodules.motion.generic import with_bones
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton


def bare(names: list[str], parents: list[int]) -> Skeleton:
    zero = np.zeros((len(names), 3))
    return Skeleton(names, parents, zero, [], np.zeros((0, 3)), ["ZYX"] * len(names))


@pytest.mark.parametrize("n_joints", [22, 24, 52, 55])
def test_a_body_stands_upright_and_has_two_like_sides(n_joints: int) -> None:
    body = with_bones(bare(*body_tree(n_joints)))
    assert body is not None
    still = np.zeros((1, n_joints, 4))
    still[..., 3] = 1
    points = Motion(body, np.array([[0, 0.952, 0]]), still, 30.0).points()[0]
    names = [*body.names, *(f"{body.names[p]}_end" for p in body.end_parents)]
    place = dict(zip(names, points, strict=True))
    assert np.ptp(points[:, 1]) == pytest.approx(1.7, abs=0.02)
    assert points[:, 1].min() == pytest.approx(0, abs=0.02)
    assert np.ptp(points[:, 0]) == pytest.approx(1.7, abs=0.25)  # arms are as wide as it is tall
    for name, (x, y, z) in place.items():
        if name.startswith("left_"):
            np.testing.assert_allclose(place[f"right_{name[5:]}"], [-x, y, z], atol=1e-12)
            assert x > 0
    assert place["left_foot_end"][2] > place["left_ankle"][2]  # z is ahead
    lengths = np.linalg.norm(body.offsets[1:], axis=1)
    assert lengths.min() > 0.01


def test_joints_of_other_names_have_no_body() -> None:
    assert with_bones(bare(["pelvis", "tail"], [-1, 0])) is None
