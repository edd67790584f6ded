"""Which files make up a split: as the card says, else as the names tell, and never anything else."""

from typing import Any

import pytest
import yaml

from fusion.corpus.dataset_layout import LayoutUnusable, files_of_split

CARD = "README.md"
SHARDS = [f"data/{split}-0000{number}-of-00002.parquet" for split in ("train", "extra") for number in (0, 1)]


def card(*configs: dict[str, Any]) -> str:
    return f"---\n{yaml.safe_dump({'license': 'mit', 'configs': list(configs)})}---\n# A dataset\n"


def chosen(
    names: list[str], *, split: str = "train", text: str | None = None, config: str | None = None
) -> list[str]:
    return files_of_split([CARD, *names], card=text, config=config, split=split)


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (SHARDS, "train", SHARDS[:2]),
        (SHARDS, "extra", SHARDS[2:]),
        (["a.jsonl", "b.jsonl"], "train", ["a.jsonl", "b.jsonl"]),
        (["train.jsonl.gz", "my-test.jsonl.gz", "notes.txt"], "train", ["train.jsonl.gz"]),
        (["train.jsonl", "dev.jsonl"], "validation", ["dev.jsonl"]),
        (["training/a.json", "eval/a.json"], "test", ["eval/a.json"]),
        (["pretraining_data.txt"], "train", ["pretraining_data.txt"]),
        (["a.parquet", "a.jsonl", "a.txt"], "train", ["a.parquet"]),
        (["a.txt", "dataset_infos.json", ".hidden/a.parquet", "_old/a.jsonl"], "train", ["a.txt"]),
    ],
)
def test_without_a_card_names_tell(names: list[str], split: str, expected: list[str]) -> None:
    assert chosen(names, split=split) == expected
    assert chosen(names, split=split, text="---\nlicense: mit\n---\n") == expected
    assert chosen(names, split=split, text="no front matter", config="default") == expected


@pytest.mark.parametrize(
    ("data_files", "split", "expected"),
    [
        ("data/*.jsonl", "train", ["data/a.jsonl", "data/b1.jsonl"]),
        ("**.jsonl", "train", ["data/a.jsonl", "data/b1.jsonl", "data/deep/c.jsonl"]),
        ("**/c.jsonl", "train", ["data/deep/c.jsonl"]),
        ("./data/b[0-9].jsonl", "train", ["data/b1.jsonl"]),
        ("data/b[!a-z].jsonl", "train", ["data/b1.jsonl"]),
        (["data/a.jsonl", "data/?1.jsonl"], "train", ["data/a.jsonl", "data/b1.jsonl"]),
        ([{"split": "x", "path": "data/a*"}, {"split": "y", "path": "data/b*"}], "y", ["data/b1.jsonl"]),
        ([{"split": "x", "path": ["data/a*", "data/b*"]}], "x", ["data/a.jsonl", "data/b1.jsonl"]),
        (
            [{"split": "x", "path": "data/b*"}, {"split": "x", "path": "**/a*"}],
            "x",
            ["data/a.jsonl", "data/b1.jsonl"],
        ),
    ],
)
def test_a_card_says(data_files: Any, split: str, expected: list[str]) -> None:
    names = ["data/a.jsonl", "data/b1.jsonl", "data/deep/c.jsonl", "data/picture.png"]

    assert chosen(names, split=split, text=card({"data_files": data_files})) == expected


def test_configs_are_named_or_go_without_saying() -> None:
    names = ["en/train.jsonl", "de/train.jsonl", "de/test.jsonl"]
    two = [{"config_name": name, "data_dir": f"./{name}"} for name in ("en", "de")]

    assert chosen(names, text=card(two[0])) == names[:1]
    assert chosen(names, text=card(*two), config="de") == names[1:2]
    assert chosen(names, text=card(*two), config="de", split="test") == names[2:]
    assert chosen(names, text=card(two[0], two[1] | {"default": True})) == names[1:2]
    assert chosen(names, text=card(two[1], {"config_name": "default", "data_files": "en/*"})) == names[:1]
    within = {"data_dir": "de", "data_files": [{"split": "x", "path": "te*"}]}
    assert chosen(names, text=card(within), split="x") == names[2:]


