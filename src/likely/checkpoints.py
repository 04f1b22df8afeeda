"""Save and load flows. Nothing that is loaded is ever run as code."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Mapping
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from likely.checks import described, kind
from likely.errors import CheckpointError, InvalidInput, InvalidType
from likely.files import write_whole
from likely.flows import MODELS, ExactDensity, interleaved, nice
from likely.flows.models import has_effect
from likely.seeds import borrowed_global_state

FORMAT = 1


def shipped() -> dict[str, Path]:
    """Return the names and files of the models that come with the package."""
    folder = Path(str(resources.files("likely") / "pretrained"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def save(
    flow: ExactDensity,
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a flow to a safetensors file, its configuration as JSON in the header.

    Args:
        flow: a model made by a ready-made function such as `flows.nice`.
        path: where to, ending in `.safetensors`; written whole or not at all.
        dtype: the precision in which matrices are stored; None for their own. Vectors, which are few
            and hold the scalings, always keep theirs.
        card: what else to note, such as data, seed and test figure; anything that JSON can hold.

    Raises:
        CheckpointError: the flow was put together by hand, so that there is no recipe to rebuild it.
        InvalidType: it is no flow, the path no path, or the card no mapping.
        InvalidInput: the suffix is another, dtype is not a floating-point one, or JSON cannot hold the
            card.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "mine.safetensors"
        >>> save(nice((1, 4, 4), width=8), file)
        >>> load(file).event_shape
        torch.Size([1, 4, 4])
    """
    if not isinstance(flow, ExactDensity):
        raise InvalidType(f"flow is {kind(flow)}; expected a flow, such as one of flows.nice.")
    if _path("path", path).suffix != ".safetensors":
        raise InvalidInput(f"cannot save to {path}; expected a name that ends in .safetensors.")
    if dtype not in (None, torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise InvalidInput(
            f"cannot store weights as {dtype}; expected torch.float32 or torch.bfloat16."
        )
    if flow.config is None:
        raise CheckpointError(
            "this flow was put together by hand, or is a frozen copy (save the flow it was made from): "
            "it cannot be rebuilt from a file; save its "
            f"state_dict yourself, or build it with one of {', '.join(MODELS)}."
        )
    tensors = {
        name: (t.to(dtype) if dtype and t.ndim > 1 and t.is_floating_point() else t).contiguous()
        for name, t in flow.state_dict().items()
    }
    if not isinstance(card, Mapping | None):
        raise InvalidType(f"card is {kind(card)}; expected a mapping from names to what is noted.")
    header = {"format": FORMAT, "config": flow.config, "card": dict(card or {})}
    try:
        text = json.dumps(header)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the card cannot be kept as JSON: {error}.") from error
    write_whole(path, safetensors.torch.save(tensors, {"likely": text}))


def load(name_or_path: Path | str, *, mean: Float[Tensor, "*event"] | None = None) -> ExactDensity:
    """Return a flow in evaluation mode, float32, on the CPU.

    Args:
        name_or_path: the name of a model that ships with the package, a `.safetensors` file written by
            `save`, or a `.pt` file in the `nice.pt` layout, sizes inferred from its tensors.
        mean: what was subtracted from the data a `nice.pt` was trained on, where the file needs it and
            does not hold it.

    Raises:
        CheckpointError: there is no such model or file; it is damaged, of another layout, holds NaN or
            infinite weights, or would run code; or its mean is needed and not given.
        InvalidType: it is neither a name nor a path, or the mean no tensor.

    Example:
        >>> load("digits").event_shape
        torch.Size([1, 8, 8])
    """
    known = shipped()
    path = known.get(str(name_or_path), _path("name_or_path", name_or_path))
    if not isinstance(mean, Tensor | None):
        raise InvalidType(f"mean is {kind(mean)}; expected the tensor that was subtracted.")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a .safetensors or .pt file.")
    if path.is_file() and path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes); expected a saved model.")
    if not path.is_file():
        raise CheckpointError(
            f"no model named {str(name_or_path)!r} and no such file; expected one of "
            f"{', '.join(known) or '(none is installed)'}, or the path of a .safetensors or .pt file."
        )
    if path.suffix == ".safetensors":
        if mean is not None:
            raise CheckpointError("mean is for .pt files only; a .safetensors file holds all it needs.")
        flow = _load_safetensors(path)
    else:
        flow = _load_nice_pt(path, mean)
    for name, weight in flow.named_parameters():
        if not weight.isfinite().all():
            raise CheckpointError(
                f"{path}: {name} holds NaN or infinite weights; train it again, or save it in a dtype "
                "of a wider range."
            )
    return flow


