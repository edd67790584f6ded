"""Uploaded files."""

from app.client.resources.resource import Resource


class File(Resource):
    id: str
    filename: str
    bytes: int
    sha256: str
    status: str
    status_details: str | None = None
