"""How often a key, a project or an address may ask, counted for all API processes together."""
