"""What `make audit` makes of pip-audit's answers."""

import json

from tests.support.audit import verdict

SOUND = {"name": "anyio", "version": "4.14.7", "vulns": []}
UNKNOWN = {"name": "yarl", "version": "1.25.1", "skip_reason": "not found on PyPI"}
BAD = {
    "name": "urllib3",
    "version": "2.8.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.8.1"], "aliases": [], "description": "bad"}],
}


def answer(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_vulnerable_package_fails_it_and_is_named() -> None:
    lines, code = verdict(answer(SOUND, BAD, UNKNOWN))
    assert code == 1
    assert lines[:2] == [
        "urllib3 2.8.0: PYSEC-1, fixed in 2.8.1",
        "2 of 3 packages audited",
    ]
    assert lines[2].startswith("NOT AUDITED")


def test_sound_packages_are_counted() -> None:
    assert verdict(answer(SOUND)) == (["1 of 1 packages audited"], 0)


def test_what_is_not_known_is_said_and_fails_nobody() -> None:
    for text in ("", "no network", answer(UNKNOWN)):
        lines, code = verdict(text)
        assert code == 0
        assert any(line.startswith("NOT AUDITED") for line in lines)
