"""Bad input of complete: one clear error, before any work."""

from math import nan

import pytest
import torch
from torch import Tensor, distributions

from laws.samplers_registry import MIXTURE, Mixture
from likely import complete, flows
from likely.errors import Infeasible, InvalidInput, InvalidType
from likely.samplers import Direct, Hamiltonian, Independence, Langevin
from restore.images import IMAGE, MASK, Bowl, with_value
from restore.test_bad_input import BAD as OF_INPAINT
from restore.test_bad_input import refused

#: what complete has no argument for, and what it allows
OTHERS = {
    *("everything missing", "unknown start", "start of another size", "numpy start"),
    *("uniform without bounds", "NaN missing"),
}
SMALL, HOLE = torch.full((2, 1, 2, 2), 0.5), torch.tensor([[True, False], [True, False]])

BAD = {
    **{name: case for name, case in OF_INPAINT.items() if name not in OTHERS},
    "zero samples": ({"n": 0}, InvalidInput, ["n is 0", "1 or more"]),
    "samples that are no number": ({"n": "16"}, InvalidType, ["n is '16'", "an integer"]),
    "half a sample": ({"n": 1.5}, InvalidType, ["n is 1.5", "an integer"]),
    "no chunk": ({"chunk": 0}, InvalidInput, ["chunk is 0", "an integer of 1"]),
    "a method by name": ({"method": "hmc"}, InvalidType, ["method", "'hmc'", "samplers."]),
    "a start for fewer chains": (
        {"method": Hamiltonian(start=torch.zeros(3, 2, 1, 4, 4))},
        InvalidInput,
        ["start", "(3, 2, 1, 4, 4)", "(4, 2, 1, 4, 4)"],
    ),
    "direct draws of a plain density": (
        {"density": Bowl(), "method": Direct()},
        InvalidType,
        ["density is a Bowl", "sample_given"],
    ),
    "direct draws within tighter bounds": (
        {"density": MIXTURE, "image": SMALL, "observed": HOLE, "bounds": (0.1, 1.0)},
        InvalidInput,
        ["tighter than [0, 1]", "samplers.Independence", "samplers.Hamiltonian()"],
    ),
    "proposals within wider bounds": (
        {"image": SMALL, "observed": HOLE, "bounds": (0, 2), "method": Independence(MIXTURE)},
        InvalidInput,
        ["wider than [0, 1]"],
    ),
    "a precision of a plain density": (
        {"density": Bowl(), "precision": torch.float32},
        InvalidType,
        ["Bowl", "cannot be frozen"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_any_work(name: str) -> None:
    refused(complete, BAD[name])


SETTINGS = {
    "no chains": (lambda: Hamiltonian(chains=0), InvalidInput, "chains is 0"),
    "half a chain": (lambda: Langevin(chains=0.5), InvalidType, "chains is 0.5"),
    "negative warm-up": (lambda: Langevin(warmup=-1), InvalidInput, "warmup is -1"),
    "no thinning": (lambda: Independence(MIXTURE, thin=0), InvalidInput, "thin is 0"),
    "no leapfrogs": (lambda: Hamiltonian(leapfrogs=0), InvalidInput, "leapfrogs is 0"),
    "no step": (lambda: Hamiltonian(step=0.0), InvalidInput, "step is 0.0"),
    "sure acceptance": (lambda: Langevin(target=1.0), InvalidInput, "target is 1.0"),
    "a temperature alone": (lambda: Langevin(temperatures=2.0), InvalidType, "temperatures is 2.0"),
    "no temperature": (lambda: Langevin(temperatures=()), InvalidInput, "1.0 first"),
    "hot first": (lambda: Langevin(temperatures=(2.0, 4.0)), InvalidInput, "1.0 first"),
    "falling": (lambda: Langevin(temperatures=(1.0, 4.0, 2.0)), InvalidInput, "then rising"),
    "a negative one": (lambda: Langevin(temperatures=(1.0, -2.0)), InvalidInput, "temperature is -2"),
    "an unknown start": (lambda: Langevin(start="zeros"), InvalidInput, "start is 'zeros'"),
    "a start of NaN": (lambda: Langevin(start=torch.tensor([nan])), InvalidInput, "1 NaN"),
    "a plain proposal": (lambda: Independence(Bowl()), InvalidType, "proposal is a Bowl"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_checked_when_a_method_is_made(name: str) -> None:
    make, error, word = SETTINGS[name]
    with pytest.raises(error) as caught:
        make()
    assert word in str(caught.value)


class Elsewhere(Mixture):
    """A conditional density whose draws do not fit."""

    def __init__(self, wrong: str) -> None:
        super().__init__(MIXTURE.weights, MIXTURE.loc, MIXTURE.scale)
        self.wrong = wrong

    def sample_given(self, *given: object) -> tuple[Tensor, Tensor]:
        x, log_p = super().sample_given(*given)
        if self.wrong == "shape":
            return x[..., :1], log_p
        if self.wrong == "NaN":
            return x * nan, log_p
        return x + 1, log_p


@pytest.mark.parametrize(
    "wrong, word", [("shape", r"\(16, 2, 1, 2, 1\).*other events"), ("NaN", "NaN"), ("far", "outside")]
)
def test_draws_that_do_not_fit_are_refused(wrong: str, word: str) -> None:
    for method in (None, Independence(Elsewhere(wrong), chains=16)):
        with pytest.raises(InvalidInput, match=word):
            complete(Elsewhere(wrong), SMALL, HOLE, method=method)


def test_a_density_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"returned shape \(\)"):
        complete(lambda x: x.sum(), IMAGE, MASK)
    with pytest.raises(InvalidInput, match=r"4, 4.*6, 6"):
        complete(flows.nice((1, 6, 6), width=8), IMAGE, MASK)


def test_a_density_without_gradient_is_refused() -> None:
    with pytest.raises(InvalidInput, match="differentiable"):
        complete(lambda x: x.detach().flatten(1).sum(1), IMAGE, MASK)


def test_an_impossible_measurement_is_infeasible() -> None:
    with pytest.raises(Infeasible, match="1 measured"):
        complete(MIXTURE, with_value(SMALL, 1.5, 0, 0, 0, 0), HOLE, n=1)


def test_quantiles_are_probabilities() -> None:
    c = complete(MIXTURE, SMALL, HOLE, n=3, seed=0)
    with pytest.raises(InvalidInput, match=r"q is 5"):
        c.quantile(5)


def test_a_law_over_another_event_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\(5,\)"):
        complete(distributions.Normal(torch.zeros(5), 1.0), IMAGE, MASK)
