"""`python -m app.cli` is `fusion`."""

from app.cli import main

if __name__ == "__main__":
    main()
