"""From what an OpenAI client asks for to a spec: which way it comes, and what else the request sets of it.

Pure but for `SpecFile`, with which the caller hands over the text of an uploaded spec.
"""

from dataclasses import dataclass
from typing import Any, Final

from app.errors import FieldProblem, NotFound, Unprocessable
from app.openai_face.requests import AS_IN_SPEC, CreateFineTuningJob
from app.recipes.draft import SpecDraft
from app.recipes.pointers import ABSENT, value_at
from app.recipes.recipe import find_recipe, model_ref
from fusion.spec import TrainingSpec

RECIPE_PREFIX: Final = "fusion:"
PARAMETER_PREFIX: Final = "fusion."
_WAYS: Final = (
    "send the spec as extra_body={'fusion': {...}}; or upload it with purpose='fusion-spec' and give its id "
    "as training_file; or give model='fusion:<recipe>@<version>' (GET /v1/recipes) and a corpus as "
    "training_file"
)
_CORPUS: Final = "/corpus/files/0/file_id"


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecFile:
    """An uploaded spec."""

    file_id: str
    data: dict[str, Any]


def draft_spec(asked: CreateFineTuningJob, *, spec_file: SpecFile | None) -> SpecDraft:
    """The spec of a request, not validated yet.

    Raises:
        Unprocessable: it holds no spec, or more than one, or something that does not fit it.
    """
    _refuse_what_does_nothing(asked)
    _require_one_way(asked, spec_file=spec_file)
    if names_recipe(asked):
        draft = _draft_of_recipe(asked)
    elif asked.fusion is not None:
        draft = SpecDraft(data=asked.fusion, base="/fusion", is_in_body=True)
        draft = _with_target(_with_corpus(draft, asked.training_file), asked.model)
    elif spec_file is not None:
        draft = _with_target(SpecDraft(data=spec_file.data, base="/training_file"), asked.model)
    else:
        raise _no_spec(asked)
    return _with_settings(draft, asked)


def names_recipe(asked: CreateFineTuningJob) -> bool:
    return asked.model is not None and asked.model.startswith(RECIPE_PREFIX)


def refusal(pointer: str, code: str, detail: str, *, hint: str | None = None) -> Unprocessable:
    """A refusal of one field."""
    problem = FieldProblem(pointer=pointer, code=code, detail=detail)
    return Unprocessable(detail, code=code, hint=hint, errors=[problem])


def _refuse_what_does_nothing(asked: CreateFineTuningJob) -> None:
    """What OpenAI would do something about, and we cannot, is not passed over."""
    if asked.validation_file is not None:
        raise refusal(
            "/validation_file",
            "not_supported",
            "validation_file is not used: documents are held out of the corpus",
            hint="leave it out; corpus.held_out_fraction says how much is held out",
        )
    if asked.integrations:
        raise refusal(
            "/integrations",
            "not_supported",
            "there are no integrations here",
            hint="leave it out; GET /v1/jobs/{id}/metrics and the result file hold the curves",
        )
    if asked.method is not None and asked.method.type != "supervised":
        raise refusal(
            "/method/type",
            "not_supported",
            f"method is {asked.method.type!r}, expected 'supervised'",
            hint="leave method out; the spec's strategy says how the models are fused",
        )
    parameters = [key for key in asked.metadata or {} if key.startswith(PARAMETER_PREFIX)]
    if parameters and not names_recipe(asked):
        raise refusal(
            f"/metadata/{parameters[0]}",
            "not_supported",
            f"{parameters[0]!r} sets a parameter of a recipe, and model names none",
            hint="give model='fusion:<recipe>@<version>', or another name to the pair",
        )


def _require_one_way(asked: CreateFineTuningJob, *, spec_file: SpecFile | None) -> None:
    ways = {
        "/fusion": asked.fusion is not None,
        "/model": names_recipe(asked),
        "/training_file": spec_file is not None,
    }
    given = [pointer for pointer, is_given in ways.items() if is_given]
    if len(given) > 1:
        detail = f"a spec comes from each of {', '.join(given)}; one of them has to go"
        problems = [FieldProblem(pointer=pointer, code="spec_ambiguous", detail=detail) for pointer in given]
        raise Unprocessable(detail, code="spec_ambiguous", hint=_WAYS, errors=problems)