def read_card(name_or_path: Path | str) -> dict[str, Any]:
    """Return what is noted about a model: data, seed, figures; nothing for `.pt` files."""
    path = shipped().get(str(name_or_path), _path("name_or_path", name_or_path))
    return dict(_read_header(path)["card"]) if path.suffix == ".safetensors" else {}


def _path(name: str, given: object) -> Path:
    """Return an argument that has to be the name of a file."""
    if not isinstance(given, str | PathLike):
        raise InvalidType(f"{name} is {kind(given)}; expected a name or a path.")
    return Path(given)


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["likely"])
        if header["format"] > FORMAT:
            raise CheckpointError(
                f"{path} was written by a newer likely (format {header['format']}); upgrade to read it."
            )
        return {"config": dict(header["config"]), "card": dict(header["card"])}
    except KeyError:
        raise CheckpointError(
            f"{path} is a safetensors file of another program: it has no 'likely' header. "
            "Expected one written by likely.save."
        ) from None
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}.") from error


def _load_safetensors(path: Path) -> ExactDensity:
    config = _read_header(path)["config"]
    name = config.pop("model", None)
    if not isinstance(name, str) or name not in MODELS:
        raise CheckpointError(f"{path} holds a {name!r} model; expected one of {', '.join(MODELS)}.")
    # Files of earlier versions may hold arguments without effect, which are refused now.
    config = {k: v for k, v in config.items() if has_effect(k, config)}
    try:
        with borrowed_global_state():  # torch's layers draw their first weights from it
            flow = MODELS[name](**config)
        tensors = safetensors.torch.load_file(path)
        if any(t.is_complex() for t in tensors.values()):
            raise TypeError("some of its weights are complex numbers.")
        flow.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (SafetensorError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} does not hold what its header says: {error}") from error
    return flow.eval()


