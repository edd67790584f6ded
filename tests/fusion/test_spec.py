"""The spec accepts what it documents, and says what is wrong with the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from fusion.errors import SpecInvalid
from fusion.spec import PRESETS, FusionSpec, ModelRef, spec_schema
from fusion.spec_text import absolute_paths, load_spec, parse_spec, validate_spec

REVISION = "0123456789abcdef0123456789abcdef01234567"


def spec_data(**changes: Any) -> dict[str, Any]:
    return {
        "api_version": "fusion/v1",
        "sources": [{"name": "mpt", "model": {"hub": "mosaicml/mpt-7b", "revision": REVISION}}],
        "target": {"model": {"path": "/models/llama"}},
        "corpus": {"files": [{"path": "/data/text.jsonl"}]},
        **changes,
    }


def invalid(**changes: Any) -> SpecInvalid:
    with pytest.raises(SpecInvalid) as caught:
        validate_spec(spec_data(**changes))
    return caught.value


def test_a_small_spec_is_enough() -> None:
    spec = validate_spec(spec_data())
    assert spec.speaker_names == ["target", "mpt"]
    assert spec.strategy.alignment.tokens == "boundary"


def test_yaml_and_json_mean_the_same() -> None:
    from_json = parse_spec(json.dumps(spec_data()))
    from_yaml = parse_spec(
        f"""
        api_version: fusion/v1
        sources: [{{name: mpt, model: {{hub: mosaicml/mpt-7b, revision: "{REVISION}"}}}}]
        target: {{model: {{path: /models/llama}}}}
        corpus: {{files: [{{path: /data/text.jsonl}}]}}
        """
    )
    assert from_json == from_yaml
    assert from_json.digest() == from_yaml.digest()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_stored_spec_is_explicit_and_comes_back_equal(preset: str) -> None:
    spec = validate_spec(spec_data(strategy={"preset": preset}))
    stored = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert FusionSpec.model_validate(stored) == spec


def test_paper_preset_is_the_published_method() -> None:
    strategy = validate_spec(spec_data(strategy={"preset": "paper"})).strategy
    assert (strategy.extraction.top_k, strategy.objective.tail) == (10, "renormalise")
    assert (strategy.alignment.tokens, strategy.vocabulary.map) == ("dtw", "min_edit_distance")
    assert strategy.alignment.unaligned == "one_hot_current"
    assert strategy.objective.clm_weight == 0.9


def test_a_field_overrides_its_preset_and_leaves_the_rest() -> None:
    strategy = validate_spec(spec_data(strategy={"preset": "paper", "extraction": {"top_k": 5}})).strategy
    assert strategy.extraction.top_k == 5
    assert strategy.alignment.tokens == "dtw"


@pytest.mark.parametrize(
    ("changes", "pointer", "says"),
    [
        ({"surprise": 1}, "/surprise", "there is no field"),
        ({"strategy": {"preset": "best"}}, "/strategy/preset", "'default' or 'paper'"),
        ({"strategy": {"extraction": {"topk": 3}}}, "/strategy/extraction/topk", "did you mean 'top_k'?"),
        ({"sources": []}, "/sources", "at least 1"),
        ({"seed": "7"}, "/seed", "integer"),
        ({"api_version": "fusion/v0"}, "/api_version", "fusion/v1"),
        ({"corpus": {}}, "/corpus", "either files or dataset"),
        ({"target": {"model": {}}}, "/target/model", "exactly one of hub, path or model_id"),
        ({"target": {"model": {"hub": "a/b"}}}, "/target/model", "full commit hash"),
        (
            {"target": {"model": {"hub": "a/b", "revision": "main"}}},
            "/target/model/revision",
            "40 hexadecimal digits",
        ),
        (
            {"target": {"model": {"path": "/x", "revision": REVISION}}},
            "/target/model",
            "revision belongs to hub",
        ),
        ({"training": {"learning_rate": 0}}, "/training/learning_rate", "greater than 0"),
        ({"training": {"dtype": "float16"}}, "/training/dtype", "'float32' or 'bfloat16'"),
        (
            {"strategy": {"alignment": {"tokens": "dtw"}}},
            "/strategy/alignment/dtw_match",
            "min_edit_distance",
        ),
        (
            {"strategy": {"preset": "paper", "alignment": {"strict": True}}},
            "/strategy/alignment/strict",
            "alignment.strict",
        ),
        ({"strategy": {"blending": {"rule": "best_of"}}}, "/strategy/blending/rule", "'min_ce', 'avg_ce'"),
        (
            {"strategy": {"alignment": {"tokens": "greedy"}}},
            "/strategy/alignment/tokens",
            "'boundary' or 'dtw'",
        ),
        (
            {"strategy": {"vocabulary": {"map": "nearest"}}},
            "/strategy/vocabulary/map",
            "'byte_prefix', 'exact'",
        ),
        ({"strategy": {"blending": {"rule": "weighted"}}}, "/strategy/blending/rule", "blending.weights"),
        ({"strategy": {"blending": {"weights": {"mpt": 1}}}}, "/strategy/blending/weights", "'weighted'"),
    ],
)
def test_bad_fields_are_named(changes: dict[str, Any], pointer: str, says: str) -> None:
    error = invalid(**changes)
    assert error.pointer == pointer
    assert says in error.message
    assert error.category == "user"
    assert error.hint


def test_source_and_target_must_differ() -> None:
    error = invalid(sources=[{"name": "a", "model": {"path": "/models/llama"}}])
    assert "target_as_source" in error.message


def test_the_same_checkpoint_twice_is_refused() -> None:
    model = {"path": "/models/mpt"}
    error = invalid(sources=[{"name": "a", "model": model}, {"name": "b", "model": model}])
    assert "same checkpoint as source 'a'" in error.message


@pytest.mark.parametrize(("names", "says"), [(["a", "a"], "used twice"), (["target", "a"], "reserved")])
def test_source_names_are_unique_and_free(names: list[str], says: str) -> None:
    sources = [{"name": name, "model": {"path": f"/m/{index}"}} for index, name in enumerate(names)]
    assert says in invalid(sources=sources).message


def test_weights_name_every_speaker() -> None:
    blending = {"rule": "weighted", "weights": {"mpt": 1.0, "other": 1.0}}
    error = invalid(strategy={"blending": blending})
    assert "missing: ['target']" in error.message
    assert "unknown: ['other']" in error.message


def test_several_mistakes_are_told_at_once() -> None:
    error = invalid(seed=-1, surprise=1)
    assert "/seed" in error.message
    assert "/surprise" in error.message


@pytest.mark.parametrize("text", ["- a\n- b", "just words", "{unclosed", "a: [1"])
def test_text_that_is_no_spec(text: str) -> None:
    with pytest.raises(SpecInvalid, match="spec") as caught:
        parse_spec(text)
    assert caught.value.code == "spec_unreadable"


def test_paths_are_relative_to_the_spec_file(tmp_path: Path) -> None:
    data = spec_data(target={"model": {"path": "models/t"}}, corpus={"files": [{"path": "../c.jsonl"}]})
    (tmp_path / "spec.json").write_text(json.dumps(data))
    spec = load_spec(tmp_path / "spec.json")
    assert dict(spec.local_paths()) == {
        "/target/model/path": str(tmp_path / "models/t"),
        "/corpus/files/0/path": str(tmp_path.parent / "c.jsonl"),
    }
    assert absolute_paths(spec, base=Path("/elsewhere")) == spec


def test_what_stands_for_the_name_of_a_secret_is_not_repeated() -> None:
    error = invalid(target={"model": {"hub": "a/b", "revision": "0" * 40, "secret": "hf_value with space"}})

    assert "/target/model/secret: expected the name" in error.message
    assert "hf_value" not in error.message


def test_a_missing_spec_file_is_told() -> None:
    with pytest.raises(SpecInvalid, match="no spec at"):
        load_spec(Path("/nowhere/spec.yaml"))


def test_every_field_of_the_schema_is_described() -> None:
    schema = spec_schema()
    strategy = schema["$defs"]["ObjectiveSpec"]["properties"]
    assert (
        strategy["clm_weight"]["description"] == "The paper's lambda, at rows that a speaker is followed at."
    )
    assert schema["additionalProperties"] is False


def test_a_spec_without_a_secret_is_one_for_releases_that_know_none() -> None:
    ref = {"hub": "org/model", "revision": "0" * 40}

    assert "secret" not in ModelRef.model_validate(ref).model_dump(mode="json")
    assert ModelRef.model_validate({**ref, "secret": "token"}).model_dump(mode="json")["secret"] == "token"
