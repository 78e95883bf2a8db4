"""The one error that a user of Ebbtide can cause and mend."""


class UserError(Exception):
    """Says what is wrong, where, and the repair; the command line prints it and exits 2, the service answers 4xx."""