def _load_nice_pt(path: Path, mean: Tensor | None) -> ExactDensity:
    """Read the layout of coursework and tutorials: `coupling.{i}.in_block.0.weight` and so on."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of foreign pickles, which are refused below
            saved = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no file of plain tensors: it is damaged, or loading it could run code. It was "
            "refused unread; save the model's state_dict() instead."
        ) from error
    except Exception as error:  # damaged bytes make the reader raise almost anything
        raise CheckpointError(f"{path} is damaged or no PyTorch file: {error}.") from error
    mask_config, dim = 1, None
    if isinstance(saved, Mapping) and "model_state_dict" in saved:
        mask_config, dim, mean = _read_wrapper(path, saved, mean)
        saved = saved["model_state_dict"]
    if not isinstance(saved, Mapping) or not all(
        isinstance(k, str) and isinstance(t, Tensor) and not t.is_complex() for k, t in saved.items()
    ):
        raise CheckpointError(
            f"{path} holds a {type(saved).__name__}; expected a state_dict of tensors of real numbers."
        )
    first = 1 - mask_config
    try:
        state, sizes = _translate({k: t.float() for k, t in saved.items()})
        for what, given in (("in_out_dim", dim), ("the mean", None if mean is None else mean.numel())):
            if given not in (None, sizes["dim"]):
                raise CheckpointError(
                    f"{path}: {what} is for {given} entries, the tensors are for {sizes['dim']}."
                )
        if mean is not None:
            if mean.is_complex() or not mean.isfinite().all():
                raise CheckpointError(f"{path}: the mean holds NaN, infinite or complex values.")
            _fold_mean(state, mean, first)
        side = math.isqrt(sizes["dim"])
        shape = (1, side, side) if side * side == sizes["dim"] else (sizes["dim"],)
        with borrowed_global_state():
            flow = nice(shape, sizes["width"], sizes["depth"], sizes["couplings"], first=first)
        flow.load_state_dict(state)
    except (KeyError, RuntimeError, IndexError, InvalidInput) as error:
        raise CheckpointError(
            f"{path} is not in the nice.pt layout (coupling.0.in_block.0.weight, ..., scaling.scale): "
            f"{str(error).splitlines()[0]}"
        ) from error
    return flow.eval()


def _read_wrapper(path: Path, saved: Mapping[str, Any], mean: Tensor | None) -> tuple[int, int, Tensor]:
    """Return the wrapper's mask_config, in_out_dim and mean."""
    missing = [key for key in ("mask_config", "in_out_dim") if key not in saved]
    if missing:
        raise CheckpointError(f"{path} wraps its weights but lacks {' and '.join(missing)}.")
    if mean is not None and "mean" in saved:
        raise CheckpointError(f"{path} holds its own mean; load it without mean=.")
    mean = saved.get("mean", mean)
    if not isinstance(mean, Tensor):
        raise CheckpointError(
            f"{path} was trained on data with the mean subtracted and does not hold that mean; "
            "give it as likely.load(path, mean=...)."
        )
    side = saved["mask_config"]
    for key, fine, expected in (
        ("mask_config", isinstance(side, int | float) and side in (0, 1), "0 or 1"),
        ("in_out_dim", isinstance(saved["in_out_dim"], int), "a number of entries"),
    ):
        if not fine:
            raise CheckpointError(f"{path}: {key} is {described(saved[key])}; expected {expected}.")
    return int(saved["mask_config"]), int(saved["in_out_dim"]), mean


def _translate(saved: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Rename the tensors of the layout to those of `flows.nice`, and infer its sizes."""
    couplings = len({key.split(".")[1] for key in saved if key.startswith("coupling.")})
    depth = 1 + len({key.split(".")[3] for key in saved if key.startswith("coupling.0.mid_block.")})
    names = {"in_block.0": "hidden.0", "out_block": "out"}
    names |= {f"mid_block.{j}.0": f"hidden.{j + 1}" for j in range(depth - 1)}
    scale = saved["scaling.scale"]
    state = {f"bijection.parts.{couplings + 1}.log_scale": scale.flatten()}
    for i in range(couplings):
        for theirs, ours in names.items():
            for part in ("weight", "bias"):
                ours_full = f"bijection.parts.{i + 1}.network.{ours}.{part}"
                state[ours_full] = saved[f"coupling.{i}.{theirs}.{part}"]
    unread = len(saved) - len(state)
    if unread:
        raise KeyError(f"{unread} tensor(s) that do not belong to it")
    width = saved["coupling.0.in_block.0.weight"].shape[0]
    return state, {"dim": scale.numel(), "width": width, "depth": depth, "couplings": couplings}


def _fold_mean(state: dict[str, Tensor], mean: Tensor, first: int) -> None:
    """Turn the weights of a NICE of `x - mean` into those of a NICE of `x`, by changing biases only.

    The first coupling sees the raw kept entries, so its input bias loses `W mean`; the first two
    couplings move each entry once, so their output biases lose `mean`.
    """
    moved, kept = interleaved(first).split(mean.flatten().float())
    one, two = "bijection.parts.1.network", "bijection.parts.2.network"
    state[f"{one}.hidden.0.bias"] = (
        state[f"{one}.hidden.0.bias"] - state[f"{one}.hidden.0.weight"] @ kept
    )
    state[f"{one}.out.bias"] = state[f"{one}.out.bias"] - moved
    state[f"{two}.out.bias"] = state[f"{two}.out.bias"] - kept
