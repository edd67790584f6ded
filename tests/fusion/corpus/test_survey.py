"""The held-out part depends on the documents alone."""

import pytest

from fusion.corpus.documents import Document
from fusion.corpus.survey import Survey, survey_corpus
from fusion.errors import CorpusInvalid


def survey(texts: list[str], *, fraction: float = 0.2) -> Survey:
    documents = (Document(text=text, domain="d", place="p") for text in texts)
    return survey_corpus(documents, held_out_fraction=fraction, encoders={})


def test_order_and_duplicates_do_not_matter() -> None:
    texts = [f"document {number}" for number in range(200)]

    rule = survey(texts).rule

    assert rule == survey(texts[::-1] + texts[:5]).rule
    assert 20 < sum(rule.side(text) == "held_out" for text in texts) < 60


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_neither_side_is_empty(fraction: float) -> None:
    texts = ["one", "two", "three"]

    rule = survey(texts, fraction=fraction).rule

    assert {rule.side(text) for text in texts} == {"train", "held_out"}


def test_the_digest_follows_the_text() -> None:
    assert survey(["a", "b"]).digest == survey(["a", "b"]).digest != survey(["a", "c"]).digest


@pytest.mark.parametrize(("texts", "code"), [([], "corpus_empty"), (["same", "same"], "corpus_too_small")])
def test_a_corpus_that_cannot_be_split_is_refused(texts: list[str], code: str) -> None:
    with pytest.raises(CorpusInvalid) as caught:
        survey(texts)

    assert caught.value.code == code
    assert caught.value.hint
