"""What OpenAI's clients send to make a fine-tuning job, and `fusion`, which is ours.

Fields that neither of us knows are ignored here, as OpenAI does: its clients send what their version has.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.jobs.labels import Metadata

AS_IN_SPEC: Final = "fusion"
"""For `model` and `training_file`, which OpenAI's clients insist on: as the spec says."""
_AUTO = BeforeValidator(lambda value: None if value == "auto" else value)


def _or_auto(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"const": "auto"}, schema, {"type": "null"}]})


class Hyperparameters(BaseModel):
    """`auto` is what the spec or the recipe says."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    n_epochs: Annotated[int | None, Field(ge=1), _AUTO, _or_auto({"type": "integer", "minimum": 1})] = None
    """`training.num_epochs`."""
    batch_size: Annotated[int | None, Field(ge=1), _AUTO, _or_auto({"type": "integer", "minimum": 1})] = None
    """`training.sequences_per_step`."""
    learning_rate_multiplier: Annotated[
        float | None, Field(gt=0.0), _AUTO, _or_auto({"type": "number", "exclusiveMinimum": 0.0})
    ] = None
    """`training.learning_rate` is that of the spec or the recipe, so many times."""


class SupervisedMethod(BaseModel):
    hyperparameters: Hyperparameters | None = None


class Method(BaseModel):
    """Where newer clients send hyperparameters."""

    type: str = "supervised"
    supervised: SupervisedMethod | None = None


_EXAMPLE: dict[str, Any] = {
    "model": "fusion:small-cpu@1",
    "training_file": "file-06f3k9x2q4v8t1m7c5b0z6n3ha",
    "suffix": "first-look",
    "seed": 1,
    "metadata": {
        "fusion.target": "model-06f3k9x2q4v8t1m7c5b0z6n3ha",
        "fusion.source": "model-06f3k9x2q4v8t1m7c5b0z6n3hb",
        "team": "nlp",
    },
}


class CreateFineTuningJob(BaseModel):
    """A job, as OpenAI's clients ask for one; the spec comes in one of three ways.

    `fusion`: the spec itself. Or `training_file`: a file with the purpose `fusion-spec`. Or `model`:
    `fusion:<recipe>@<version>`, with the corpus as `training_file`.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"examples": [_EXAMPLE]})

    model: str | None = None
    """A recipe; or the target, where the spec names none: a registered model's id, or `org/name@commit`.
    `fusion` means what the spec says."""
    training_file: str | None = None
    """The corpus, or a spec. `fusion` means what the spec says."""
    validation_file: str | None = None
    """Not used: documents are held out of the corpus."""
    suffix: str | None = None
    """The name of the job."""
    seed: int | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    integrations: list[Any] | None = None
    """Not used."""
    metadata: Metadata | None = None
    """Sticks to the job. With a recipe, `fusion.<parameter>` sets a parameter."""
    fusion: dict[str, Any] | None = None
    """The spec."""

    @property
    def settings(self) -> tuple[str, Hyperparameters]:
        """Pointer to the hyperparameters, and those."""
        supervised = self.method.supervised if self.method else None
        if supervised is not None and supervised.hyperparameters is not None:
            return "/method/supervised/hyperparameters", supervised.hyperparameters
        return "/hyperparameters", self.hyperparameters or Hyperparameters()

    def as_asked(self) -> dict[str, Any]:
        """What the job's face says again, and the spec does not."""
        _, settings = self.settings
        asked = {
            "model": self.model if self.model != AS_IN_SPEC else None,
            "training_file": self.training_file if self.training_file != AS_IN_SPEC else None,
            "learning_rate_multiplier": settings.learning_rate_multiplier,
        }
        return {name: value for name, value in asked.items() if value is not None}
