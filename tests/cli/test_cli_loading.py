"""Finding the application: by option, variable or pyproject.toml, in the current directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fixtures.cli_kit import EventstoreCommand


@pytest.fixture
def project(tmp_path: Path, settings: pytest.MonkeyPatch) -> Path:
    """A directory of a project of its own, without an application yet."""
    settings.chdir(tmp_path)
    settings.delenv("EVENTSTORE_APP")
    settings.setattr(sys, "path", list(sys.path))
    return tmp_path


def declare(project: Path, module: str, text: str = "") -> None:
    declared = (
        text or f"from eventstore import Application, EventTypes\napp = Application({module!r}, events=EventTypes())"
    )
    (project / f"{module}.py").write_text(declared, encoding="utf-8")


@pytest.mark.usefixtures("project")
def test_without_an_application_the_message_names_all_three_ways(bare: EventstoreCommand) -> None:
    said = bare.fails(2, "replay", "order-1")

    for way in ("--app", "EVENTSTORE_APP", "[tool.eventstore]"):
        assert way in said


def test_the_option_wins_over_the_variable_which_wins_over_pyproject(
    bare: EventstoreCommand, project: Path, settings: pytest.MonkeyPatch
) -> None:
    for module in ("by_option", "by_variable", "by_file"):
        declare(project, module)
    (project / "pyproject.toml").write_text('[tool.eventstore]\napp = "by_file:app"', encoding="utf-8")
    replay = ("replay", "order-1")

    assert "no aggregate of 'by_file'" in bare.fails(2, *replay)
    settings.setenv("EVENTSTORE_APP", "by_variable:app")
    assert "no aggregate of 'by_variable'" in bare.fails(2, *replay)
    assert "no aggregate of 'by_option'" in bare.fails(2, *replay, "--app", "by_option:app")


def test_an_unknown_setting_is_refused_by_name(bare: EventstoreCommand, project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.eventstore]\napplication = "x:y"', encoding="utf-8")

    assert "has no setting application" in bare.fails(2, "streams")


def test_a_file_of_settings_that_is_no_toml_is_refused(bare: EventstoreCommand, project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.eventstore", encoding="utf-8")

    assert "pyproject.toml cannot be read" in bare.fails(2, "streams")


def test_a_wrong_target_is_explained(bare: EventstoreCommand, project: Path) -> None:
    declare(project, "targets")

    for target, problem in (
        ("targets", "write module:object"),
        ("targets:", "write module:object"),
        ("nowhere:app", "there is no module 'nowhere'"),
        ("targets.sub:app", "there is no module 'targets.sub'"),
        ("targets:main", "names nothing, not an eventstore.Application; there is targets:app"),
        ("targets:EventTypes", "names a type, not an eventstore.Application"),
        ("json:loads", "'json' has no application"),
    ):
        assert problem in bare.fails(2, "replay", "order-1", "--app", target), target


def test_a_missing_import_of_the_application_is_named(bare: EventstoreCommand, project: Path) -> None:
    declare(project, "needy", "import surely_not_installed")

    said = bare.fails(2, "replay", "order-1", "--app", "needy:app")

    assert "importing 'needy' needs the module 'surely_not_installed', which is not installed" in said


def test_an_application_that_cannot_be_imported_is_told_by_place_and_not_by_content(
    bare: EventstoreCommand, project: Path
) -> None:
    declare(project, "failing", "raise ValueError('hunter2')")

    said = bare.fails(2, "replay", "order-1", "--app", "failing:app")

    assert "importing 'failing' raised ValueError at failing.py:1" in said
    assert "hunter2" not in said


def test_a_wrong_declaration_says_what_is_wrong(bare: EventstoreCommand, project: Path) -> None:
    declare(project, "nameless", "from eventstore import *\napp = Application('', events=EventTypes())")

    assert "an application needs a name" in bare.fails(1, "replay", "order-1", "--app", "nameless:app")


@pytest.mark.parametrize("target", ["nosuch:app", "json:dumps"])
def test_a_wrong_application_that_is_named_is_refused_also_where_none_is_needed(
    target: str, es: EventstoreCommand, project: Path, settings: pytest.MonkeyPatch
) -> None:
    assert target.partition(":")[0] in es.fails(2, "streams", "--app", target)
    settings.setenv("EVENTSTORE_APP", target)
    assert target.partition(":")[0] in es.fails(2, "streams")
    settings.delenv("EVENTSTORE_APP")
    (project / "pyproject.toml").write_text(f'[tool.eventstore]\napp = "{target}"', encoding="utf-8")
    es.ok("streams")  # a file names it for whoever works here; this command did not ask for it
