"""Pages that are generated and committed: written when they differ, or only compared."""

import argparse
import sys
from pathlib import Path


def main(program: str, doc: str | None, path: Path, text: str) -> int:
    """`python -m PROGRAM [--check] [FILE]`; 1 when `--check` finds that FILE, `path` unless told, is not `text`."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=doc)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the file differs"
    )
    parser.add_argument("file", nargs="?", type=Path, default=path)
    arguments = parser.parse_args()
    file: Path = arguments.file
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return 0
    if arguments.check:
        sys.stderr.write(f"not as generated: {file}; run python -m {program}\n")
        return 1
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return 0
