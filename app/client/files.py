"""Calls about uploaded files: corpora and specs."""

import time
from pathlib import Path
from typing import Any

import httpx2

from app.client.calls import Calls
from app.client.download import OnProgress, download_bytes
from app.client.errors import ClientError
from app.client.resources.files import File
from app.client.uploading import upload_in_parts

WHOLE_FILE_BYTES = 32 << 20
"""Up to this size a file goes in one request."""


class Files(Calls):
    """What jobs read."""

    def upload_file(
        self,
        path: Path,
        *,
        purpose: str = "corpus",
        parallel: int = 4,
        on_progress: OnProgress | None = None,
    ) -> File:
        """Upload a corpus file; its id goes into `corpus.files[].file_id` of a spec.

        A large file goes in parts; called again after an interruption, it sends what is missing.
        """
        if path.stat().st_size > WHOLE_FILE_BYTES:
            return upload_in_parts(
                self._transport, path, purpose=purpose, parallel=parallel, on_progress=on_progress
            )
        with path.open("rb") as file:

            def form() -> dict[str, Any]:
                file.seek(0)
                return {"files": {"file": (path.name, file)}, "data": {"purpose": purpose}}

            # A second copy after a lost answer costs no disk: equal bytes are stored once.
            answer = self._transport.request("POST", "/v1/files", build=form, repeatable=True)
        return File.model_validate(answer)

    def wait_for_file(
        self, file_id: str, *, poll_seconds: float = 1.0, patience_seconds: float = 3600.0
    ) -> File:
        """The file once it is checked: its status is `processed` or `error`.

        Raises:
            ClientError: nobody checked it in time.
        """
        deadline = time.monotonic() + patience_seconds
        while (file := self.get_file(file_id)).status == "uploaded":
            if time.monotonic() > deadline:
                raise ClientError(
                    f"{file_id} was not checked within {patience_seconds:.0f} s",
                    hint="checks are made by the API or by `fusion housekeeper`: does one of them run?",
                )
            time.sleep(poll_seconds)
        return file

    def files(self, *, purpose: str | None = None) -> list[File]:
        return self._list("/v1/files", File, params={"purpose": purpose})

    def get_file(self, file_id: str) -> File:
        return File.model_validate(self._transport.request("GET", f"/v1/files/{file_id}"))

    def delete_file(self, file_id: str) -> None:
        self._transport.request("DELETE", f"/v1/files/{file_id}")

    def download_file(
        self, file_id: str, to: Path, *, parallel: int = 4, on_progress: OnProgress | None = None
    ) -> Path:
        """Download a file and verify it. An interrupted download continues when called again."""
        file = self.get_file(file_id)
        url = httpx2.URL(f"/v1/files/{file_id}/content")
        return download_bytes(
            self._transport,
            url,
            to,
            size=file.bytes,
            sha256=file.sha256,
            parallel=parallel,
            on_progress=on_progress,
        )
