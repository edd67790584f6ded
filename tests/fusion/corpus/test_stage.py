"""The stage `prepare` as a whole, on tiny checkpoints."""

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from fusion.corpus.stage import run
from fusion.errors import CapacityError, CorpusInvalid, ModelUnusable, SpecInvalid, TokenizerLossy
from fusion.io.atomic import read_json
from fusion.io.manifest import read_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import Window, iter_split, list_shards
from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from fusion.progress import NullProgress, StageReport
from fusion.spec_text import validate_spec
from tests.support.tiny_jobs import save_models, tiny_spec, write_corpus


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


def prepare(
    models: dict[str, Path],
    corpus: Path,
    out_dir: Path,
    *,
    max_tokens_per_window: int = 128,
    limits: dict[str, Any] | None = None,
) -> StageReport:
    data = tiny_spec(models, corpus, limits=limits or {})
    data["corpus"]["max_tokens_per_window"] = max_tokens_per_window
    return run(validate_spec(data), StageInputs(), out_dir, progress=NullProgress())


def by_document(windows: list[Window]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for window in windows:
        texts[window.document] = texts.get(window.document, "") + window.text
    return texts


def test_windows_give_the_documents_back_in_shards(models: dict[str, Path], tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")

    report = prepare(models, corpus, tmp_path / "out", max_tokens_per_window=32)

    splits = {name: list(iter_split(tmp_path / "out", name)) for name in ("train", "held_out")}
    texts = by_document(splits["train"] + splits["held_out"])
    assert [texts[n] for n in sorted(texts)] == [
        json.loads(line)["text"] for line in corpus.read_text().splitlines()
    ]
    assert not {w.document for w in splits["train"]} & {w.document for w in splits["held_out"]}
    assert sum(w.ends_document for w in splits["train"] + splits["held_out"]) == 24
    assert len(list_shards(tmp_path / "out", "train")) == -(-len(splits["train"]) // 8) > 1
    assert report.figures["num_windows"] == len(splits["train"]) + len(splits["held_out"])


def test_every_window_fits_every_model(models: dict[str, Path], tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")

    prepare(models, corpus, tmp_path / "out", max_tokens_per_window=20)

    for folder in models.values():
        encoder = TextEncoder(load_tokenizer(folder))
        assert all(len(encoder.encode(w.text).ids) <= 18 for w in iter_split(tmp_path / "out", "train"))


def test_a_shorter_context_than_asked_for_is_respected(models: dict[str, Path], tmp_path: Path) -> None:
    short = shutil.copytree(models["mpt"], tmp_path / "short")
    config = read_json(short / "config.json")
    (short / "config.json").write_text(json.dumps(config | {"max_seq_len": 16}))
    corpus = write_corpus(tmp_path / "c.jsonl")

    prepare(models | {"mpt": short}, corpus, tmp_path / "out")

    encoder = TextEncoder(load_tokenizer(short))
    assert all(len(encoder.encode(w.text).ids) <= 14 for w in iter_split(tmp_path / "out", "train"))


def test_models_and_corpus_are_described(models: dict[str, Path], tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")

    prepare(models, corpus, tmp_path / "out")

    described = read_json(tmp_path / "out" / "models.json")
    meta = read_manifest(tmp_path / "out", kind="prepared").meta
    assert list(described) == ["mpt", "prose", "target"]
    assert described["mpt"]["vocabulary_size"] == 1632
    assert described["mpt"]["lossy"] == {"documents": 0, "example": None}
    assert meta["num_documents"] == 24
    assert sum(meta["domains"]["code"].values()) == 12
    assert meta["origins"][0]["name"] == "c.jsonl"


def test_the_same_job_gives_the_same_bytes_also_over_leftovers(
    models: dict[str, Path], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")
    leftover = tmp_path / "two" / "train" / "00099.parquet"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"torn")

    prepare(models, corpus, tmp_path / "one")
    prepare(models, corpus, tmp_path / "two")

    assert read_manifest(tmp_path / "one") == read_manifest(tmp_path / "two")


def test_lossy_documents_are_counted_and_one_is_shown(models: dict[str, Path], tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")
    with corpus.open("a") as file:
        file.write(json.dumps({"text": "a mark \u2581 that sentencepiece takes for a space"}) + "\n")

    report = prepare(models, corpus, tmp_path / "out")

    assert report.figures["lossy_documents"] == {"target": 1, "mpt": 0, "prose": 1}
    example = read_json(tmp_path / "out" / "models.json")["prose"]["lossy"]["example"]
    assert example["place"] == "c.jsonl line 25"
    assert "\u2581" in example["text"]


def test_too_many_lossy_documents_refuse_the_tokenizer(models: dict[str, Path], tmp_path: Path) -> None:
    composing = shutil.copytree(models["mpt"], tmp_path / "nfc")
    tokenizer = read_json(composing / "tokenizer.json")
    (composing / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": {"type": "NFC"}}))
    corpus = tmp_path / "c.txt"
    corpus.write_text("".join(unicodedata.normalize("NFD", f"{n} café\n\n") * 500 for n in range(6)))

    with pytest.raises(
        TokenizerLossy, match=r"'mpt' does not reproduce \d+ of \d+ documents.*cafe\u0301"
    ) as caught:
        prepare(models | {"mpt": composing}, corpus, tmp_path / "out")

    assert caught.value.code == "tokenizer_lossy"
    assert caught.value.pointer == "/sources/0/model"
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_disk_is_estimated_before_the_start(models: dict[str, Path], tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")

    with pytest.raises(CapacityError, match=r"needs about .* MB of disk .* allows 1\.00 MB") as caught:
        prepare(models, corpus, tmp_path / "out", limits={"max_disk_bytes": 1_000_000})

    assert caught.value.code == "insufficient_disk"
    assert not (tmp_path / "out" / "train").exists()


def test_corpus_mistakes_stop_the_job_before_anything_is_written(
    models: dict[str, Path], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")
    corpus.write_text(corpus.read_text() + "{broken\n")

    with pytest.raises(CorpusInvalid, match="line 25"):
        prepare(models, corpus, tmp_path / "out")

    assert not (tmp_path / "out" / "train").exists()


def test_a_source_that_is_a_copy_of_the_target_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(models["target"], tmp_path / "copy")
    corpus = write_corpus(tmp_path / "c.jsonl")

    with pytest.raises(SpecInvalid) as caught:
        prepare(models | {"prose": copy}, corpus, tmp_path / "out")

    assert caught.value.code == "models_identical"
    assert caught.value.pointer == "/sources/1/model"


def test_a_tokenizer_larger_than_its_model_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    mixed = shutil.copytree(models["prose"], tmp_path / "mixed")
    shutil.copy(models["mpt"] / "tokenizer.json", mixed / "tokenizer.json")
    shutil.copy(models["mpt"] / "tokenizer_config.json", mixed / "tokenizer_config.json")
    corpus = write_corpus(tmp_path / "c.jsonl")

    with pytest.raises(ModelUnusable) as caught:
        prepare(models | {"prose": mixed}, corpus, tmp_path / "out")

    assert caught.value.code == "tokenizer_exceeds_model"


def test_the_target_is_checked_like_a_source(models: dict[str, Path], tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")

    with pytest.raises(ModelUnusable) as caught:
        prepare(models | {"target": tmp_path / "nowhere"}, corpus, tmp_path / "out")

    assert caught.value.code == "model_not_found"
    assert caught.value.pointer == "/target/model"


@pytest.mark.parametrize("num_cores", [1, 5])
def test_the_number_of_cores_leaves_no_trace(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_cores: int
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")
    prepare(models, corpus, tmp_path / "here", max_tokens_per_window=32)
    monkeypatch.setattr("os.cpu_count", lambda: num_cores)

    prepare(models, corpus, tmp_path / "there", max_tokens_per_window=32)

    files = {path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert len(files) > 4
    for file in files:
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes(), file
