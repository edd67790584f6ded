"""The contract changes only when somebody means it."""

from tests.contracts.document import difference


def test_the_contract_is_what_it_was() -> None:
    found = difference()

    shown = "\n".join(found[:100])
    assert not found, f"the API has changed; if it should, run `make contract` and look at the diff:\n{shown}"
