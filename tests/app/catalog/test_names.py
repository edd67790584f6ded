"""Names and paths from requests."""

from pathlib import Path

import pytest

from app.catalog.names import check_filename, check_model_folder
from app.errors import Unprocessable


@pytest.mark.parametrize("name", ["a.jsonl", "with space ü.txt", ".hidden", "..a", "x" * 255])
def test_plain_names_pass(name: str) -> None:
    assert check_filename(name) == name


@pytest.mark.parametrize(
    "name",
    [None, "", ".", "..", "../a", "a/b", "/etc/passwd", "a\\b", "C:\\a", "a\0b", "a\nb", "a\x7f", "x" * 256],
)
def test_what_could_be_a_path_is_refused(name: str | None) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_filename(name)
    assert caught.value.errors[0].pointer == "/file"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("allowed/llama", "private/llama"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "allowed" / "link-out").symlink_to(tmp_path / "private" / "llama")
    (tmp_path / "allowed" / "loop").symlink_to(tmp_path / "allowed" / "loop")
    (tmp_path / "allowed" / "link-in").symlink_to(tmp_path / "allowed" / "llama")
    return tmp_path


def test_a_folder_under_a_root_passes_by_its_real_path(root: Path) -> None:
    for name in ("llama", "link-in", "../allowed/llama"):
        found = check_model_folder(
            f"{root}/allowed/{name}", allowed_roots=[root / "allowed"], pointer="/ref/path"
        )
        assert found == str(root / "allowed" / "llama")


@pytest.mark.parametrize(
    "path",
    [
        "private/llama",
        "allowed/../private/llama",
        "allowed/link-out",
        "allowed-2/llama",
        "allowed/llama\0",
        "allowed/" + "long" * 2000,
        "allowed/loop",
        "/etc",
    ],
)
def test_a_path_outside_the_roots_is_refused(root: Path, path: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_model_folder(f"{root}/{path}", allowed_roots=[root / "allowed"], pointer="/ref/path")
    assert caught.value.code == "path_not_allowed"
    assert caught.value.errors[0].pointer == "/ref/path"


def test_relative_paths_and_empty_roots_are_refused(root: Path) -> None:
    for path, roots in (("allowed/llama", [root]), (f"{root}/allowed/llama", [])):
        with pytest.raises(Unprocessable, match=r"absolute|FUSION_ALLOWED_ROOTS"):
            check_model_folder(path, allowed_roots=roots, pointer="/ref/path")


def test_a_folder_without_a_config_is_no_checkpoint(root: Path) -> None:
    with pytest.raises(Unprocessable, match=r"config\.json"):
        check_model_folder(f"{root}/allowed", allowed_roots=[root], pointer="/ref/path")


def test_a_root_that_only_the_workers_have_is_not_looked_into(tmp_path: Path) -> None:
    path = f"{tmp_path}/elsewhere/llama"

    assert check_model_folder(path, allowed_roots=[tmp_path / "elsewhere"], pointer="/ref/path") == path
