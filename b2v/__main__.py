"""`python -m b2v` is `b2v`."""

from b2v.cli import main

if __name__ == "__main__":
    main()
