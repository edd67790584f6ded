"""The database: tables, engine, transactions. `session.py` is the only module that commits."""
