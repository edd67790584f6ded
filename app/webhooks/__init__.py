"""Webhooks: what happens in a project, told to addresses of its choice (Standard Webhooks 1.0)."""
