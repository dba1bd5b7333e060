"""`python -m controller.cli` is `kubectl-localmodel`."""

from controller.cli import main

main()
