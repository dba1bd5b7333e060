"""`make audit`: known vulnerabilities of the locked packages by pip-audit, whose data comes from the package index."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.cluster import REPOSITORY

_PIP_AUDIT = "pip-audit==2.9.0"
_SECONDS = 600


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
        audit = ["uvx", _PIP_AUDIT, "--disable-pip", "--require-hashes", "-r", str(locked)]
        done = subprocess.run(audit, check=False, timeout=_SECONDS, text=True, capture_output=True)
    said = done.stdout + done.stderr
    print(said)
    # An index that mirrors packages alone knows none of it, and pip-audit is content.
    if any(sign in said for sign in ("could not be audited", "ConnectionError", "ServiceError")):
        print("NOT AUDITED, at least in part: this package index does not tell of vulnerabilities")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
