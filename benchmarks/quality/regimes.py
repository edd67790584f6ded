"""The circumstances under which fusion is judged, and what is compared in each."""

from dataclasses import dataclass, replace

from benchmarks.quality.texts import ALL_LIBRARIES
from benchmarks.quality.variants import DEFAULT, PAPER, SINGLE_CHANGES, Variant
from examples.demo.models import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """How much text there is to fuse on, how often it is read, and how good the sources are.

    sources: name of a set of recipes in `Plan.sources`.
    variants: compared besides the control.
    """

    name: str
    description: str
    num_documents: int
    num_epochs: int
    sources: str
    variants: tuple[Variant, ...]
    sequences_per_step: int = 16
    learning_rate: float = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that is done. `target` is trained anew for every seed; the sources are the same for all."""

    regimes: tuple[Regime, ...]
    num_seeds: int
    target: Recipe
    sources: dict[str, tuple[Recipe, ...]]
    libraries: tuple[str, ...]
    """Whose modules are the text."""


_ALL = (DEFAULT, PAPER, *SINGLE_CHANGES)
_SAFETY = tuple(variant for variant in _ALL if variant.group in ("preset", "blending", "follow"))

_TARGET = Recipe(
    name="target",
    likeness="Llama-like",
    family="llama",
    tokenizer="sentencepiece",
    vocabulary_size=2000,
    hidden_size=96,
    num_layers=2,
    domains=("code", "prose"),
    max_chars=1_000_000,
    num_steps=800,
    autocast=True,
)


def _specialists(*, max_chars: int, num_steps: int) -> tuple[Recipe, ...]:
    code = Recipe(
        name="code",
        likeness="MPT-like",
        family="mpt",
        tokenizer="byte_level",
        vocabulary_size=3000,
        hidden_size=160,
        num_layers=4,
        domains=("code",),
        max_chars=max_chars,
        num_steps=num_steps,
        autocast=True,
    )
    prose = Recipe(
        name="prose",
        likeness="OpenLLaMA-like",
        family="llama",
        tokenizer="sentencepiece",
        vocabulary_size=1600,
        hidden_size=160,
        num_layers=4,
        domains=("prose",),
        max_chars=max_chars,
        num_steps=num_steps,
        autocast=True,
    )
    return code, prose


FULL = Plan(
    num_seeds=3,
    target=_TARGET,
    sources={
        "strong": _specialists(max_chars=100_000_000, num_steps=5000),
        "weak": _specialists(max_chars=1_000_000, num_steps=600),
        "hopeless": _specialists(max_chars=300_000, num_steps=300),
    },
    libraries=ALL_LIBRARIES,
    regimes=(
        Regime(
            name="little",
            description="200 documents read 4 times, strong sources",
            num_documents=200,
            num_epochs=4,
            sources="strong",
            variants=_ALL,
        ),
        Regime(
            name="plenty",
            description="1,000 documents read once, strong sources",
            num_documents=1000,
            num_epochs=1,
            sources="strong",
            variants=_ALL,
        ),
        Regime(
            name="weak",
            description="1,000 documents read once, sources that have read no more than the target",
            num_documents=1000,
            num_epochs=1,
            sources="weak",
            variants=_SAFETY,
        ),
        Regime(
            name="hopeless",
            description="1,000 documents read once, sources that know much less than the target",
            num_documents=1000,
            num_epochs=1,
            sources="hopeless",
            variants=_SAFETY,
        ),
    ),
)


def _tiny(recipe: Recipe) -> Recipe:
    return replace(
        recipe,
        vocabulary_size=500,
        hidden_size=32,
        num_layers=1,
        num_steps=8,
        max_chars=60_000,
        autocast=False,
    )


QUICK = Plan(
    num_seeds=1,
    target=_tiny(_TARGET),
    sources={"tiny": tuple(_tiny(recipe) for recipe in FULL.sources["weak"])},
    libraries=("jinja2", "sqlalchemy"),
    regimes=(
        Regime(
            name="quick",
            description="tiny models, 40 documents read once",
            num_documents=40,
            num_epochs=1,
            sources="tiny",
            variants=(DEFAULT, PAPER, SINGLE_CHANGES[0]),
        ),
    ),
)
"""Shows that everything runs."""
