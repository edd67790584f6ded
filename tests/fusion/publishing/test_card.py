"""The model card, from made-up facts."""

import re

import pytest
import yaml

from fusion.publishing.card import CardFacts, render_card
from fusion.spec import FusionSpec
from fusion.spec_text import validate_spec

SPEC = {
    "api_version": "fusion/v1",
    "name": "storyteller",
    "sources": [
        {"name": "mpt", "model": {"hub": "org/mpt", "revision": "a" * 40}},
        {"name": "prose", "model": {"path": "/models/prose"}},
    ],
    "target": {"model": {"hub": "org/llama", "revision": "b" * 40}},
    "corpus": {"files": [{"path": "/corpus.jsonl"}]},
}
MODELS = {
    "target": {"hub": "org/llama", "revision": "b" * 40, "label": "org/llama@bbbb", "license": "llama2"},
    "mpt": {"hub": "org/mpt", "revision": "a" * 40, "label": "org/mpt@aaaa", "license": "apache-2.0"},
    "prose": {"hub": None, "revision": None, "label": "/models/prose", "license": None},
}
CORPUS = {
    "num_documents": 1234,
    "num_bytes": 5_000_000,
    "num_windows": 1500,
    "corpus_digest": "c0ffee",
    "domains": {"code": {"train": 1000, "held_out": 100}},
    "origins": [{"name": "corpus.jsonl", "file_id": None, "sha256": "f" * 64}],
}


def section(bits: float | None) -> dict:
    return {
        "documents": 12,
        "bytes": 3456,
        "models": {"target": {"bits_per_byte": 1.25}, "fused": {"bits_per_byte": bits}},
        "comparisons": [{"sentence": "fused is worse than control (made up)"}],
    }


def card(
    *,
    output: dict | None = None,
    excluded: int = 0,
    models: dict | None = None,
    corpus: dict | None = None,
    domain: str = "a|b",
) -> str:
    spec: FusionSpec = validate_spec({**SPEC, "output": output or {}})
    facts = CardFacts(
        num_parameters=7_000_000,
        models=models or MODELS,
        corpus=corpus or CORPUS,
        alignment={"won_share": {"mpt": 0.25}, "masked_share": 0.1},
        training={"num_steps": 10, "num_tokens": 2048, "loss": 2.5},
        report={
            "overall": section(1.125),
            "domains": {domain: section(None)},
            "num_excluded_documents": excluded,
        },
    )
    return render_card(spec, facts)


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter_is_yaml_that_the_hub_understands():
    data = front_matter(card())

    assert data["license"] == "llama2"
    assert data["base_model"] == ["org/llama", "org/mpt"]
    assert data["library_name"] == "transformers"
    assert "knowledge-fusion" in data["tags"]


def test_the_spec_overrides_the_license():
    assert front_matter(card(output={"license": "cc-by-4.0"}))["license"] == "cc-by-4.0"


def test_lineage_and_figures_are_named():
    text = card()

    for fact in ("org/mpt@aaaa", "/models/prose", "c0ffee", "f" * 64, "1,234", "25.0%", "2,048", "2.5000"):
        assert fact in text
    assert "| overall | 12 | 3,456 | 1.2500 | 1.1250 |" in text
    assert "- overall: fused is worse than control (made up)" in text


def test_missing_figures_and_odd_names_do_not_break_tables():
    text = card()

    assert "| a\\|b | 12 | 3,456 | 1.2500 | none |" in text


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=https://evil.example/x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/pixel)",
    "x`<b>y</b>`",
    "``` \n</code><script>",
    "a\n\n---\nlicense: mit\n---\n# Heading",
    "a\r\n| b | c |\u2028- item",
    "<!-- comment",
    "&lt;script&gt;",
    "a | b \\| c",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_others_are_text(text: str):
    models = {name: {**facts, "license": text, "label": text} for name, facts in MODELS.items()}
    origins = [{"name": text, "file_id": None, "sha256": "f" * 64}]
    corpus = {**CORPUS, "domains": {text: {"train": 1, "held_out": 1}}, "origins": origins}
    plain = card(models=MODELS | {"target": MODELS["target"] | {"license": "x"}}, domain="x")

    told = card(models=models, corpus=corpus, domain=text)

    shown = front_matter(told)
    assert re.sub(r"\s+", "", shown.pop("license")) == re.sub(r"\s+", "", text)
    assert shown == {key: value for key, value in front_matter(plain).items() if key != "license"}
    body, plain_body = (one.split("---\n", 2)[2] for one in (told, plain))
    kinds = [type_of_line(line) for line in body.splitlines()]
    assert kinds == [type_of_line(line) for line in plain_body.splitlines()]
    assert [line.count("|") - line.count("\\|") for line in body.splitlines()] == [
        line.count("|") for line in plain_body.splitlines()
    ]
    text_alone = re.sub(r"```python.*?```|\\.|`[^`\n]*`", "", body, flags=re.DOTALL)
    assert not re.search(r"<|>|`|!\[", text_alone)
    assert re.findall(r"\]\(([^)]*)\)", text_alone) == ["https://arxiv.org/abs/2401.10491"]


def type_of_line(line: str) -> str:
    """What begins a heading, an item or a row."""
    return line[:2] if line[:1] in "#-|" else ""


def test_excluded_documents_are_admitted():
    assert "could not be scored" not in card()
    assert "3 held-out document(s) could not be scored" in card(excluded=3)


def test_the_loss_is_described_where_a_source_is_followed_and_elsewhere():
    text = card()

    assert "0.5 CLM + 0.5 CE, tail: sampled" in text
    assert "| loss where no source is followed | 1 CLM |" in text
    assert "| a source is followed | while better |" in text
