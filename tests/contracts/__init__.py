"""What the API promises in its OpenAPI document, and whether it keeps it."""
