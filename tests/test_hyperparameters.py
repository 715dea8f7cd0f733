"""The arguments of a class: by name, with the defaults that count, in plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnade_lightning.hyperparameters import accepted, arguments_of, plain


class Base:
    def __init__(self, n_features: int, n_past: int = 1, dropout: float = 0.0) -> None: ...


class Net(Base):
    def __init__(self, n_features: int, n_hidden: int = 8, n_past: int = 2, **kwargs: Any) -> None:
        super().__init__(n_features, n_past, **kwargs)


class Module:
    net = Net

    def __init__(self, n_features: int, *sizes: int, lr: float = 0.1, **kwargs: Any) -> None: ...


class Heir(Module):
    pass


class Own(Module):
    def __init__(self, n_features: int, units: int = 6, **kwargs: Any) -> None:
        super().__init__(n_features, n_hidden=units, **kwargs)


@pytest.mark.parametrize("kind", [Module, Heir])
def test_arguments_by_place_and_by_name_stand_beside_all_defaults(kind: type) -> None:
    found = arguments_of(kind, (3, 5), {"dropout": 0.5}, "net")
    assert found == {"n_features": 3, "n_hidden": 5, "n_past": 2, "dropout": 0.5, "lr": 0.1}


def test_what_a_class_sets_itself_is_none_of_its_arguments() -> None:
    assert arguments_of(Own, (3,), {"lr": 1.0}, "net") == {"n_features": 3, "units": 6, "lr": 1.0}


def test_a_wrong_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="n_hiden"):
        arguments_of(Base, (3,), {"n_hiden": 5}, "net")


def test_a_class_is_given_what_it_takes() -> None:
    arguments = {"n_features": 3, "units": 6, "floor": 0.1}
    assert accepted(Base, arguments) == {"n_features": 3}
    assert accepted(Own, arguments) == arguments


def test_plain_values_are_kept_as_such() -> None:
    found = plain({
        "yes": True, "n": np.int64(3), "x": np.float32(0.5), "path": Path("a"), "none": None,
        "nested": {"pairs": [(1, "b")]}, "left out": [object()],
    })  # fmt: skip
    expected = {"yes": True, "n": 3, "x": 0.5, "path": "a", "none": None}
    assert found == expected | {"nested": {"pairs": [[1, "b"]]}}
    assert type(found["n"]) is int
    assert type(found["x"]) is float
