"""`python -m fusion cache`: look at the capture cache, check it, make it smaller. Loads no torch."""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fusion.errors import UserError
from fusion.io.cache_pruning import plan_pruning, prune
from fusion.io.capture_packs import Pack, find_damage, list_packs, pack_folders, remove_pack

CACHE_VARIABLE = "FUSION_CAPTURE_CACHE_DIR"
"""Folder of caches: a worker has one per project in it, the command line one of its own."""
_OWN_NAME = "local"
DEFAULT_CACHE_TEXT = f"{_OWN_NAME} in {CACHE_VARIABLE}, else fusion in the user's cache folder"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

cache_app = typer.Typer(help="The capture cache: list, verify, prune.", no_args_is_help=True)

CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder of the cache; a worker's is capture_cache/<project> in its data folder.",
        show_default=DEFAULT_CACHE_TEXT,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def default_cache() -> Path:
    """The cache of local runs: beside a worker's, else in the user's (XDG_CACHE_HOME, ~/.cache)."""
    given = os.environ.get(CACHE_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) / _OWN_NAME if given else Path(base) / "fusion"


@cache_app.command("list")
def list_command(*, cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """List the packs, the least recently used first."""
    packs = [_describe(pack) for pack in list_packs(cache or default_cache())]
    if as_json:
        _print_json(packs)
        return
    for pack in packs:
        facts = "\t".join(f"{pack[name]}" for name in ("model", "num_windows", "num_rows", "num_bytes"))
        _print(f"{pack['path']}\t{facts}")
    _print(f"{len(packs)} packs, {_megabytes(sum(pack['num_bytes'] for pack in packs))}")


@cache_app.command()
def verify(
    *,
    cache: CacheOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the damaged packs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every byte and compare it with its digest; exit code 1 where something is damaged."""
    folders = pack_folders(cache or default_cache())
    damage = {folder: found for folder in folders if (found := find_damage(folder)) is not None}
    for folder in damage if remove else ():
        remove_pack(folder)
    if as_json:
        _print_json(
            {"num_packs": len(folders), "damaged": [str(folder) for folder in damage], "removed": remove}
        )
    else:
        for found in damage.values():
            _print(f"damaged: {found}")
        _print(f"{len(folders)} packs, {len(damage)} damaged{' and removed' if damage and remove else ''}")
    raise typer.Exit(1 if damage and not remove else 0)


@cache_app.command("prune")
def prune_command(
    *,
    cache: CacheOption = None,
    max_size: Annotated[str | None, typer.Option(help="Keep at most this much, e.g. 20G.")] = None,
    max_age: Annotated[float | None, typer.Option(help="Remove what nobody used for so many days.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove packs, the least recently used first, and what killed writers left behind."""
    pruning = plan_pruning(
        [cache or default_cache()],
        max_bytes=None if max_size is None else parse_size(max_size),
        max_age_seconds=None if max_age is None else max_age * 86_400,
    )
    if not dry_run:
        prune(pruning)
    if as_json:
        removed = [_describe(pack) for pack in pruning.packs]
        _print_json({"dry_run": dry_run, "removed": removed, "num_kept_bytes": pruning.num_kept_bytes})
        return
    for pack in pruning.packs:
        _print(str(pack.folder))
    verb = "would remove" if dry_run else "removed"
    _print(
        f"{verb} {len(pruning.packs)} packs ({_megabytes(pruning.num_bytes)}) and {len(pruning.abandoned)} "
        f"unfinished ones; {pruning.num_kept} stay ({_megabytes(pruning.num_kept_bytes)})"
    )


def parse_size(text: str) -> int:
    """Bytes of `500M`, `20G`, `1.5T` or a plain number; powers of ten.

    Raises:
        UserError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise UserError(f"{text!r} is not a size", code="size_invalid", hint="write it like 500M or 20G")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def _describe(pack: Pack) -> dict[str, Any]:
    unused_days = round((time.time() - pack.last_used) / 86_400, 2)
    place = {"path": str(pack.folder), "num_bytes": pack.num_bytes, "unused_days": unused_days}
    return place | {"model": "?", "num_windows": 0, "num_rows": 0} | pack.facts


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: object) -> None:
    _print(json.dumps(value, indent=2, ensure_ascii=False))
