"""Documents cut on several threads: the same windows, in the same order, with the same errors."""

from collections.abc import Iterator

import pytest

from fusion.corpus.cutting import cut_documents
from fusion.corpus.documents import Document
from fusion.corpus.windowing import Reader, cut_document
from fusion.errors import CorpusInvalid
from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from tests.support.tiny_jobs import save_models

NUM_DOCUMENTS = 60


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    folders = save_models(tmp_path_factory.mktemp("models"))
    return [Reader(encoder=TextEncoder(load_tokenizer(folder)), max_tokens=14) for folder in folders.values()]


def document(number: int) -> Document:
    """Long and short ones in turns, so that they do not finish in order."""
    num_words = 400 if number % 7 == 0 else 3
    words = (f"word{number * 31 + index} = {index};" for index in range(num_words))
    return Document(text=" ".join(words), domain="default", place=str(number))


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(readers: list[Reader], num_threads: int) -> None:
    found = list(
        cut_documents(
            map(document, range(NUM_DOCUMENTS)), readers=readers, max_tokens=16, num_threads=num_threads
        )
    )

    assert [cut_from.place for cut_from, _ in found] == [str(number) for number in range(NUM_DOCUMENTS)]
    for cut_from, cuts in found:
        expected = list(cut_document(cut_from.text, readers=readers, max_tokens=16))
        assert [cut.text for cut in cuts] == [cut.text for cut in expected]
        for cut, other in zip(cuts, expected, strict=True):
            for mine, theirs in zip(cut.encodings, other.encodings, strict=True):
                assert mine.ids.tolist() == theirs.ids.tolist()
                assert mine.ends.tolist() == theirs.ends.tolist()


def test_few_documents_are_read_ahead(readers: list[Reader]) -> None:
    num_read = 0

    def reading() -> Iterator[Document]:
        nonlocal num_read
        for number in range(NUM_DOCUMENTS):
            num_read += 1
            yield document(number)

    found = cut_documents(reading(), readers=readers, max_tokens=16, num_threads=2)
    next(found)

    assert num_read == 8
    found.close()  # type: ignore[attr-defined]


def test_an_error_comes_in_its_documents_turn(readers: list[Reader]) -> None:
    broken = Document(text="\U0001f642", domain="default", place="broken")
    narrow = [Reader(encoder=reader.encoder, max_tokens=1) for reader in readers]
    found = cut_documents(
        [Document(text="a", domain="default", place="first"), broken],
        readers=narrow,
        max_tokens=16,
        num_threads=2,
    )

    assert next(found)[0].place == "first"
    with pytest.raises(CorpusInvalid, match="exceeds the window"):
        next(found)
