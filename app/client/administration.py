"""Calls about who may do what, and who did: projects, keys, audit events."""

from typing import Any

from app.client.calls import PAGE_SIZE, Calls
from app.client.resources.administration import ApiKey, AuditEvent, Me, Project, Secret, Usage


class Administration(Calls):
    """Most of these need the scope `admin`; those that change projects need `operator`."""

    def me(self) -> Me:
        """The key that asks, and the project whose things it sees."""
        return Me.model_validate(self._transport.request("GET", "/v1/me"))

    def create_key(
        self, *, name: str, scopes: list[str] | None = None, expires_in_seconds: int | None = None
    ) -> ApiKey:
        """Create an API key; its `secret` is shown in this answer and never again."""
        body: dict[str, Any] = {"name": name}
        if scopes is not None:
            body["scopes"] = scopes
        if expires_in_seconds is not None:
            body["expires_in_seconds"] = expires_in_seconds
        return ApiKey.model_validate(self._transport.request("POST", "/v1/api_keys", json=body))

    def list_keys(self) -> list[ApiKey]:
        return self._list("/v1/api_keys", ApiKey)

    def rotate_key(self, key_id: str, *, overlap_seconds: int | None = None) -> ApiKey:
        """Create the key that takes the place of this one, which works on for the overlap (a day)."""
        body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        path = f"/v1/api_keys/{key_id}/rotate"
        return ApiKey.model_validate(self._transport.request("POST", path, json=body))

    def revoke_key(self, key_id: str) -> None:
        self._transport.request("DELETE", f"/v1/api_keys/{key_id}")

    def create_secret(self, *, name: str, value: str) -> Secret:
        """Store a secret that specs may name; its value is never shown again."""
        body = {"name": name, "value": value}
        return Secret.model_validate(self._transport.request("POST", "/v1/secrets", json=body))

    def list_secrets(self) -> list[Secret]:
        return self._list("/v1/secrets", Secret)

    def delete_secret(self, secret_id: str) -> None:
        self._transport.request("DELETE", f"/v1/secrets/{secret_id}")

    def create_project(self, *, name: str) -> Project:
        return Project.model_validate(self._transport.request("POST", "/v1/projects", json={"name": name}))

    def list_projects(self) -> list[Project]:
        return self._list("/v1/projects", Project)

    def rename_project(self, project_id: str, *, name: str) -> Project:
        path = f"/v1/projects/{project_id}"
        return Project.model_validate(self._transport.request("PATCH", path, json={"name": name}))

    def change_quotas(self, project_id: str, **limits: float | None) -> Project:
        """Set limits of a project by their names, like `queued_jobs=10`; None takes one away."""
        path = f"/v1/projects/{project_id}"
        return Project.model_validate(self._transport.request("PATCH", path, json={"quotas": limits}))

    def usage(self, *, months: int = 3) -> Usage:
        """What the project uses, against its limits."""
        return Usage.model_validate(self._transport.request("GET", "/v1/usage", params={"months": months}))

    def delete_project(self, project_id: str) -> None:
        """End a project whose jobs have ended: its keys stop and its stored things go."""
        self._transport.request("DELETE", f"/v1/projects/{project_id}")

    def audit_events(
        self,
        *,
        action: str | None = None,
        object_id: str | None = None,
        key_id: str | None = None,
        outcome: str | None = None,
        limit: int = 100,
    ) -> list[AuditEvent]:
        """Requests that asked for a change, the newest first."""
        wanted = {"action": action, "object_id": object_id, "key_id": key_id, "outcome": outcome}
        params = {**wanted, "limit": min(limit, PAGE_SIZE), "order": "desc"}
        return self._list("/v1/audit_events", AuditEvent, params=params, at_most=limit)
