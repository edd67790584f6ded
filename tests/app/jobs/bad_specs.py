"""Requests that are no good specs: each with the answer it must get, whoever is asked about it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.app.jobs.builders import REVISION, spec_data

JSON, YAML = "application/json", "application/yaml"
TARGET = {"hub": "org/target", "revision": REVISION}
BRANCH = "main"


@dataclass(frozen=True, kw_only=True, slots=True)
class BadSpec:
    """A body, and what of it is refused: status, code of the problem, and pointer and code of a field."""

    name: str
    body: bytes
    pointer: str
    field_code: str | None = None
    status: int = 422
    code: str = "spec_invalid"
    media_type: str = JSON


def bad_specs(*, allowed: str, foreign_file: str, foreign_model: str) -> list[BadSpec]:
    """All of them. `allowed`: a folder that specs may read, with a folder `model` and a file `text.jsonl`."""
    return [
        *_not_parsed(),
        *_hostile_data(),
        *_wrong_shapes(),
        *_wrong_values(),
        *_wrong_models(),
        *_wrong_text(),
        *_wrong_references(allowed, foreign_file=foreign_file, foreign_model=foreign_model),
    ]


def spec(
    title: str, pointer: str, field_code: str | None = None, /, *, code: str = "spec_invalid", **changes: Any
) -> BadSpec:
    """A good spec with top-level fields replaced."""
    body = json.dumps(spec_data(**changes)).encode()
    return BadSpec(name=title, body=body, pointer=pointer, field_code=field_code, code=code)


def text(name: str, body: bytes | str, *, media_type: str = JSON) -> BadSpec:
    """Something that is not parsed at all."""
    return BadSpec(
        name=name,
        body=body if isinstance(body, bytes) else body.encode(),
        pointer="",
        status=400,
        code="spec_unreadable",
        media_type=media_type,
    )


def data(
    name: str, body: str, pointer: str, field_code: str | None = None, *, media_type: str = JSON
) -> BadSpec:
    """Something that is parsed, and is no spec."""
    return BadSpec(
        name=name, body=body.encode(), pointer=pointer, field_code=field_code, media_type=media_type
    )


def model(ref: Any) -> dict[str, Any]:
    return {"target": {"model": ref}}


def source(ref: Any, name: Any = "mpt") -> dict[str, Any]:
    return {"sources": [{"name": name, "model": ref}]}


def _with(changes: str) -> str:
    """The JSON of a good spec with something put at its beginning."""
    return "{" + changes + ", " + json.dumps(spec_data())[1:]


def _not_parsed() -> Iterator[BadSpec]:
    yield text("empty body", b"")
    yield text("blank body", b" \n\t ")
    yield text("cut off", json.dumps(spec_data())[:-1])
    yield text("two documents", json.dumps(spec_data()) * 2)
    yield text("YAML sent as JSON", "api_version: fusion/v1\nname: small\n")
    yield text("single quotes", "{'api_version': 'fusion/v1'}")
    yield text("not UTF-8", b'{"name": "\xff\xfe"}')
    yield text("UTF-16", '{"name": "small"}'.encode("utf-16"))
    yield text("deeper than Python recurses", "[" * 100_000)
    yield text("an integer of 5000 digits", '{"seed": ' + "1" * 5000 + "}")
    yield text("the same key twice", _with('"name": "first"'))
    yield text("the same key twice below", '{"corpus": {"files": [], "files": []}}')
    yield text("YAML tabs", "api_version:\n\t- x", media_type=YAML)
    yield text("YAML that is not closed", "sources: [", media_type=YAML)
    yield text("YAML that makes objects", "!!python/object/apply:os.system ['true']", media_type=YAML)
    yield text("two YAML documents", "a: 1\n---\nb: 2\n", media_type=YAML)
    yield text("an alias", "a: &x 1\nb: *x\n", media_type=YAML)
    yield text("a bomb of aliases", _alias_bomb(), media_type=YAML)
    yield text("a bomb of merges", _merge_bomb(), media_type=YAML)
    yield text("YAML that holds itself", "a: &x [*x]\n", media_type=YAML)
    yield text("the same YAML key twice", "name: a\nname: b\n", media_type=YAML)
    yield text("deep YAML", "[" * 5000 + "]" * 5000, media_type=YAML)
    for media_type in (
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "*/*",
    ):
        yield BadSpec(
            name=f"sent as {media_type}",
            body=json.dumps(spec_data()).encode(),
            pointer="header:content-type",
            status=415,
            code="unsupported_media_type",
            media_type=media_type,
        )


def _hostile_data() -> Iterator[BadSpec]:
    for body in ("[]", "1", '"text"', "null", "true"):
        yield data(f"no mapping: {body}", body, "", "mapping_expected")
    yield data("an empty YAML document", "# nothing\n", "", "mapping_expected", media_type=YAML)
    yield data(
        "33 deep",
        _with('"deep": ' + '{"a": ' * 32 + "1" + "}" * 32),
        "/deep" + "/a" * 31,
        "nested_too_deeply",
    )
    yield data("33 lists", _with('"deep": ' + "[" * 40 + "]" * 40), "/deep" + "/0" * 31, "nested_too_deeply")
    yield data("NaN", _with('"training": {"learning_rate": NaN}'), "/training/learning_rate", "finite_number")
    yield data(
        "Infinity", _with('"training": {"weight_decay": Infinity}'), "/training/weight_decay", "finite_number"
    )
    yield data(
        "1e999", _with('"training": {"max_grad_norm": 1e999}'), "/training/max_grad_norm", "finite_number"
    )
    yield data("an integer of 400 digits", _with('"seed": ' + "9" * 400), "/seed", "number_too_large")
    yield data(
        "a float of 400 digits",
        _with('"training": {"learning_rate": 1' + "0" * 400 + "}"),
        "/training/learning_rate",
        "number_too_large",
    )
    yield data("half of a surrogate pair", _with('"corpus2": "\\ud800"'), "/corpus2", "text_not_allowed")
    yield data("NUL in a key", _with('"a\\u0000b": 1'), "/a\x00b", "text_not_allowed")
    yield data("YAML date", "name: 2026-01-01\n", "/name", "type_not_allowed", media_type=YAML)
    yield data("YAML binary", "name: !!binary aGVsbG8=\n", "/name", "type_not_allowed", media_type=YAML)
    yield data("YAML key that is a number", "1: x\n", "/1", "key_not_text", media_type=YAML)
    yield data("many values", '{"a": [' + "0," * 60_000 + "0]}", "", "data_too_large")
    yield data(
        "many unknown fields", json.dumps({f"f{n}": 1 for n in range(20_000)}), "", "too_many_problems"
    )
    yield data(
        "an unknown field of 100,000 letters",
        _with('"' + "x" * 100_000 + '": 1'),
        "/" + "x" * 200,
        "extra_forbidden",
    )


def _wrong_shapes() -> Iterator[BadSpec]:
    yield data("no field at all", "{}", "/sources", "missing")
    yield spec("another version", "/api_version", "literal_error", api_version="fusion/v2")
    yield spec("unknown field", "/colour", "extra_forbidden", colour=1)
    yield spec("misspelt field", "/trainig", "extra_forbidden", trainig={})
    yield spec(
        "unknown field at depth",
        "/strategy/alignment/tokenz",
        "extra_forbidden",
        strategy={"alignment": {"tokenz": "dtw"}},
    )
    yield spec(
        "unknown field of a source",
        "/sources/0/weight",
        "extra_forbidden",
        sources=[{"name": "a", "model": TARGET, "weight": 1}],
    )
    yield spec("a model by its name alone", "/target/model", "model_type", **model("org/target"))
    yield spec("a list for a mapping", "/training", "model_type", training=[])
    yield spec("a mapping for a list", "/sources", "list_type", sources={"name": "a"})
    yield spec("null for a mapping", "/target", "model_type", target=None)
    yield spec("no source", "/sources", "too_short", sources=[])
    yield spec(
        "65 sources",
        "/sources",
        "too_long",
        sources=[{"name": f"s{n}", "model": {"path": f"/m/{n}"}} for n in range(65)],
    )


def _wrong_values() -> Iterator[BadSpec]:
    yield spec("text for a number", "/seed", "int_type", seed="1")
    yield spec(
        "a fraction for a whole number", "/training/num_epochs", "int_type", training={"num_epochs": 1.5}
    )
    yield spec("truth for a number", "/training/num_epochs", "int_type", training={"num_epochs": True})
    yield spec("a number for truth", "/evaluation/control", "bool_type", evaluation={"control": 1})
    yield spec("a negative number", "/seed", "greater_than_equal", seed=-1)
    yield spec("a seed of 32 bits", "/seed", "less_than", seed=2**31)
    yield spec(
        "a rate of nothing", "/training/learning_rate", "greater_than", training={"learning_rate": 0.0}
    )
    yield spec("no step", "/training/max_steps", "greater_than_equal", training={"max_steps": 0})
    yield spec(
        "more than all",
        "/corpus/held_out_fraction",
        "less_than",
        corpus={"dataset": {"hub": "a/b", "revision": REVISION}, "held_out_fraction": 1.0},
    )
    yield spec("an unknown preset", "/strategy/preset", "literal_error", strategy={"preset": "best"})
    yield spec(
        "rules that do not fit",
        "/strategy/alignment/dtw_match",
        "value_error",
        strategy={"alignment": {"tokens": "dtw"}},
    )
    yield spec(
        "weights without their rule",
        "/strategy/blending/weights",
        "value_error",
        strategy={"blending": {"weights": {"mpt": 1.0}}},
    )
    yield spec("a name with a line end", "/name", "string_pattern_mismatch", name="small\n")
    yield spec("a name with a control character", "/name", "string_pattern_mismatch", name="sm\x1ball")
    yield spec("a name of 64 letters", "/name", "string_pattern_mismatch", name="a" * 64)
    yield spec(
        "a licence of 1000 letters", "/output/license", "string_too_long", output={"license": "x" * 1000}
    )


def _wrong_models() -> Iterator[BadSpec]:
    for hub in (
        "http://hub/org/x",
        "file:///etc/passwd",
        "s3://bucket/x",
        "hf://org/x@main",
        "../x",
        "org",
        "a/b/c",
        "",
        "-a/b",
        "a b/c",
    ):
        yield spec(
            f"hub {hub!r}",
            "/target/model/hub",
            "string_pattern_mismatch",
            **model({"hub": hub, "revision": REVISION}),
        )
    yield spec(
        "a hub of 300 letters",
        "/target/model/hub",
        "string_too_long",
        **model({"hub": "a/" + "b" * 300, "revision": REVISION}),
    )
    for revision in (BRANCH, "v1.0", REVISION[:12], REVISION.upper(), REVISION + "\n", ""):
        yield spec(
            f"revision {revision!r}",
            "/target/model/revision",
            "string_pattern_mismatch",
            **model({"hub": "a/b", "revision": revision}),
        )
    yield spec("no revision", "/target/model", "value_error", **model({"hub": "a/b"}))
    yield spec(
        "two places at once", "/target/model", "value_error", **model({"path": "/m", "model_id": "model-1"})
    )
    yield spec("no place", "/target/model", "value_error", **model({}))
    yield spec("the target as a source", "/sources/0/model", "value_error", **source(TARGET))
    yield spec(
        "a source twice",
        "/sources/1/model",
        "value_error",
        sources=[{"name": n, "model": {"path": "/m"}} for n in "ab"],
    )
    yield spec(
        "a name twice",
        "/sources/1/name",
        "value_error",
        sources=[{"name": "a", "model": {"path": p}} for p in ("/m", "/n")],
    )
    yield spec("a reserved name", "/sources/0/name", "value_error", **source({"path": "/m"}, "control"))
    yield spec("no name", "/sources/0/name", "string_pattern_mismatch", **source({"path": "/m"}, ""))


def _wrong_text() -> Iterator[BadSpec]:
    yield spec("no text", "/corpus", "value_error", corpus={})
    yield spec(
        "text of two kinds",
        "/corpus",
        "value_error",
        corpus={"files": [{"path": "/t"}], "dataset": {"hub": "a/b", "revision": REVISION}},
    )
    yield spec(
        "a file of two places",
        "/corpus/files/0",
        "value_error",
        corpus={"files": [{"path": "/t", "file_id": "file-1"}]},
    )
    yield spec(
        "an unknown format",
        "/corpus/files/0/format",
        "literal_error",
        corpus={"files": [{"path": "/t", "format": "csv"}]},
    )
    yield spec(
        "1001 files", "/corpus/files", "too_long", corpus={"files": [{"path": f"/{n}"} for n in range(1001)]}
    )
    yield spec(
        "a field name of 201 letters",
        "/corpus/text_field",
        "string_too_long",
        corpus={"files": [{"path": "/t"}], "text_field": "x" * 201},
    )
    yield spec(
        "a dataset at a branch",
        "/corpus/dataset/revision",
        "string_pattern_mismatch",
        corpus={"dataset": {"hub": "a/b", "revision": BRANCH}},
    )


def _wrong_references(allowed: str, *, foreign_file: str, foreign_model: str) -> Iterator[BadSpec]:
    def of_path(name: str, path: str, code: str = "path_not_allowed") -> BadSpec:
        return spec(name, "/target/model/path", code, code=code, **model({"path": path}))

    yield of_path("a path outside the roots", "/etc")
    yield of_path("a path out of a root", f"{allowed}/../x")
    yield of_path("a relative path", "models/x")
    yield of_path("an address for a path", "https://hub/org/x")
    yield of_path("a path of 2000 letters", "/" + "x" * 2000)
    yield of_path("a path that is not there", f"{allowed}/nothing", "path_not_found")
    yield of_path("a file for a model", f"{allowed}/text.jsonl", "path_is_no_folder")
    yield spec(
        "a path of 5000 letters", "/target/model/path", "string_too_long", **model({"path": "/" + "x" * 5000})
    )
    yield spec("NUL in a path", "/target/model/path", "text_not_allowed", **model({"path": "/a\x00b"}))
    yield spec(
        "a folder for text",
        "/corpus/files/0/path",
        "path_is_no_file",
        code="path_is_no_file",
        corpus={"files": [{"path": f"{allowed}/model"}]},
    )
    yield spec(
        "the target as a source by another path",
        "/sources/0/model/path",
        "models_identical",
        code="models_identical",
        **model({"path": f"{allowed}/model"}),
        **source({"path": f"{allowed}/./model/"}),
    )
    yield spec(
        "a model of nobody",
        "/target/model/model_id",
        "model_not_found",
        code="model_not_found",
        **model({"model_id": "model-1"}),
    )
    yield spec(
        "a model of somebody else",
        "/target/model/model_id",
        "model_not_found",
        code="model_not_found",
        **model({"model_id": foreign_model}),
    )
    yield spec(
        "no id of a model",
        "/target/model/model_id",
        "string_pattern_mismatch",
        **model({"model_id": "gpt-4"}),
    )
    yield spec(
        "a file of nobody",
        "/corpus/files/0/file_id",
        "file_not_found",
        code="file_not_found",
        corpus={"files": [{"file_id": "file-1"}]},
    )
    yield spec(
        "a file of somebody else",
        "/corpus/files/0/file_id",
        "file_not_found",
        code="file_not_found",
        corpus={"files": [{"file_id": foreign_file}]},
    )


def _alias_bomb() -> str:
    """Ten lines that make 10 ** 10 strings."""
    lines = ["a0: &a0 " + json.dumps(["x"] * 10)]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 10)]
    return "\n".join(lines)


def _merge_bomb() -> str:
    """Thirty lines whose merges double with each."""
    lines = ["m0: &m0 {k: 1}"]
    lines += [f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 30)]
    return "\n".join(lines)
