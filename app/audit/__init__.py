"""The audit log: who asked for which change, from where, and what became of it."""
