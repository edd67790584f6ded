"""`python -m fusion cache`, and that `fusion cache` is the same program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusion.__main__ import app
from fusion.cache_commands import default_cache, parse_size
from fusion.errors import UserError
from fusion.io.capture_packs import pack_folders
from tests.fusion.io.cached_windows import captures, open_cache


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for start in (0, 5):
        open_cache(tmp_path).put(captures(range(start, start + 5)))
    return tmp_path


def ask(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["cache", *arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_list_shows_every_pack(cache: Path) -> None:
    packs = json.loads(ask("list", "--cache", str(cache), "--json"))

    assert {(pack["model"], pack["num_windows"], pack["num_rows"]) for pack in packs} == {("m", 5, 10)}
    assert "2 packs" in ask("list", "--cache", str(cache))
    assert "0 packs" in ask("list", "--cache", str(cache / "none"))


def test_verify_finds_damage_and_removes_it_when_told(cache: Path) -> None:
    assert "0 damaged" in ask("verify", "--cache", str(cache))
    [broken, whole] = pack_folders(cache)
    data = bytearray((broken / "windows.bin").read_bytes())
    data[100] ^= 1
    (broken / "windows.bin").write_bytes(data)

    assert "sha256" in ask("verify", "--cache", str(cache), exit_code=1)
    assert pack_folders(cache) == [broken, whole]
    assert "1 damaged and removed" in ask("verify", "--cache", str(cache), "--remove")
    assert pack_folders(cache) == [whole]


def test_prune_says_before_it_does(cache: Path) -> None:
    size = str(max(pack["num_bytes"] for pack in json.loads(ask("list", "--cache", str(cache), "--json"))))

    assert "would remove 1 packs" in ask("prune", "--cache", str(cache), "--max-size", size, "--dry-run")
    assert len(pack_folders(cache)) == 2
    told = json.loads(ask("prune", "--cache", str(cache), "--max-size", size, "--json"))
    assert [pack["path"] for pack in told["removed"]] != [str(folder) for folder in pack_folders(cache)]
    assert len(pack_folders(cache)) == 1
    assert "removed 1 packs" in ask("prune", "--cache", str(cache), "--max-age", "0")
    assert pack_folders(cache) == []


@pytest.mark.parametrize(("text", "size"), [("7", 7), ("500M", 500_000_000), ("1.5 gb", 1_500_000_000)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "ten"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a size"):
        parse_size(text)


def test_the_place_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSION_CAPTURE_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache() == Path("/x/fusion")
    monkeypatch.setenv("FUSION_CAPTURE_CACHE_DIR", "/y")
    assert default_cache() == Path("/y/local")


def test_the_service_s_command_hands_everything_on(cache: Path) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "app.cli", "cache", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    assert "2 packs" in run("list", "--cache", str(cache))
    assert "prune" in run("--help")
