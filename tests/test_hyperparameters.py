"""The arguments of a class: by name, with the defaults that count, in plain values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from rnade_lightning.hyperparameters import accepted, arguments_of, plain, remade


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


class Recording:
    """Records what it is given, as modules do; more, if asked."""

    def __init__(
        self, n: int = 1, rate: float = 0.5, kind: Literal["a", "b"] = "a",
        sizes: Sequence[int] | None = None, net: object = None, extra: bool = False,
    ) -> None:  # fmt: skip
        given = {"n": n, "rate": rate, "kind": kind, "sizes": sizes, "net": net, "extra": extra}
        self.hparams = plain(given) | ({"note": "mine"} if extra else {})


class Wider(Recording):
    def __init__(self, more: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hparams["more"] = more


ALL = {"n": 2, "rate": 1, "kind": "b", "sizes": [1, 2], "net": None, "extra": False}


@pytest.mark.parametrize("kind", [Recording, Wider])
def test_an_object_is_made_again_from_all_it_recorded(kind: Any) -> None:
    whole = kind(**ALL).hparams
    assert remade(kind, whole).hparams == whole
    noted = kind(**ALL | {"extra": True}).hparams  # a record of its own is no argument
    assert remade(kind, noted).hparams == noted
    for name in whole:
        with pytest.raises(ValueError, match=f"lack {name}"):
            remade(kind, {k: v for k, v in whole.items() if k != name})
    with pytest.raises(ValueError, match="takes no argument dreams"):
        remade(kind, whole | {"dreams": 1})
    for name, value in (
        ("n", "2"), ("n", True), ("n", 2.5), ("rate", "1"), ("kind", "c"), ("sizes", [1, "2"]),
        ("sizes", 3), ("extra", 1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"argument {name} of .* which is not"):
            remade(kind, whole | {name: value})


def test_what_a_class_says_of_its_arguments_is_said_in_one_line() -> None:
    class Picky(Recording):
        def __init__(self, n: int) -> None:
            raise RuntimeError("n is\nwrong")

    with pytest.raises(ValueError, match="Picky cannot be made from the checkpoint: n is wrong"):
        remade(Picky, {"n": 1})
