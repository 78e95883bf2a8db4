"""`ebbtide rollback`."""

from cli.options import say
from cli.promote import ModelArgument, registered


def rollback(model: ModelArgument) -> None:
    """Go back to the champion before this one.

    Example: ebbtide rollback churn
    """
    from training.promotion import rollback as roll_back

    old, new = roll_back(registered(model))
    say(f"{registered(model)}: {new} is champion again instead of {old}; `ebbtide deploy` brings it into service")