@pytest.mark.parametrize(
    ("names", "text", "asked", "message"),
    [
        (["a.jsonl"], None, {"split": "dev"}, "no split 'dev'; its splits are: train"),
        (["a.csv", "a.py"], None, {}, r"no file that is read.*\.parquet"),
        (["a.csv"], card({"data_files": "a.csv"}), {}, r"a\.csv of split 'train' is not read"),
        (["a.jsonl"], None, {"config": "en"}, "no config 'en': its card names none"),
        (["a.jsonl"], card({"data_files": "*"}), {"config": "en"}, "its configs are: default"),
        (
            ["a.jsonl"],
            card({"config_name": "x", "data_files": "*"}, {"config_name": "y", "data_files": "*"}),
            {},
            "one must be named: x, y",
        ),
        (["a.jsonl"], card({"data_files": "b*"}), {}, "names 'b\\*', of which there is no file"),
        (["a.jsonl"], card({"data_files": [{"split": "train"}]}), {}, "None, which is no pattern"),
        (["a.jsonl"], card({"data_files": [5]}), {}, "5, which is no pattern"),
        (["a.jsonl"], card({"data_files": "[z-a]*"}), {}, "no pattern"),
        (["a.jsonl"], card({"data_files": "*a" * 9}), {}, "more than 8 wildcards"),
        (["a.jsonl"], "---\nconfigs: &a [*a]\n---\n", {}, "front matter"),
    ],
)
def test_what_there_is_instead_is_said(
    names: list[str], text: str | None, asked: dict[str, str], message: str
) -> None:
    with pytest.raises(LayoutUnusable, match=message):
        chosen(names, text=text, **asked)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl", {"a.jsonl", "b.jsonl"}),
        ("**.jsonl", {"a.jsonl", "b.jsonl", "d/a.jsonl", "d/e/a.jsonl"}),
        ("**/a.jsonl", {"a.jsonl", "d/a.jsonl", "d/e/a.jsonl"}),
        ("d/**/a.jsonl", {"d/a.jsonl", "d/e/a.jsonl"}),
        ("d/*/a.jsonl", {"d/e/a.jsonl"}),
        ("*/a.jsonl", {"d/a.jsonl"}),
        ("**d**a*", {"d/a.jsonl", "d/e/a.jsonl"}),
        ("?.jsonl", {"a.jsonl", "b.jsonl"}),
        ("[!a].jsonl", {"b.jsonl"}),
        ("[b-c].json?", {"b.jsonl"}),
        ("./a.jsonl", {"a.jsonl"}),
    ],
)
def test_wildcards_mean_what_the_hub_means(pattern: str, expected: set[str]) -> None:
    names = ["a.jsonl", "b.jsonl", "d/a.jsonl", "d/e/a.jsonl"]

    assert set(chosen(names, text=card({"data_files": pattern}))) == expected


@pytest.mark.timeout(10)
def test_no_pattern_of_a_stranger_is_tried_for_long() -> None:
    with pytest.raises(LayoutUnusable, match="of which there is no file"):
        chosen(["a" * 200], text=card({"data_files": "**a" * 7 + "b"}))


@pytest.mark.parametrize(
    "pattern",
    [
        "/etc/passwd", "../*", "data/../../x.jsonl", "file:///etc/passwd", "http://127.0.0.1/x.jsonl",
        "https://example.com/x.parquet", "s3://bucket/x.parquet", "hf://datasets/other/private/x.jsonl",
        "zip://x.jsonl::http://127.0.0.1/a.zip", "~/x.jsonl", "\\\\host\\share\\x.jsonl",
    ],
)  # fmt: skip
def test_no_pattern_leads_out_of_the_repository(pattern: str) -> None:
    for data_files in (pattern, [{"split": "train", "path": pattern}]):
        with pytest.raises(LayoutUnusable, match="of which there is no file in it"):
            chosen(["a.jsonl", "../x.jsonl", "/etc/passwd"], text=card({"data_files": data_files}))
