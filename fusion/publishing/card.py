"""The model card: what was fused into what, over which text, and what came of it. Pure text, no I/O.

Names of others (files, domains, licenses) stand in it as text, whatever Markdown or HTML they spell.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fusion.spec import FusionSpec, ObjectiveSpec

TAGS = ["knowledge-fusion", "fusellm", "distillation"]
_LICENSE_UNKNOWN = "unknown"

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """What the card is written from.

    models: facts per model name, `target` first (models.json of `prepare`).
    corpus, alignment, training: the `meta` of those steps' manifests. report: the evaluation report.
    """

    num_parameters: int
    models: Json
    corpus: Json
    alignment: Json
    training: Json
    report: Json


def render_card(spec: FusionSpec, facts: CardFacts) -> str:
    """README.md of the published model: YAML front matter and Markdown."""
    sections = [
        _introduction(spec, facts),
        _how_to_load(spec),
        _models_section(spec, facts.models),
        _corpus_section(facts.corpus),
        _strategy_section(spec, facts.alignment),
        _training_section(spec, facts.training),
        _evaluation_section(spec, facts.report),
        _limits_section(facts.report),
    ]
    return f"---\n{_front_matter(spec, facts.models)}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(spec: FusionSpec, models: Json) -> str:
    """Only repositories of the hub may stand as `base_model`; local checkpoints are named in the text."""
    base_models = [facts["hub"] for facts in models.values() if facts.get("hub")]
    license_name = spec.output.license or models["target"].get("license") or _LICENSE_UNKNOWN
    data: Json = {
        "license": _one_line(license_name),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": TAGS,
    }
    if base_models:
        data["base_model"] = base_models
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _introduction(spec: FusionSpec, facts: CardFacts) -> str:
    names = _join([source.name for source in spec.sources])
    return (
        f"# {spec.name}\n\n"
        f"A language model of {_count(facts.num_parameters)} parameters: the target below, trained on text "
        f"together with the next-token distributions of {names}, by knowledge fusion "
        "([FuseLLM](https://arxiv.org/abs/2401.10491))."
    )


def _how_to_load(spec: FusionSpec) -> str:
    return (
        "## How to load\n\n"
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{spec.name}")  # the folder of this file\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{spec.name}")\n'
        "```\n\n"
        "Architecture and tokenizer are the target's, unchanged. "
        "`manifest.json` lists the sha256 of every file."
    )


def _models_section(spec: FusionSpec, models: Json) -> str:
    order = ["target", *(source.name for source in spec.sources)]
    rows = [
        [
            name,
            _code(facts.get("label", "")),
            _plain(facts.get("architecture", "")),
            _count(facts.get("num_parameters")),
            _plain(facts.get("license") or "not stated"),
            _code(str(facts.get("digest", ""))[:16]),
        ]
        for name, facts in ((name, models[name]) for name in order)
    ]
    header = ["role", "checkpoint", "architecture", "parameters", "license", "digest"]
    return "## Target and sources\n\n" + _table(header, rows)


def _corpus_section(corpus: Json) -> str:
    lines = [
        f"- documents: {_count(corpus.get('num_documents'))}, bytes: {_count(corpus.get('num_bytes'))}, "
        f"windows: {_count(corpus.get('num_windows'))}",
        f"- digest of the text: `{corpus.get('corpus_digest', 'not known')}`",
    ]
    lines += [f"- origin: {_origin(origin)}" for origin in corpus.get("origins", [])]
    domains = corpus.get("domains") or {}
    rows = [
        [_plain(name), *(_count(splits.get(s)) for s in ("train", "held_out"))]
        for name, splits in domains.items()
    ]
    table = _table(["domain", "training documents", "held-out documents"], rows) if rows else ""
    return "\n\n".join(filter(None, ["## Corpus", "\n".join(lines), table]))


def _origin(origin: Json) -> str:
    """One file or data set, with what pins it."""
    name = origin.get("hub") or origin.get("name") or origin.get("file_id")
    pin = origin.get("revision") or origin.get("sha256")
    return f"{_code(str(name))}, {'revision' if origin.get('revision') else 'sha256'} `{pin}`"


def _strategy_section(spec: FusionSpec, alignment: Json) -> str:
    strategy = spec.strategy
    objective, blending = strategy.objective, strategy.blending
    rows = [
        ["preset", strategy.preset],
        ["kept entries per token", str(strategy.extraction.top_k)],
        ["token alignment", strategy.alignment.tokens],
        ["vocabulary map", f"{strategy.vocabulary.map}, duplicates {strategy.vocabulary.duplicates}"],
        ["unaligned positions", strategy.alignment.unaligned],
        ["blending", f"{blending.rule} per {blending.granularity}, score {blending.score}"],
        ["target takes part in blending", "yes" if strategy.target_as_source else "no"],
        ["loss", _loss_formula(objective.clm_weight, objective.divergence, objective.tail)],
        ["loss where no source is followed", f"{_clm_weight_alone(objective):g} CLM"],
        ["a source is followed", objective.follow.replace("_", " ")],
    ]
    won = alignment.get("won_share") or {}
    rows += [[f"positions won by {name}", _percent(share)] for name, share in won.items()]
    if alignment.get("masked_share") is not None:
        rows.append(["positions without a source", _percent(alignment["masked_share"])])
    return (
        "## Strategy\n\n" + _table(["choice", "value"], rows) + "\n\nThe full spec is in `fusion_spec.json`."
    )


def _clm_weight_alone(objective: ObjectiveSpec) -> float:
    alone = objective.clm_weight_alone
    return objective.clm_weight if alone is None else alone


def _loss_formula(clm_weight: float, divergence: str, tail: str) -> str:
    return f"{clm_weight:g} CLM + {1 - clm_weight:g} {divergence.upper()}, tail: {tail}"


def _training_section(spec: FusionSpec, training: Json) -> str:
    settings = spec.training
    rows = [
        ["optimiser steps", _count(training.get("num_steps"))],
        ["predicted tokens", _count(training.get("num_tokens"))],
        ["sequences per step", _count(settings.sequences_per_step)],
        ["learning rate", f"{settings.learning_rate:g}, {settings.schedule}"],
        ["AdamW", f"betas {settings.adam_beta1:g}, {settings.adam_beta2:g}; decay {settings.weight_decay:g}"],
        ["seed", str(spec.seed)],
        *([label, f"{training[key]:.4f}"] for key, label in _LOSSES if training.get(key) is not None),
    ]
    return "## Training\n\n" + _table(["figure", "value"], rows)


_LOSSES = (
    ("loss", "last loss, nats per token"),
    ("clm_loss", "last CLM loss, nats per token"),
    ("fusion_loss", "last divergence, nats per row"),
)


def _evaluation_section(spec: FusionSpec, report: Json) -> str:
    parts = {"overall": report["overall"], **report["domains"]}
    order = ["target", *(source.name for source in spec.sources), "control", "fused"]
    names = [name for name in order if name in report["overall"]["models"]]
    rows = [
        [
            _plain(domain),
            _count(part["documents"]),
            _count(part["bytes"]),
            *(_bits(part["models"][name]["bits_per_byte"]) for name in names),
        ]
        for domain, part in parts.items()
    ]
    verdicts = [
        f"- {_plain(domain)}: {_plain(comparison['sentence'])}"
        for domain, part in parts.items()
        for comparison in part["comparisons"]
    ]
    text = (
        "Bits per byte on held-out documents, lower is better. The *control* is the target trained on the "
        "same text for the same steps without fusion: what it explains is not an effect of fusion."
    )
    table = _table(["domain", "documents", "bytes", *names], rows)
    return "\n\n".join(filter(None, ["## Evaluation", text, table, "\n".join(verdicts)]))


def _limits_section(report: Json) -> str:
    lines = [
        "- Scores are over a held-out part of the training corpus, not over tasks.",
        "- The model inherits the limits, biases and licences of its target and its sources.",
    ]
    excluded = report.get("num_excluded_documents", 0)
    if excluded:
        lines.append(f"- {_count(excluded)} held-out document(s) could not be scored and are left out.")
    return "## Limits\n\n" + "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that means itself: no HTML, no link, no picture, no line of its own."""
    html = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|!#])", r"\\\1", _one_line(html))


def _code(text: str) -> str:
    """A code span, which nothing in it ends."""
    return f"`{_one_line(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+", " ", text)


def _count(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def _bits(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
