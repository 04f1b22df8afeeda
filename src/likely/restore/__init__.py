"""Fill in what is missing, given a density: measured entries are never altered."""

from likely.restore.complete import Completions, complete
from likely.restore.inpaint import Restoration, inpaint
from likely.restore.quality import psnr

__all__ = ["Completions", "Restoration", "complete", "inpaint", "psnr"]
