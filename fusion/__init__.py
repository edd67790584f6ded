"""Knowledge fusion of language models: several sources, one target. See ARCHITECTURE.md."""

__version__ = "0.1.0"
