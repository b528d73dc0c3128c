"""``python -m tierwise``: the command line."""

from tierwise.cli import main

if __name__ == "__main__":
    main()
