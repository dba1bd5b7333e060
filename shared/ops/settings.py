"""Settings from a YAML file and the environment; the environment wins, unknown keys are errors that name them."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

ENV_PREFIX = "LOCALMODEL_"
LEVELS = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """A setting is unknown or malformed; the message names each one."""


class Settings(BaseModel):
    """Base of a program's settings: frozen, and nothing is silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: str = Field(
        default="info",
        pattern=f"^({'|'.join(LEVELS)})$",
        description="debug, info, warning or error.",
    )
    log_format: str = Field(
        default="json",
        pattern=r"^(json|console)$",
        description="json, or console for a person's eyes.",
    )
    kube_qps: float = Field(default=50, gt=0, description="Requests a second to the API server.")
    kube_burst: int = Field(default=100, gt=0, description="Requests at once beyond kube_qps.")


S = TypeVar("S", bound=Settings)


def add_log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        help="before the file and the environment, for as long as the program runs",
    )


def use_log_level(options: argparse.Namespace) -> None:
    """The command line's level is the environment's from now on, so that whoever loads the settings again finds it."""
    if options.log_level is not None:
        os.environ[f"{ENV_PREFIX}LOG_LEVEL"] = options.log_level


def load(model: type[S], *, file: Path | None, environment: Mapping[str, str] | None = None) -> S:
    """`LOCALMODEL_<NAME>` variables over the file's keys over defaults. Lists in variables are comma-separated."""
    values: dict[str, Any] = _read(file) if file is not None else {}
    for name, text in (os.environ if environment is None else environment).items():
        if not name.startswith(ENV_PREFIX):
            continue
        field = name.removeprefix(ENV_PREFIX).lower()
        # Variables for the other program, or for tools beside us, are no business of ours.
        if field in model.model_fields:
            values[field] = _split(text) if _is_list(model, field) else text
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
            for error in exc.errors(include_input=False, include_url=False)
        )
        raise SettingsError(problems) from exc


class _Loader(yaml.SafeLoader):
    """YAML itself lets the last of equal keys win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                problem=f"given twice: {', '.join(twice)}", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise SettingsError(f"{file}: {exc}") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: must hold a mapping of settings")
    return {str(key): value for key, value in content.items()}


def _is_list(model: type[Settings], field: str) -> bool:
    annotation = str(model.model_fields[field].annotation)
    return annotation.startswith(("tuple[", "list["))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
