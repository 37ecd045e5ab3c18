"""``python -m gensat`` is the command ``gensat``."""

from gensat.cli import main

if __name__ == "__main__":
    main()
