"""`ebbtide serve`."""


def serve() -> None:
    """x"""
