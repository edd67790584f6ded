"""Secrets that users store for their jobs: tokens for private repositories of a hub."""
