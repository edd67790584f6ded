"""Fused models for tools that fetch from the Hugging Face Hub: its routes, answered from our artifacts."""
