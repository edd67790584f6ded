"""How an endpoint gets the object store."""

from typing import Annotated

from fastapi import Depends, Request

from app.storage.store import ObjectStore


async def _store_of(request: Request) -> ObjectStore:
    """The store that `create_app` opened."""
    store: ObjectStore = request.app.state.store
    return store


Store = Annotated[ObjectStore, Depends(_store_of)]
