"""Writes the CRDs into a folder, or checks that they are there: `python -m shared.ops.crds [--check] [FOLDER]`."""

import argparse
import sys
from pathlib import Path

import yaml

from shared.api.crd import crds

_HEADER = "# Generated from shared/api by `make crds`.\n"


def files() -> dict[str, str]:
    """The text of every CRD file, by name."""
    return {
        name: _HEADER + yaml.safe_dump(crd, sort_keys=False, width=110, allow_unicode=True)
        for name, crd in crds().items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a file differs"
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("deploy/crds"))
    arguments = parser.parse_args()
    stale = []
    for name, text in files().items():
        path = arguments.folder / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path))
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    if arguments.check and stale:
        sys.stderr.write(f"not as generated: {', '.join(stale)}; run make crds\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
