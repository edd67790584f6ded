"""How much a project may use, how much it does use, and where that is enforced."""
