"""What stages leave on disk: manifests, atomic writes, and the formats in which stages meet."""