def _no_spec(asked: CreateFineTuningJob) -> Unprocessable:
    told = f"model {asked.model!r} is no recipe, " if asked.model is not None else ""
    detail = f"nothing says what to fuse: {told}training_file is no spec, and there is no field fusion"
    pointer = "/model" if asked.model is not None else "/fusion"
    return refusal(pointer, "spec_missing", detail, hint=_WAYS)


def _draft_of_recipe(asked: CreateFineTuningJob) -> SpecDraft:
    assert asked.model is not None
    try:
        recipe = find_recipe(asked.model.removeprefix(RECIPE_PREFIX))
    except NotFound as error:
        raise refusal("/model", error.code, error.detail, hint=error.hint) from error
    values: dict[str, Any] = {}
    origins = {"corpus": "/training_file"}
    for key, text in (asked.metadata or {}).items():
        if key.startswith(PARAMETER_PREFIX):
            name = key.removeprefix(PARAMETER_PREFIX)
            values[name], origins[name] = recipe.value_of_text(name, text), f"/metadata/{key}"
    for name in (parameter.name for parameter in recipe.parameters):
        origins.setdefault(name, f"/metadata/{PARAMETER_PREFIX}{name}")
    if asked.training_file is not None:
        if "corpus" in values:
            raise refusal(
                origins["corpus"], "spec_ambiguous", "training_file is the corpus already; name it once"
            )
        values["corpus"] = asked.training_file
    return recipe.fill(values, base="/model", origins=origins)


def _with_corpus(draft: SpecDraft, training_file: str | None) -> SpecDraft:
    """`training_file` as the corpus of a spec that has none."""
    if training_file in (None, AS_IN_SPEC):
        return draft
    files = value_at(draft.data, "/corpus/files")
    if files in (ABSENT, []) and value_at(draft.data, "/corpus/dataset") is ABSENT:
        return draft.with_value(_CORPUS, training_file, origin="/training_file")
    if isinstance(files, list) and {"file_id": training_file} in [_id_only(item) for item in files]:
        return draft
    raise refusal(
        "/training_file",
        "spec_ambiguous",
        f"the spec has a corpus of its own, and {training_file!r} is not in it",
        hint="leave corpus.files out of the spec, or give training_file='fusion': as the spec says",
    )


def _id_only(file: Any) -> dict[str, Any]:
    return {"file_id": file.get("file_id")} if isinstance(file, dict) else {}


def _with_target(draft: SpecDraft, model: str | None) -> SpecDraft:
    """`model` as the target of a spec that has none."""
    if model in (None, AS_IN_SPEC):
        return draft
    target = value_at(draft.data, "/target/model")
    if target is ABSENT:
        return draft.with_value("/target/model", model_ref(model), origin="/model")
    names = _names_of(target)
    if model in names or not names:
        return draft
    raise refusal(
        "/model",
        "spec_ambiguous",
        f"the spec's target is {names[0]!r}, and model is {model!r}",
        hint="leave target out of the spec, or give model='fusion': as the spec says",
    )


def _names_of(target: Any) -> list[str]:
    """What one may call a reference to a model; nothing, if it is not even an object."""
    if not isinstance(target, dict):
        return []
    hub, revision = target.get("hub"), target.get("revision")
    names = [f"{hub}@{revision}", hub, target.get("model_id"), target.get("path")]
    return [name for name in names if isinstance(name, str) and not name.startswith("None@")]


def _with_settings(draft: SpecDraft, asked: CreateFineTuningJob) -> SpecDraft:
    """What the request says of name, seed and training wins over the spec."""
    pointer, chosen = asked.settings
    rate = value_at(draft.data, "/training/learning_rate")
    if rate is ABSENT:
        rate = TrainingSpec().learning_rate
    multiplier = chosen.learning_rate_multiplier
    learning_rate = rate * multiplier if multiplier is not None and isinstance(rate, int | float) else None
    settings = [
        ("/name", asked.suffix, "/suffix"),
        ("/seed", asked.seed, "/seed"),
        ("/training/num_epochs", chosen.n_epochs, f"{pointer}/n_epochs"),
        ("/training/sequences_per_step", chosen.batch_size, f"{pointer}/batch_size"),
        ("/training/learning_rate", learning_rate, f"{pointer}/learning_rate_multiplier"),
    ]
    for at, value, origin in settings:
        if value is not None:
            if at in draft.origins:
                detail = f"it is set by {draft.origins[at]}, too; say it once"
                raise refusal(origin, "spec_ambiguous", detail)
            draft = draft.with_value(at, value, origin=origin)
    return draft
