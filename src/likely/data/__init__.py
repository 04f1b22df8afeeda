"""Data: pictures, idx files, data sets by name, and dequantisation."""

from likely.data.datasets import DATASETS, Dataset, dequantize, digits, load_data, mnist
from likely.data.idx import read_idx
from likely.data.images import read_folder, read_image, write_image

__all__ = [
    "DATASETS",
    "Dataset",
    "dequantize",
    "digits",
    "load_data",
    "mnist",
    "read_folder",
    "read_idx",
    "read_image",
    "write_image",
]
