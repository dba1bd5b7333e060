"""What a person gives on the command line, as the sources understand it."""

import os

import typer

from agent.sources.credentials import Credentials


def read_credentials(
    token_env: str | None, anonymous: bool, endpoint_url: str | None, region: str | None
) -> Credentials:
    """Nothing given = the environment's own identity, as each store's usual tools find it."""
    parameters: dict[str, str] = {}
    if token_env is not None:
        token = os.environ.get(token_env)
        if not token:
            raise typer.BadParameter(
                f"environment variable {token_env} is not set", param_hint="--token-env"
            )
        parameters["token"] = token
    if anonymous:
        parameters["anonymous"] = "true"
    if endpoint_url is not None:
        parameters["endpoint_url"] = endpoint_url
    if region is not None:
        parameters["region"] = region
    return Credentials.from_storage_config({}, parameters)
