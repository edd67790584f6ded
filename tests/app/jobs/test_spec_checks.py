"""What a spec may point at."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app.db.base import db_time
from app.db.models import File, Model
from app.db.session import read_only, transaction
from app.errors import Unprocessable
from app.jobs.spec_checks import check_spec
from fusion.spec import FusionSpec
from tests.app.jobs import builders as given


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "allowed"
    root.mkdir()
    (root / "text.jsonl").touch()
    return root


def problems(engine: Engine, project_id: str, roots: tuple[Path, ...] = (), **changes: Any) -> dict[str, str]:
    """Code by pointer."""
    spec = FusionSpec.model_validate(given.spec_data(**changes))
    try:
        with read_only(engine) as session:
            check_spec(session, spec, project_id=project_id, allowed_roots=roots)
    except Unprocessable as error:
        return {problem.pointer: problem.code for problem in error.errors}
    return {}


def corpus(path: Path | str) -> dict[str, Any]:
    return {"corpus": {"files": [{"path": str(path)}]}}


def test_a_path_under_an_allowed_root_is_fine(engine: Engine, root: Path) -> None:
    project_id = given.make_project(engine)

    assert problems(engine, project_id, (root,), **corpus(root / "text.jsonl")) == {}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{root}/../secret", "{root}-other/x", "relative", "{root}/link/x"]
)
def test_other_paths_are_not(engine: Engine, root: Path, path: str) -> None:
    (root / "link").symlink_to("/etc")
    project_id = given.make_project(engine)

    found = problems(engine, project_id, (root,), **corpus(path.format(root=root)))

    assert found == {"/corpus/files/0/path": "path_not_allowed"}


def test_no_path_is_allowed_where_no_root_is(engine: Engine, root: Path) -> None:
    found = problems(engine, given.make_project(engine), (), **corpus(root / "text.jsonl"))

    assert found == {"/corpus/files/0/path": "path_not_allowed"}


def test_the_refusal_names_the_setting(engine: Engine) -> None:
    spec = FusionSpec.model_validate(given.spec_data(**corpus("/etc/passwd")))

    with pytest.raises(Unprocessable, match="FUSION_ALLOWED_ROOTS"), read_only(engine) as session:
        check_spec(session, spec, project_id="proj-x", allowed_roots=())


@pytest.mark.parametrize("name", ["missing", "x" * 3000])
def test_a_path_that_leads_nowhere(engine: Engine, root: Path, name: str) -> None:
    found = problems(engine, given.make_project(engine), (root,), **corpus(root / name))

    assert set(found) == {"/corpus/files/0/path"}
    assert set(found.values()) <= {"path_not_found", "path_not_allowed"}


def test_a_root_that_only_the_workers_have_is_not_looked_into(engine: Engine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"

    assert (
        problems(engine, given.make_project(engine), (elsewhere,), **corpus(elsewhere / "text.jsonl")) == {}
    )


def test_files_and_models_must_be_the_projects(engine: Engine) -> None:
    mine, theirs = given.make_project(engine, "mine"), given.make_project(engine, "theirs")
    with transaction(engine) as session:
        file = File(
            project_id=mine, filename="a", purpose="corpus", num_bytes=1, sha256="0" * 64, status="processed"
        )
        model = Model(project_id=mine, name="m", origin={})
        session.add_all([file, model])
    changes = {
        "corpus": {"files": [{"file_id": file.id}]},
        "target": {"model": {"model_id": model.id}},
    }

    assert problems(engine, mine, **changes) == {}
    assert problems(engine, theirs, **changes) == {
        "/corpus/files/0/file_id": "file_not_found",
        "/target/model/model_id": "model_not_found",
    }


def test_a_file_that_was_found_broken_cannot_be_used(engine: Engine) -> None:
    project_id = given.make_project(engine)
    with transaction(engine) as session:
        file = File(
            project_id=project_id,
            filename="a.jsonl",
            purpose="corpus",
            num_bytes=1,
            sha256="0" * 64,
            status="error",
            error={"code": "json_broken", "message": "line 3 is not JSON"},
        )
        session.add(file)

    found = problems(engine, project_id, corpus={"files": [{"file_id": file.id}]})

    assert found == {"/corpus/files/0/file_id": "file_not_usable"}


@pytest.mark.parametrize(
    ("fields", "corpus_changes", "expected"),
    [
        (["text", "n"], {}, {}),
        (["body", "n"], {}, {"/corpus/text_field": "corpus_field_missing"}),
        (["body"], {"text_field": "body"}, {}),
        (["text"], {"messages_field": "chat"}, {"/corpus/messages_field": "corpus_field_missing"}),
        ([f"column {number}" for number in range(100)], {}, {}),
        ([], {}, {}),
    ],
)
def test_a_file_without_the_field_of_the_text_is_found_before_anything_runs(
    engine: Engine, fields: list[str], corpus_changes: dict[str, str], expected: dict[str, str]
) -> None:
    project_id = given.make_project(engine)
    file_id = _add_file(engine, project_id, facts={"format": "parquet", "fields": fields})

    corpus = {"files": [{"file_id": file_id}], **corpus_changes}

    assert problems(engine, project_id, corpus=corpus) == expected


def test_a_file_that_is_read_in_another_format_keeps_its_secrets(engine: Engine) -> None:
    project_id = given.make_project(engine)
    file_id = _add_file(engine, project_id, facts={"format": "jsonl", "fields": ["body"]})

    assert problems(engine, project_id, corpus={"files": [{"file_id": file_id, "format": "text"}]}) == {}


def test_an_expired_file_is_not_there(engine: Engine) -> None:
    project_id = given.make_project(engine)
    file_id = _add_file(engine, project_id, expires_at=db_time(-1))

    found = problems(engine, project_id, corpus={"files": [{"file_id": file_id}]})

    assert found == {"/corpus/files/0/file_id": "file_not_found"}


def _add_file(engine: Engine, project_id: str, **fields: Any) -> str:
    with transaction(engine) as session:
        file = File(
            project_id=project_id,
            filename="a",
            purpose="corpus",
            num_bytes=1,
            sha256="0" * 64,
            status="processed",
            **fields,
        )
        session.add(file)
    return file.id
