"""Sealed secrets: nobody reads them without the key, and nobody moves them."""

import base64
import secrets
import threading
from pathlib import Path

import pytest

from app.sealing import Seals, load_seals
from app.settings import Settings
from fusion.errors import InfrastructureError

OF = "proj-1/whe-1"


@pytest.fixture
def seals() -> Seals:
    return Seals([secrets.token_hex(32)])


@pytest.mark.parametrize("text", ["", "whsec_abc", "ünicode\n\0", "x" * 10_000])
def test_what_was_sealed_opens_again(seals: Seals, text: str) -> None:
    sealed = seals.seal(text, of=OF)

    assert sealed.isascii()
    assert not text or text not in sealed
    assert seals.unseal(sealed, of=OF) == text


def test_the_same_text_is_never_sealed_alike(seals: Seals) -> None:
    assert len({seals.seal("x", of=OF) for _ in range(100)}) == 100


def test_a_sealed_text_opens_in_its_place_only(seals: Seals) -> None:
    with pytest.raises(InfrastructureError, match="altered or belongs elsewhere"):
        seals.unseal(seals.seal("x", of=OF), of="proj-2/whe-1")


def test_every_altered_byte_is_noticed(seals: Seals) -> None:
    version, key_id, *pieces = seals.seal("whsec_abc", of=OF).split(".")
    for number, piece in enumerate(pieces):
        data = base64.urlsafe_b64decode(piece)
        for place in range(len(data)):
            changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            forged = [
                base64.urlsafe_b64encode(changed).decode() if n == number else p for n, p in enumerate(pieces)
            ]
            with pytest.raises(InfrastructureError):
                seals.unseal(".".join([version, key_id, *forged]), of=OF)


@pytest.mark.parametrize("text", ["", "x", "v1.a.b.c", "v2.a.b.c", "v1.....", "v1.é.é.é"])
def test_what_is_no_sealed_text_is_refused(seals: Seals, text: str) -> None:
    with pytest.raises(InfrastructureError):
        seals.unseal(text, of=OF)


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    sealed = Seals([old]).seal("x", of=OF)

    both = Seals([new, old])
    assert both.unseal(sealed, of=OF) == "x"
    assert Seals([new]).unseal(both.seal("y", of=OF), of=OF) == "y"
    with pytest.raises(InfrastructureError, match="not here") as refused:
        Seals([new]).unseal(sealed, of=OF)
    assert "FUSION_SEALING_KEY_FILE" in (refused.value.hint or "")


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    loaded: list[Seals] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(load_seals(settings, create=True))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    sealed = [seals.seal("x", of=OF) for seals in loaded]
    assert [loaded[0].unseal(text, of=OF) for text in sealed] == ["x"] * 8
    assert settings.sealing_key_file.stat().st_mode & 0o777 == 0o600


def test_a_process_that_only_reads_makes_no_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)

    with pytest.raises(InfrastructureError, match="no key to seal with"):
        load_seals(settings).seal("x", of=OF)
    assert not settings.sealing_key_file.exists()


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "sealing_key": f"{'a' * 64}\nshort"})

    with pytest.raises(InfrastructureError, match="FUSION_SEALING_KEY holds 5 bytes"):
        load_seals(settings)
