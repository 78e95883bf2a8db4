"""`python -m cli` is `ebbtide`."""

from cli.main import main

main()
