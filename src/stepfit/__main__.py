"""`python -m stepfit` is `stepfit`; torchrun needs it by this name."""

from stepfit.cli import main

main()
