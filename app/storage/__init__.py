"""Where bytes live: one object store protocol, one implementation over obstore."""
