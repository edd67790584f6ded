"""Which held-out documents are scored."""

from collections import Counter

from fusion.evaluation.documents import read_documents
from fusion.io.windows import Window, windows_path, write_windows


def write_held_out(folder, texts: list[tuple[str, list[str]]]):
    """Documents as (domain, windows); two shards, the second starts in the middle of a document."""
    windows = [
        Window(document=10 + number, domain=domain, text=text, ends_document=text == parts[-1])
        for number, (domain, parts) in enumerate(texts)
        for text in parts
    ]
    write_windows(windows_path(folder, "held_out", 0), windows[:2])
    write_windows(windows_path(folder, "held_out", 1), windows[2:])
    return folder


def test_windows_of_a_document_stay_together_across_shards(tmp_path):
    folder = write_held_out(tmp_path, [("prose", ["one"]), ("code", ["a", "b", "ü"])])

    first, second = read_documents(folder, max_documents=None)

    assert (first.number, first.domain, first.windows, first.num_bytes) == (10, "prose", ("one",), 3)
    assert (second.number, second.domain, second.windows, second.num_bytes) == (
        11,
        "code",
        ("a", "b", "ü"),
        4,
    )


def test_a_part_keeps_the_share_of_every_domain(tmp_path):
    texts = [("prose", [f"text {n}"]) for n in range(12)] + [("code", [f"code {n}"]) for n in range(6)]
    folder = write_held_out(tmp_path, texts)

    chosen = read_documents(folder, max_documents=9)

    assert Counter(document.domain for document in chosen) == {"prose": 6, "code": 3}
    assert [document.number for document in chosen] == sorted(document.number for document in chosen)
    assert chosen == read_documents(folder, max_documents=9)


def test_the_choice_depends_on_the_text_not_on_its_place(tmp_path):
    texts = [("prose", [f"text {n}"]) for n in range(20)]
    forwards = read_documents(write_held_out(tmp_path / "a", texts), max_documents=5)
    backwards = read_documents(write_held_out(tmp_path / "b", texts[::-1]), max_documents=5)

    assert {document.windows for document in forwards} == {document.windows for document in backwards}
