"""Pictures: bytes come back as they were, other kinds are converted, bad files are refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from likely.data import read_folder, read_image, write_image
from likely.errors import InvalidInput, OutputError

EVERY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([EVERY, EVERY.T, 255 - EVERY], axis=-1)


def save(path, array_or_picture, mode=None):
    picture = array_or_picture
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    (picture.convert(mode) if mode else picture).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
@pytest.mark.parametrize("array", [EVERY, COLOUR], ids=["grey", "colour"])
def test_bytes_come_back(tmp_path, array, suffix):
    x = read_image(save(tmp_path / f"a{suffix}", array))
    assert x.dtype == torch.float32 and x.shape == (1, 1 if array.ndim == 2 else 3, 16, 16)
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    assert torch.equal(x[0], torch.from_numpy(planes).float() / 255)
    write_image(tmp_path / f"b{suffix}", x)
    with Image.open(tmp_path / f"b{suffix}") as again:
        assert again.mode == ("L" if array.ndim == 2 else "RGB")
        assert np.array_equal(np.asarray(again), array)


def test_pgm_and_ppm(tmp_path):
    for array, suffix in ((EVERY, ".pgm"), (COLOUR, ".ppm")):
        x = read_image(save(tmp_path / f"a{suffix}", array))
        write_image(tmp_path / f"b{suffix}", x)
        assert torch.equal(read_image(tmp_path / f"b{suffix}"), x)


def test_rows_and_columns_are_not_exchanged(tmp_path):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert read_image(save(tmp_path / "a.png", array)).shape == (1, 1, 2, 3)


def test_values_between_levels_go_to_the_nearest(tmp_path):
    x = torch.tensor([[[[10.4, 10.6, -3.0, 300.0]]]]) / 255
    write_image(tmp_path / "a.png", x)
    assert (read_image(tmp_path / "a.png") * 255).round().tolist() == [[[[10.0, 11.0, 0.0, 255.0]]]]


def test_colour_becomes_grey_when_asked(tmp_path):
    x = read_image(save(tmp_path / "a.png", COLOUR), 1)
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert x.shape == (1, 1, 16, 16)
    assert np.abs(x[0, 0].numpy() * 255 - luma).max() <= 1.0


def test_grey_becomes_colour_when_asked(tmp_path):
    x = read_image(save(tmp_path / "a.png", EVERY), 3)
    assert torch.equal(x, (torch.from_numpy(EVERY).float() / 255).expand(1, 3, 16, 16))


def test_alpha_is_dropped(tmp_path):
    alpha = np.dstack([COLOUR, EVERY])
    assert torch.equal(
        read_image(save(tmp_path / "a.png", alpha)), read_image(save(tmp_path / "b.png", COLOUR))
    )
    grey = np.dstack([EVERY, EVERY.T])
    assert torch.equal(
        read_image(save(tmp_path / "c.png", grey))[0, 0] * 255, torch.from_numpy(EVERY).float()
    )


def palette_picture() -> Image.Image:
    picture = Image.frombytes("P", (16, 16), EVERY.tobytes())
    picture.putpalette(COLOUR.reshape(-1).tobytes())
    return picture


def test_palettes_are_resolved(tmp_path):
    got = read_image(save(tmp_path / "a.png", palette_picture()))
    assert torch.equal(got, read_image(save(tmp_path / "b.png", COLOUR)))
    assert read_image(tmp_path / "a.png", 1).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_transparent_palettes_are_resolved(tmp_path, channels, transparency):
    palette_picture().save(tmp_path / "a.png", transparency=transparency)
    save(tmp_path / "b.png", COLOUR)
    assert torch.equal(
        read_image(tmp_path / "a.png", channels), read_image(tmp_path / "b.png", channels)
    )


def test_one_bit(tmp_path):
    x = read_image(save(tmp_path / "a.png", EVERY > 100))
    assert torch.equal(x[0, 0], torch.from_numpy(EVERY > 100).float())


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_16_bits_keep_their_scale(tmp_path, channels):
    deep = (EVERY.astype(np.uint16) << 8) + EVERY.T
    x = read_image(save(tmp_path / "a.png", deep), channels)
    truth = torch.from_numpy(deep.astype(np.float32)) / 65535
    assert x.shape == (1, channels or 1, 16, 16)
    # Grey keeps all 16 bits; colour has at least 8.
    bound = 1 / 255 if channels == 3 else 1e-7
    assert (x[0] - truth).abs().max() <= bound


def test_the_first_frame_of_several(tmp_path):
    frames = [Image.fromarray(EVERY), Image.fromarray(EVERY.T.copy())]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert torch.equal(read_image(tmp_path / "a.tif")[0, 0] * 255, torch.from_numpy(EVERY).float())


def test_jpeg_reads(tmp_path):
    x = read_image(save(tmp_path / "a.jpg", EVERY))
    assert x.shape == (1, 1, 16, 16) and 0 <= x.min() <= x.max() <= 1


def png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(COLOUR).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"not a picture at all", "not a picture"),
        (bytes(100), "not a picture"),
        (png()[:4], "not a picture"),
        (png()[:20], "not a picture|truncated"),
        (png()[:60], "truncated|not a picture"),
        (png()[: len(png()) // 2], "truncated"),
        (png()[:40] + b"\xff" * 30 + png()[70:], "truncated or damaged|not a picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_bad_files_are_refused(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_image(tmp_path / "a.png")
    assert "a.png" in str(caught.value)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InvalidInput, match="cannot read"):
        read_image(tmp_path)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_numbers_of_channels_are_refused(tmp_path, channels):
    with pytest.raises(InvalidInput, match=f"channels is {channels}"):
        read_image(save(tmp_path / "a.png", EVERY), channels)


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (2, 1, 4, 4), (1, 2, 4, 4), (1, 4, 4, 4)])
def test_only_one_picture_can_be_written(tmp_path, shape):
    with pytest.raises(InvalidInput, match="picture has shape"):
        write_image(tmp_path / "a.png", torch.zeros(shape))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "a.txt", "a.png.gz"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(InvalidInput, match="suffix"):
        write_image(tmp_path / name, torch.zeros(1, 1, 4, 4))
    assert not list(tmp_path.iterdir())


def test_unwritable_places_are_refused(tmp_path):
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(OutputError, match="does not exist"):
        write_image(tmp_path / "none" / "a.png", x)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_image(tmp_path / "b.png", x)


# folders


def test_folders_are_read_in_the_order_of_names(tmp_path):
    for i, name in enumerate(["b.png", "a.bmp", "c.PNG"]):
        save(tmp_path / name, np.full((2, 3), 10 * i, np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    x = read_folder(tmp_path)
    assert x.dtype == torch.uint8 and x.shape == (3, 1, 2, 3)
    assert x[:, 0, 0, 0].tolist() == [10, 0, 20]


def test_folders_keep_bytes(tmp_path):
    save(tmp_path / "a.png", COLOUR)
    assert np.array_equal(read_folder(tmp_path)[0].permute(1, 2, 0).numpy(), COLOUR)


def test_folders_follow_their_first_picture(tmp_path):
    save(tmp_path / "a.png", EVERY)
    save(tmp_path / "b.png", COLOUR)
    assert read_folder(tmp_path).shape == (2, 1, 16, 16)


def test_sizes_that_differ_are_refused(tmp_path):
    save(tmp_path / "a.png", EVERY)
    save(tmp_path / "b.png", EVERY[:15])
    with pytest.raises(InvalidInput, match=r"b\.png is 15x16 while .*a\.png is 16x16"):
        read_folder(tmp_path)


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="holds no pictures"):
        read_folder(tmp_path)


def test_a_damaged_picture_in_a_folder_is_named(tmp_path):
    save(tmp_path / "a.png", EVERY)
    (tmp_path / "b.png").write_bytes(png()[:60])
    with pytest.raises(InvalidInput, match=r"b\.png"):
        read_folder(tmp_path)
