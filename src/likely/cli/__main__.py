"""`python -m likely.cli` is `likely`."""

from likely.cli import main

main()
