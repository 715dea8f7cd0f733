"""Classes are found by their path, and imported only where that is trusted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rnade_lightning import RNADE, FrameDensity
from rnade_lightning.class_paths import find, locate, public_path, short_names, trusting
from rnade_lightning.components import Component, component_names, make_component
from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.distribution import RNADEDistribution
from rnade_lightning.lightning_module import make_density


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a module of the user's own, which says when it is imported."""
    path = tmp_path / "own_package.py"
    path.write_text(
        "from rnade_lightning.components.gaussian import Gaussian\n"
        "open(__file__ + '.ran', 'w').close()\nclass Mine(Gaussian): kernel = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_package", raising=False)
    return path


def test_paths_are_public_and_lead_back() -> None:
    assert public_path(MocapDataModule) == "rnade_lightning.datamodules.MocapDataModule"
    assert public_path(RNADEDistribution) == "rnade_lightning.distribution.RNADEDistribution"
    for kind in (RNADE, MocapDataModule, RNADEDistribution):
        assert locate(public_path(kind), object) is kind


def test_arguments_of_a_class_are_taken_wherever_they_stand_and_never_dropped() -> None:
    """Dotted options leave them beside the path, not in init_args."""
    for given in (
        {"class_path": "student_t", "df": 3},
        {"class_path": "student_t", "init_args": {"df": 3}},
    ):
        assert "df=3" in str(make_component(given))
    assert make_density({"class_path": "LowRankGaussian", "rank": 2}, 3).rank == 2
    for make in (make_component, lambda given: make_density(given, 3)):
        with pytest.raises(ValueError, match="there is no class_path beside df"):
            make({"df": 3})
        with pytest.raises(ValueError, match="df stands in init_args and beside it"):
            make({"class_path": "x", "df": 3, "init_args": {"df": 4}})
    with pytest.raises(ValueError, match="df must be above 0"):
        make_component({"class_path": "student_t", "df": -1})


@pytest.mark.parametrize(
    "path", ["rnade_lightning.Nothing", "nowhere.Class", "rnade_lightning.rnade", "RNADE"]
)
def test_what_is_no_such_class_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=path):
        locate(path, FrameDensity)


def test_a_class_of_another_kind_is_refused_before_it_is_made() -> None:
    with pytest.raises(ValueError, match=r"subprocess.Popen is not a subclass of .*FrameDensity"):
        locate("subprocess.Popen", FrameDensity)


def test_an_untrusted_package_is_not_imported(own: Path) -> None:
    ran = own.with_name(own.name + ".ran")
    for trust in ((), "other", ["other", "own"]):
        with trusting(trust), pytest.raises(ValueError, match="--trust own_package"):
            locate("own_package.Mine", Component)
    assert not ran.exists()
    with trusting("own_package"):
        assert locate("own_package.Mine", Component).__name__ == "Mine"
    assert ran.exists()  # the control: an import is seen


def test_trust_ends_with_its_block(own: Path) -> None:
    with trusting(()):
        pass
    component = make_component("own_package.Mine")
    assert component.name == "own_package.Mine"
    assert RNADE(2, 3, 2, "own_package.Mine")(None).batch_shape == ()


def test_short_names_are_the_files() -> None:
    package = "rnade_lightning.components"
    assert short_names(package) == component_names()
    assert find("laplace", Component, package).__name__ == "Laplace"  # type: ignore[type-abstract]
