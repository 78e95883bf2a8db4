"""`python -m cli` is `ebbtide`."""

from cli.main import main

if __name__ == "__main__":
    main()
