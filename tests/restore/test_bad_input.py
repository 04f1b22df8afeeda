"""Bad input of inpaint: one clear error, before any work."""

from collections.abc import Callable
from math import inf, nan

import pytest
import torch
from torch import Tensor, distributions

from likely import flows, inpaint
from likely.errors import Infeasible, InvalidInput, InvalidType
from restore.images import IMAGE, MASK, Bowl, with_value


def untouched(x: Tensor) -> Tensor:
    raise AssertionError("the density was evaluated before the arguments were checked")


BAD = {
    "mask of another size": (
        {"observed": torch.ones(5, 5, dtype=torch.bool)},
        InvalidInput,
        ["observed", "(5, 5)", "(2, 1, 4, 4)"],
    ),
    "mask of more rows": (
        {"observed": torch.ones(3, 1, 4, 4, dtype=torch.bool)},
        InvalidInput,
        ["observed", "(3, 1, 4, 4)", "(2, 1, 4, 4)"],
    ),
    "mask of numbers": ({"observed": MASK.float()}, InvalidType, ["observed", "float32", "torch.bool"]),
    "mask of bytes": ({"observed": MASK.byte()}, InvalidType, ["observed", "uint8", "torch.bool"]),
    "mask of numpy": ({"observed": MASK.numpy()}, InvalidType, ["observed", "ndarray", "torch.bool"]),
    "bytes": ({"image": (255 * IMAGE).byte()}, InvalidType, ["image", "uint8", "255"]),
    "numpy image": ({"image": IMAGE.numpy()}, InvalidType, ["image", "ndarray"]),
    "NaN measured": (
        {"image": with_value(IMAGE, nan, 1, 0, 2, 3), "observed": MASK | True},
        InvalidInput,
        ["image", "1 NaN", "(1, 0, 2, 3)", "observed be False"],
    ),
    "NaN missing": (
        {"image": with_value(IMAGE, nan, 1, 0, 2, 3), "observed": with_value(MASK, False, 1, 0, 2, 3)},
        InvalidInput,
        ["image", "1 NaN", "(1, 0, 2, 3)"],
    ),
    "infinite": ({"image": with_value(IMAGE, inf, 0, 0, 0, 0)}, InvalidInput, ["image", "infinite"]),
    "no rows": ({"image": IMAGE[:0], "observed": MASK[:0]}, InvalidInput, ["image", "(0, 1, 4, 4)"]),
    "no entries": (
        {"image": torch.zeros(2, 0), "observed": torch.zeros(2, 0, dtype=torch.bool)},
        InvalidInput,
        ["image", "(2, 0)"],
    ),
    "no batch": (
        {"image": torch.zeros(4), "observed": torch.ones(4, dtype=torch.bool)},
        InvalidInput,
        ["image", "(4,)", "image[None]"],
    ),
    "everything missing": (
        {"observed": torch.zeros(4, 4, dtype=torch.bool)},
        InvalidInput,
        ["nothing was measured", "row 0", "others", "sample"],
    ),
    "measured above": (
        {"image": with_value(IMAGE, 1.5, 1, 0, 2, 3), "observed": with_value(MASK, True, 1, 0, 2, 3)},
        Infeasible,
        ["1 measured", "1.5", "(1, 0, 2, 3)", "from 0 to 1"],
    ),
    "measured below": (
        {"image": with_value(IMAGE, -0.5, 0, 0, 0, 0), "observed": with_value(MASK, True, 0, 0, 0, 0)},
        Infeasible,
        ["1 measured", "-0.5", "(0, 0, 0, 0)"],
    ),
    "bounds swapped": ({"bounds": (1.0, 0.0)}, Infeasible, ["low 1", "high 0"]),
    "NaN bound": ({"bounds": (0.0, nan)}, InvalidInput, ["bound", "NaN"]),
    "one bound": ({"bounds": 1.0}, InvalidInput, ["bounds", "1.0", "(low, high)"]),
    "three bounds": ({"bounds": (0.0, 0.5, 1.0)}, InvalidInput, ["bounds", "(low, high)"]),
    "bounds of another size": (
        {"bounds": (0.0, torch.ones(5))},
        InvalidInput,
        ["bounds", "high", "(5,)", "(2, 1, 4, 4)"],
    ),
    "bounds of more rows": (
        {"bounds": (torch.zeros(3, 2, 1, 4, 4), 1.0)},
        InvalidInput,
        ["bounds", "low", "(3, 2, 1, 4, 4)"],
    ),
    "unknown start": ({"start": "zeros"}, InvalidInput, ["start", "'zeros'", "'given'", "'uniform'"]),
    "start of another size": (
        {"start": torch.zeros(1, 1, 4, 4)},
        InvalidInput,
        ["start", "(1, 1, 4, 4)", "(2, 1, 4, 4)"],
    ),
    "numpy start": ({"start": IMAGE.numpy()}, InvalidInput, ["start", "tensor"]),
    "uniform without bounds": (
        {"start": "uniform", "bounds": (-inf, 1.0)},
        InvalidInput,
        ["uniform", "finite"],
    ),
    "density of another event": (
        {"density": distributions.Normal(torch.zeros(5, 5), 1.0)},
        InvalidInput,
        ["Normal", "(5, 5)", "(1, 4, 4)"],
    ),
    "no density": ({"density": "digits"}, InvalidType, ["density", "str", "log_prob"]),
    "seed and generator": (
        {"seed": 0, "generator": torch.Generator()},
        InvalidInput,
        ["seed", "generator"],
    ),
}


def refused(function: Callable, case: tuple) -> None:
    """Fail unless the function raises what the case names, in its words, and leaves its arguments."""
    changed, error, words = case
    arguments = {"density": untouched, "image": IMAGE, "observed": MASK, **changed}
    copies = {k: v.clone() for k, v in arguments.items() if isinstance(v, Tensor)}
    with pytest.raises(error) as caught:
        function(**arguments)
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"
    for k, v in copies.items():
        torch.testing.assert_close(arguments[k], v, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_any_work(name: str) -> None:
    refused(inpaint, BAD[name])


def test_one_of_several_rows_missing_says_which() -> None:
    with pytest.raises(InvalidInput) as caught:
        inpaint(untouched, IMAGE, with_value(MASK, False, 1))
    assert "nothing was measured" in str(caught.value) and "row 1:" in str(caught.value)
    assert "others" not in str(caught.value)


def test_a_start_with_nan_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"start .*1 NaN"):
        inpaint(Bowl(), IMAGE, MASK, start=with_value(IMAGE, nan, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "function, shape", [(lambda x: x.sum(), r"\(\)"), (lambda x: x.flatten(1), r"\(2, 16\)")]
)
def test_a_density_of_the_wrong_shape_is_refused(function: Callable, shape: str) -> None:
    with pytest.raises(InvalidInput, match=rf"returned shape {shape}"):
        inpaint(function, IMAGE, MASK)


def test_a_flow_over_other_images_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\(2, 1, 4, 4\).*6, 6"):
        inpaint(flows.nice((1, 6, 6), width=8), IMAGE, MASK)
