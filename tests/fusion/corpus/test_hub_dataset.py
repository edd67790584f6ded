"""Datasets come from a hub, whole and of it alone: the hub is a real server on this machine."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from fusion.corpus.documents import iter_documents
from fusion.errors import CorpusInvalid, InfrastructureError
from fusion.spec import CorpusSpec
from tests.support.private_hub import PrivateHub, private_hub

REVISION = "0123456789abcdef0123456789abcdef01234567"
SECRET = '{"text": "of somebody else"}\n'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PrivateHub]:
    """It serves one dataset, `org/data`, whose folder is empty."""
    (tmp_path / "data").mkdir()
    with private_hub(PrivateHub(token="", folders={"org/data": tmp_path / "data"})) as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def folder(hub: PrivateHub) -> Path:
    return hub.folders["org/data"]


def texts(**given: Any) -> list[str]:
    dataset = {"hub": "org/data", "revision": REVISION, **given}
    corpus = CorpusSpec.model_validate({"dataset": dataset})
    return [document.text for document in iter_documents(corpus, files={})]


def test_parquet_shards_are_read_in_order_and_downloaded_once(hub: PrivateHub, folder: Path) -> None:
    for number in (1, 0):
        table = pa.table({"text": [f"{number}{row}" for row in range(3)], "picture": [b"\xff"] * 3})
        pq.write_table(table, folder / f"train-0000{number}-of-00002.parquet")
    (folder / "README.md").write_text("# Data")
    (folder / "load.py").write_text("raise SystemExit('scripts are not run')")

    assert texts() == ["00", "01", "02", "10", "11", "12"]
    num_asked = sum(path.endswith(".parquet") for path in hub.paths_asked)
    assert texts() == ["00", "01", "02", "10", "11", "12"]

    # A commit does not change, so what lies here is not even asked about.
    assert sum(path.endswith(".parquet") for path in hub.paths_asked) == num_asked
    assert not any(path.endswith(".py") for path in hub.paths_asked)


def test_messages_domains_and_a_card(folder: Path) -> None:
    chat = '{"chat": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'
    (folder / "a.json").write_text(chat)
    (folder / "b.json").write_text("not read")
    (folder / "README.md").write_text("---\nconfigs:\n- data_files: a.*\n---\n")
    corpus = {
        "dataset": {"hub": "org/data", "revision": REVISION, "domain": "talk"},
        "messages_field": "chat",
    }

    (document,) = iter_documents(CorpusSpec.model_validate(corpus), files={})

    assert (document.text, document.domain, document.place) == ("hi\n\nho", "talk", "a.json line 1")


@pytest.mark.parametrize("name", ["data", "org/data2", "json", "csv", "parquet"])
def test_a_folder_of_the_worker_is_no_dataset(
    hub: PrivateHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / name / "train.jsonl").write_text(SECRET)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(CorpusInvalid) as caught:
        texts(hub=name)

    assert (caught.value.code, caught.value.pointer) == ("corpus_dataset_unusable", "/corpus/dataset")
    assert f"the hub has no dataset {name}" in caught.value.message


def test_a_card_has_nothing_read_but_its_own_repository(folder: Path, tmp_path: Path) -> None:
    (folder / "a.jsonl").write_text('{"text": "own"}\n')
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.jsonl"
        for number, pattern in enumerate([str(elsewhere), elsewhere.as_uri(), "../*.jsonl", url]):
            (folder / "README.md").write_text(f"---\nconfigs:\n- data_files: {pattern!r}\n---\n")
            with pytest.raises(CorpusInvalid, match="of which there is no file in it"):
                texts(revision=f"{number:040x}")
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    "name",
    ["/etc", "../data", "./data", "~/data", "file:///etc", "http://hub/a", "hf://datasets/a/b", "a/b/c", ""],
)
def test_a_path_or_an_address_is_no_dataset(name: str) -> None:
    with pytest.raises(ValidationError):
        texts(hub=name)


def test_names_that_lead_elsewhere_are_not_asked_for(hub: PrivateHub, folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"text": "own"}\n')
    hub.more_names = ("../../up.jsonl", "/etc/passwd.jsonl", "a/../../b.jsonl", "back\\slash.jsonl")

    assert texts() == ["own"]
    assert {path.rpartition("/resolve/")[2] for path in hub.paths_asked if "/resolve/" in path} == {
        f"{REVISION}/a.jsonl"
    }


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.py", "open('canary', 'w')", "corpus_dataset_unusable"),
        ("a.pkl", "\x80", "corpus_dataset_unusable"),
        ("a.tar", "", "corpus_dataset_unusable"),
        ("a.csv", "text\nhi\n", "corpus_dataset_unusable"),
        ("a.json", '[{"text": "one document"}]', "corpus_broken_line"),
        ("a.parquet", "PAR1 nonsense", "corpus_broken_file"),
        ("a.jsonl", '{"body": "x"}\n', "corpus_field_missing"),
    ],
)
def test_what_cannot_be_read_is_said(folder: Path, name: str, content: str, code: str) -> None:
    (folder / name).write_text(content)

    with pytest.raises(CorpusInvalid) as caught:
        texts()

    assert (caught.value.code, caught.value.pointer) == (code, "/corpus/dataset")
    assert caught.value.hint


def test_a_dataset_that_cannot_be_reached_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(InfrastructureError) as caught:
        texts()

    assert caught.value.code == "hub_unreachable"
    assert caught.value.pointer == "/corpus/dataset"
    assert "HF_ENDPOINT" in (caught.value.hint or "")
