"""Memory that is kept between steps."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from likely.cli.heap import keep_freed_memory
if {keep}:
    keep_freed_memory()
def step():
    torch.ones(10_000_000), torch.ones(10_000_000)  # 2 x 40 MB, which glibc always gives back
for _ in range(10):  # until the heap has room for both, wherever they lie
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(keep):
    made = subprocess.run(
        [sys.executable, "-c", STEPS.format(keep=keep)], capture_output=True, text=True, check=True
    )
    return int(made.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_steps_take_no_new_pages_for_what_was_freed():
    given_back, kept = pages(False), pages(True)
    assert kept < 100 < given_back
