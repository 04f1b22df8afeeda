"""What the commands do with pictures: read them for a model, join them, save them moving."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from likely.cli.common import Messages
from likely.data import read_image, write_image
from likely.data.images import to_bytes
from likely.errors import InvalidInput
from likely.files import write_whole
from likely.flows import ExactDensity


def check_pictures(flow: ExactDensity) -> None:
    """Raise `InvalidInput` unless the model is one of pictures."""
    if len(flow.event_shape) != 3 or flow.event_shape[0] not in (1, 3):
        raise InvalidInput(
            f"the model is over events of shape {tuple(flow.event_shape)}; "
            "expected one over pictures (1 or 3, H, W)."
        )


def read_for(flow: ExactDensity, path: Path, messages: Messages) -> Tensor:
    """Return a picture in the model's shape, converted between grey and colour if need be.

    Raises:
        InvalidInput: it cannot be read, or its size is not the model's.
    """
    check_pictures(flow)
    x = read_image(path)
    with Image.open(path) as picture:
        if picture.mode[0] in "IF":
            messages.say(f"{path} has more than 8 bits a pixel; pictures are written with 8, rounded")
        if picture.has_transparency_data:
            messages.say(f"{path} is partly transparent; its alpha is ignored")
        if getattr(picture, "n_frames", 1) > 1:
            messages.say(f"{path} has several frames; only the first is used")
    channels = flow.event_shape[0]
    if x.shape[1] != channels:
        kinds = {1: "grey", 3: "colour"}
        messages.say(f"{path} is {kinds[x.shape[1]]}; converted to {kinds[channels]} for the model")
        x = read_image(path, channels)
    if x.shape[1:] != flow.event_shape:
        raise InvalidInput(
            f"{path} is {x.shape[2]}x{x.shape[3]} (rows x columns); the model expects "
            f"{flow.event_shape[1]}x{flow.event_shape[2]}. Resize the picture, or train a "
            "model on a folder of pictures of its size: likely train --data FOLDER -o mine.safetensors."
        )
    return x


def enlarge(x: Tensor, size: int = 112) -> Tensor:
    """Repeat pixels until the longer side has about `size`, so that small pictures can be looked at."""
    factor = max(size // max(x.shape[-2:]), 1)
    return x.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def grid(x: Tensor, columns: int, gap: int = 1) -> Tensor:
    """Join pictures `(N, C, H, W)` into one `(1, C, H', W')`, row by row, with a grey gap."""
    rows = math.ceil(len(x) / columns)
    _, channels, height, width = x.shape
    out = torch.full((1, channels, rows * (height + gap) - gap, columns * (width + gap) - gap), 0.5)
    for i, picture in enumerate(x):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        out[0, :, top : top + height, left : left + width] = picture
    return out


def write_history(path: Path, iterates: Sequence[Tensor], frames: int = 12) -> None:
    """Write about `frames` of the iterates `(1, C, H, W)`: moving as .gif, else side by side."""
    chosen = [
        iterates[i]
        for i in sorted({round(j * (len(iterates) - 1) / (frames - 1)) for j in range(frames)})
    ]
    shown = enlarge(torch.cat(list(chosen)).clamp(0, 1))
    if path.suffix.lower() != ".gif":
        write_image(path, grid(shown, len(chosen), gap=4))
        return
    pictures = [Image.fromarray(p.permute(1, 2, 0).squeeze(-1).numpy()) for p in to_bytes(shown)]
    content = io.BytesIO()
    # The last frame, the result, stays for a while.
    pictures[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[150] * (len(pictures) - 1) + [1500],
        loop=0,
    )
    write_whole(path, content.getvalue())
