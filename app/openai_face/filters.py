"""What OpenAI's clients narrow a list of jobs to: pairs of metadata, or none at all."""

from typing import Annotated

from fastapi import Depends, Request

from app.jobs.filters import JobFilters
from app.jobs.labels import checked, metadata_of_query


async def _filters(request: Request) -> JobFilters:
    """Other parameters are ignored, as everywhere on this face."""
    pairs = metadata_of_query(request)
    checked(tags=[], metadata=dict(pairs))
    return JobFilters(
        metadata=tuple(dict.fromkeys(pairs)),
        without_metadata=request.query_params.get("metadata") in ("null", ""),
    )


FiltersOfRequest = Annotated[JobFilters, Depends(_filters)]
