"""Which files of a dataset's repository make up a split. Pure.

The card (README.md) may name them, by patterns; else the names of the files tell, as they do for the Hub's
own viewer. Patterns are matched against the names that the repository has and are never opened as paths or
URLs, so whatever a card says, nothing outside of its repository is read.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fusion.compression import uncompressed_name
from fusion.corpus.readers import Format
from fusion.plain_data import Unreadable, read_yaml

CARD_NAME: Final = "README.md"
MAX_CARD_BYTES: Final = 4 << 20
DEFAULT_CONFIG: Final = "default"
ENDINGS: Final[dict[Format, tuple[str, ...]]] = {
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "text": (".txt", ".text"),
}
"""Of what is read. Where the card names no files, those of the first kind that is there are taken."""
_MAX_WILDCARDS: Final = 8
_WILDCARD: Final = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?[\w-]+\])")
_NAMES_SHOWN: Final = 20
_WORDS_OF_SPLIT: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SHARD: Final = re.compile(r"(?:.*/)?([\w.-]+?)-\d{5}-of-\d{5}[^/]*")
_READ: Final = f"what is read ends in {', '.join(ending for found in ENDINGS.values() for ending in found)}"

Splits = dict[str, list[str]]


class LayoutUnusable(ValueError):
    """There is no such split; the message says what there is instead."""


def files_of_split(names: Iterable[str], *, card: str | None, config: str | None, split: str) -> list[str]:
    """Names of the files of a split, sorted.

    Args:
        names: of all files of the repository. card: its README.md, if it has one.

    Raises:
        LayoutUnusable: the dataset has no such config or split, or none that can be read.
    """
    names = [name for name in names if is_plain(name)]
    configs = _configs_of_card(card) if card is not None else {}
    if configs:
        splits = _of_config(_chosen(configs, config), names)
    elif config in (None, DEFAULT_CONFIG):
        splits = _by_name(names)
    else:
        raise LayoutUnusable(f"it has no config {config!r}: its card names none")
    if split not in splits:
        raise LayoutUnusable(f"it has no split {split!r}; its splits are: {_listed(splits)}")
    unread = [name for name in splits[split] if kind_of(name) is None]
    if unread:
        raise LayoutUnusable(f"{unread[0]} of split {split!r} is not read; {_READ}")
    return sorted(set(splits[split]))


def kind_of(name: str) -> Format | None:
    """By the ending, under that of a compression; None for what is not read."""
    plain = uncompressed_name(name.lower())
    return next((kind for kind, endings in ENDINGS.items() if plain.endswith(endings)), None)


def is_plain(name: str) -> bool:
    """Whether a name stays in the folder that it is put into."""
    parts = name.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)


def _configs_of_card(card: str) -> dict[str, Any]:
    """Entries by name, the default one first; empty where the card says nothing of files."""
    front = re.match(r"---\r?\n(.*?)\r?\n---\s*(?:\n|$)", card, flags=re.DOTALL)
    try:
        data = read_yaml(front[1]) if front else None
    except Unreadable as error:
        raise LayoutUnusable(f"the front matter of its card cannot be read: {error}") from error
    listed = data.get("configs") if isinstance(data, dict) else None
    found = {
        str(item.get("config_name", DEFAULT_CONFIG)): item
        for item in (listed if isinstance(listed, list) else ())
        if isinstance(item, dict) and (item.get("data_files") or item.get("data_dir"))
    }
    return dict(sorted(found.items(), key=lambda item: item[1].get("default") is not True))


def _chosen(configs: Mapping[str, Any], config: str | None) -> Any:
    """The config that was asked for, or the one that goes without saying."""
    if config is None:
        first = next(iter(configs))
        goes_without_saying = configs[first].get("default") is True or len(configs) == 1
        config = first if goes_without_saying else DEFAULT_CONFIG
        if config not in configs:
            raise LayoutUnusable(f"it has several configs, of which one must be named: {_listed(configs)}")
    if config not in configs:
        raise LayoutUnusable(f"it has no config {config!r}; its configs are: {_listed(configs)}")
    return configs[config]


def _of_config(entry: Mapping[str, Any], names: list[str]) -> Splits:
    """`data_files` are relative to `data_dir`; without them the names there tell."""
    prefix = "".join(
        f"{part}/" for part in str(entry.get("data_dir") or "").split("/") if part not in ("", ".")
    )
    inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    data_files = entry.get("data_files")
    found = _matched(data_files, inside) if data_files else _by_name(inside)
    return {split: [prefix + name for name in names] for split, names in found.items()}


def _matched(data_files: Any, names: list[str]) -> Splits:
    """A pattern, several of them, or some for each split."""
    is_by_split = isinstance(data_files, list) and all(isinstance(item, dict) for item in data_files)
    entries = data_files if is_by_split else [{"split": "train", "path": data_files}]
    splits: Splits = defaultdict(list)
    for entry in entries:
        path = entry.get("path")
        for pattern in path if isinstance(path, list) else [path]:
            pieces = _pieces(pattern)
            found = [name for name in names if _fits(name, pieces)]
            if not found:
                raise LayoutUnusable(f"its card names {pattern!r}, of which there is no file in it")
            split = str(entry.get("split", "train"))
            splits[split] += [name for name in found if kind_of(name) is not None] or found
    return dict(splits)


def _pieces(pattern: Any) -> list[str]:
    """Plain text and wildcards, in turn. `*` and `?` stay within a folder, `**` does not; `[...]` is one of
    some characters; nothing else is special."""
    if not isinstance(pattern, str):
        raise LayoutUnusable(f"its card names {pattern!r}, which is no pattern of files")
    pieces = _WILDCARD.split(pattern.removeprefix("./"))
    if len(pieces) > 2 * _MAX_WILDCARDS:
        raise LayoutUnusable(
            f"its card names {pattern[:100]!r}, which has more than {_MAX_WILDCARDS} wildcards"
        )
    for piece in pieces[1::2]:
        if piece.startswith("["):
            _one_of(piece, pattern)
    return pieces


def _fits(name: str, pieces: list[str]) -> bool:
    """Whether a pattern is a name from end to end.

    Strangers write both, and a regular expression with as many wildcards could try for days.
    """
    ends = {0}
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            ends = {end + len(piece) for end in ends if name.startswith(piece, end)}
        elif not ends:
            return False
        elif piece == "**":
            ends = set(range(min(ends), len(name) + 1))
        elif piece == "**/":
            ends |= {place + 1 for place in range(min(ends), len(name)) if name[place] == "/"}
        elif piece == "*":
            ends = {place for end in ends for place in range(end, _end_of_part(name, end) + 1)}
        else:
            allowed = _one_of(piece, piece)
            ends = {end + 1 for end in ends if end < len(name) and allowed.fullmatch(name[end])}
    return len(name) in ends


def _one_of(piece: str, pattern: str) -> re.Pattern[str]:
    """The expression for one character."""
    try:
        return re.compile("[^/]" if piece == "?" else piece.replace("[!", "[^"))
    except re.error as error:
        raise LayoutUnusable(f"its card names {pattern!r}, which is no pattern: {error}") from error


def _end_of_part(name: str, start: int) -> int:
    found = name.find("/", start)
    return len(name) if found < 0 else found


def _by_name(names: list[str]) -> Splits:
    """By names like `data/train-00000-of-00003.parquet`, else by a word in them, else all are `train`."""
    shown = [name for name in names if not _is_hidden(name)]
    of_kind = {kind: [name for name in shown if kind_of(name) == kind] for kind in ENDINGS}
    data = next((found for found in of_kind.values() if found), None)
    if data is None:
        raise LayoutUnusable(f"it holds no file that is read; {_READ}")
    sharded, worded = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for name in data:
        shard = _SHARD.fullmatch(name)
        if shard:
            sharded[shard[1]].append(name)
        word = next((word for word in re.split(r"[^a-z]+", name.lower()) if word in _WORDS_OF_SPLIT), None)
        if word:
            worded[_WORDS_OF_SPLIT[word]].append(name)
    is_sharded = sum(len(found) for found in sharded.values()) == len(data)
    return dict(sharded if is_sharded else worded) or {"train": data}


def _is_hidden(name: str) -> bool:
    """Also what `datasets` itself left about the data."""
    is_about_data = name.endswith(
        ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
    )
    return is_about_data or any(part.startswith((".", "_")) for part in name.split("/"))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:_NAMES_SHOWN]) or "none"
