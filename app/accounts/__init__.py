"""Who is asking: projects, API keys, and the one place that turns a request into a principal."""
