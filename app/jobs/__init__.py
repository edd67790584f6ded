"""Jobs: submitting them, following them, and moving their steps."""
