"""What a valid spec may name here: folders under the allowed roots, files and models of the project."""

from collections.abc import Collection, Sequence
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.catalog.findings import NUM_FIELDS_KEPT
from app.catalog.repository import is_current
from app.db.models import File, Model, Secret
from app.errors import FieldProblem, Unprocessable
from app.local_paths import find_allowed, not_allowed
from fusion.spec import FusionSpec


def check_spec(session: Session, spec: FusionSpec, *, project_id: str, allowed_roots: Sequence[Path]) -> None:
    """Check everything that a spec points at and that can be known without running it.

    Raises:
        Unprocessable: with one entry per field that points at something it may not or cannot.
    """
    problems = [*path_problems(spec, allowed_roots), *_reference_problems(session, spec, project_id)]
    if problems:
        detail = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems)
        raise Unprocessable(detail, code=problems[0].code, errors=problems)


def path_problems(spec: FusionSpec, allowed_roots: Sequence[Path]) -> list[FieldProblem]:
    """Local paths that may not be read, symbolic links resolved. Workers ask again before they read."""
    checked = (_path_problem(pointer, text, allowed_roots) for pointer, text in spec.local_paths())
    return [problem for problem in checked if problem is not None] or _twins(spec)


def _twins(spec: FusionSpec) -> list[FieldProblem]:
    """Folders that are named twice, by different paths; equal references the spec itself refuses."""
    found: dict[Path, str] = {}
    problems = []
    for name, pointer, ref in spec.model_refs():
        if ref.path is not None:
            first = found.setdefault(Path(ref.path).resolve(), name)
            if first != name:
                detail = f"{ref.path!r} is the same folder as that of {first!r}; name it once"
                problems.append(
                    FieldProblem(pointer=f"{pointer}/path", code="models_identical", detail=detail)
                )
    return problems


def _path_problem(pointer: str, text: str, allowed_roots: Sequence[Path]) -> FieldProblem | None:
    found = find_allowed(text, allowed_roots)
    if found is None:
        return not_allowed(text, pointer=pointer)
    if found.is_here and not found.real.exists():
        return FieldProblem(pointer=pointer, code="path_not_found", detail=f"there is nothing at {text!r}")
    if found.is_here and pointer.startswith("/corpus/") and not found.real.is_file():
        return FieldProblem(pointer=pointer, code="path_is_no_file", detail=f"{text!r} is no file")
    if found.is_here and not pointer.startswith("/corpus/") and not found.real.is_dir():
        return FieldProblem(pointer=pointer, code="path_is_no_folder", detail=f"{text!r} is no folder")
    return None


def _reference_problems(session: Session, spec: FusionSpec, project_id: str) -> list[FieldProblem]:
    files = dict(spec.file_ids())
    models = {f"{pointer}/model_id": ref.model_id for _, pointer, ref in spec.model_refs() if ref.model_id}
    known_files = _known_files(session, list(files.values()), project_id=project_id)
    known_models = _known_models(session, list(models.values()), project_id=project_id)
    secrets = {f"{pointer}/secret": ref.secret for _, pointer, ref in spec.model_refs() if ref.secret}
    known_secrets = known_secret_names(session, secrets.values(), project_id=project_id)
    return [
        *_unknown(secrets, known_secrets, code="secret_not_found", word="secret"),
        *_unknown(files, known_files, code="file_not_found", word="uploaded file"),
        *_unknown(models, known_models, code="model_not_found", word="registered model"),
        *_unusable(files, known_files),
        *_without_text(spec, known_files),
    ]


def _known_files(session: Session, ids: Collection[str], *, project_id: str) -> dict[str, File]:
    if not ids:
        return {}
    query = select(File).where(File.project_id == project_id, File.id.in_(ids), is_current())
    return {file.id: file for file in session.scalars(query)}


def _known_models(session: Session, ids: Collection[str], *, project_id: str) -> set[str]:
    if not ids:
        return set()
    return set(session.scalars(select(Model.id).where(Model.project_id == project_id, Model.id.in_(ids))))


def known_secret_names(session: Session, names: Collection[str], *, project_id: str) -> set[str]:
    """Those of the names, or ids, that are secrets of the project."""
    if not names:
        return set()
    named = or_(Secret.name.in_(names), Secret.id.in_(names))
    rows = session.execute(select(Secret.id, Secret.name).where(Secret.project_id == project_id, named))
    return {text for row in rows for text in row}


def _unknown(named: dict[str, str], known: Collection[str], *, code: str, word: str) -> list[FieldProblem]:
    return [
        FieldProblem(pointer=pointer, code=code, detail=f"this project has no {word} {item_id!r}")
        for pointer, item_id in named.items()
        if item_id not in known
    ]


def _unusable(named: dict[str, str], known: dict[str, File]) -> list[FieldProblem]:
    """Files whose check on arrival found a problem."""
    problems = []
    for pointer, file_id in named.items():
        error = known[file_id].error if file_id in known else None
        if error is not None:
            detail = f"{file_id} cannot be used: {error['message']}"
            problems.append(FieldProblem(pointer=pointer, code="file_not_usable", detail=detail))
    return problems


def _without_text(spec: FusionSpec, known: dict[str, File]) -> list[FieldProblem]:
    """Files whose check on arrival saw no field of the name that the spec takes the documents from."""
    name = "messages_field" if spec.corpus.messages_field is not None else "text_field"
    field = spec.corpus.messages_field or spec.corpus.text_field
    problems = []
    for file in spec.corpus.files:
        facts = (known[file.file_id].facts if file.file_id in known else None) or {}
        fields = facts.get("fields", [])
        read_as_found = file.format in (None, facts.get("format"))
        if fields and len(fields) < NUM_FIELDS_KEPT and read_as_found and field not in fields:
            problems.append(
                FieldProblem(
                    pointer=f"/corpus/{name}",
                    code="corpus_field_missing",
                    detail=f"{file.file_id} has no field {field!r}; its fields are: {', '.join(fields[:20])}",
                )
            )
    return problems
