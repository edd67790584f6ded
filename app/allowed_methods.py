"""Which methods a path knows: those of all routes declared for it, where each route knows only its own."""

from collections import defaultdict

from fastapi import Request
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path


def allowed_methods(request: Request) -> list[str]:
    """The methods for `Allow` (RFC 9110, 10.2.1): of the path that answers the request, as declared.

    `/v1/jobs/counts` is a path of its own, although `/v1/jobs/{job_id}` would fit it as well.
    """
    methods = defaultdict[str, set[str]](set)
    for context in iter_route_contexts(request.app.routes):
        if context.path is not None:
            methods[context.path] |= set(context.methods or ())
    found = (path for path in methods if compile_path(path)[0].match(request.url.path))
    return sorted(methods[next(found)])
