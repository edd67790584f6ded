"""The jobs of the service as OpenAI's fine-tuning API shows them: one table of jobs, two faces."""
