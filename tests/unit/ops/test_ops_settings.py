"""Where settings come from, which wins, and what a person is told who got one wrong."""

from pathlib import Path

import pytest
from pydantic import Field

from shared.ops.settings import Settings, SettingsError, load


class Program(Settings):
    namespace: str = "system"
    workers: int = Field(default=2, ge=1)
    roots: tuple[Path, ...] = ()
    careful: bool = True


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_without_file_and_variables_the_defaults_hold() -> None:
    assert load(Program, file=None, environment={}) == Program()


def test_variables_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "namespace: from-file\nworkers: 5\n")
    loaded = load(Program, file=file, environment={"LOCALMODEL_WORKERS": "7"})
    assert (loaded.namespace, loaded.workers, loaded.careful) == ("from-file", 7, True)


def test_the_processes_own_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALMODEL_NAMESPACE", "elsewhere")
    monkeypatch.setenv("NAMESPACE", "nowhere")
    assert load(Program, file=None).namespace == "elsewhere"


@pytest.mark.parametrize(
    ("text", "roots"),
    [("/a,/b", ["/a", "/b"]), (" /a , ,/b, ", ["/a", "/b"]), ("/a", ["/a"]), ("", [])],
)
def test_a_list_in_a_variable_is_separated_by_commas(text: str, roots: list[str]) -> None:
    loaded = load(Program, file=None, environment={"LOCALMODEL_ROOTS": text})
    assert [str(root) for root in loaded.roots] == roots


def test_a_list_in_the_file_is_a_list(tmp_path: Path) -> None:
    loaded = load(Program, file=write(tmp_path, "roots: [/a, /b]\n"), environment={})
    assert loaded.roots == (Path("/a"), Path("/b"))


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "worker: 3\nlog_format: xml\nworkers: 0\n")
    with pytest.raises(SettingsError) as wrong:
        load(Program, file=file, environment={"LOCALMODEL_CAREFUL": "perhaps"})
    for name in ("worker:", "log_format:", "workers:", "careful:"):
        assert name in str(wrong.value)


def test_the_error_does_not_repeat_the_value(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as wrong:
        load(Program, file=None, environment={"LOCALMODEL_WORKERS": "hunter2"})
    assert "workers" in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_variables_of_other_programs_are_no_error() -> None:
    assert load(Program, file=None, environment={"LOCALMODEL_OTHER": "1", "PATH": "/"}) == Program()


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [\n", "a: \x00", "3"], ids=repr)
def test_a_file_that_is_no_mapping_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingsError, match=r"settings\.yaml"):
        load(Program, file=file, environment={})


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml"):
        load(Program, file=tmp_path / "absent.yaml", environment={})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SettingsError, match=r"binary\.yaml"):
        load(Program, file=binary, environment={})


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_an_empty_file_says_nothing(tmp_path: Path, text: str) -> None:
    assert load(Program, file=write(tmp_path, text), environment={}) == Program()


def test_a_key_that_stands_twice_in_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="workers"):
        load(Program, file=write(tmp_path, "workers: 2\nworkers: 3\n"), environment={})
