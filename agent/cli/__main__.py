"""`python -m agent.cli` is `localmodel-agent`."""

from agent.cli import main

main()
