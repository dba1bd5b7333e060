"""`localmodel-agent`: the program on every node, and the same engine for one person's folder."""


def main() -> None:
    """Console entry point. The commands' own imports happen when one of them runs."""
    from agent.cli.commands import app

    app()
