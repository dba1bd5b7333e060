"""`make audit`: known vulnerabilities of the locked packages by pip-audit, whose data comes from the package index."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.cluster import REPOSITORY

_PIP_AUDIT = "pip-audit==2.9.0"
_SECONDS = 600
_UNKNOWN = "NOT AUDITED"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder) / "requirements.txt"
        export = [
            "uv",
            "export",
            "--frozen",
            "--no-default-groups",
            "--all-extras",
            "--no-emit-project",
        ]
        subprocess.run(
            [*export, "--quiet", "--output-file", str(locked)],
            check=True,
            cwd=REPOSITORY,
            timeout=_SECONDS,
            stdout=subprocess.DEVNULL,
        )
        audit = ["uvx", "--quiet", _PIP_AUDIT, "--disable-pip", "--require-hashes"]
        audit += ["--progress-spinner=off", "--format=json", f"--requirement={locked}"]
        done = subprocess.run(audit, check=False, timeout=_SECONDS, text=True, capture_output=True)
    lines, code = verdict(done.stdout)
    if any(_UNKNOWN in line for line in lines):
        print(done.stderr[-2000:])
    print("\n".join(lines))
    return code


def verdict(answer: str) -> tuple[list[str], int]:
    """What to say of pip-audit's JSON, and 1 where something is vulnerable. Not knowing is said aloud and is no failure."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        return [f"{_UNKNOWN}: pip-audit or its data cannot be reached from here"], 0
    lines = [
        f"{one['name']} {one['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for one in packages
        for found in one.get("vulns", ())
    ]
    code = 1 if lines else 0
    known = sum("vulns" in one for one in packages)
    lines.append(f"{known} of {len(packages)} packages audited")
    if known < len(packages):
        # An index that mirrors packages alone knows none of it, and pip-audit is content.
        lines.append(f"{_UNKNOWN}, the rest: this package index does not tell of vulnerabilities")
    return lines, code


if __name__ == "__main__":
    sys.exit(main())
