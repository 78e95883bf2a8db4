"""What a server is told by who starts it: handed over in environment variables, read when the service is created."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features.errors import UserError

STORE, DEPLOYED, AS_OF = "EBBTIDE_STORE", "EBBTIDE_DEPLOYED", "EBBTIDE_AS_OF"
EXPOSURES, EXPLORE = "EBBTIDE_EXPOSURES", "EBBTIDE_EXPLORE"


@dataclass(frozen=True)
class Settings:
    """Where the store and the deployed bundles are, and the moment of answers whose request names none.

    Attributes:
        as_of: µs; None is the clock.
        exposures: folder of the exposure log; None: nothing is logged, and nothing explored.
        explore: share of the recommendations that chance fills.
    """

    store: Path
    deployed: Path
    as_of: int | None = None
    exposures: Path | None = None
    explore: float = 0.0

    def to_env(self) -> dict[str, str]:
        """The variables that say this."""
        env = {STORE: str(self.store), DEPLOYED: str(self.deployed)}
        if self.as_of is not None:
            env[AS_OF] = str(self.as_of)
        if self.exposures is not None:
            env |= {EXPOSURES: str(self.exposures), EXPLORE: str(self.explore)}
        return env

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """What the variables say.

        Raises:
            UserError: one that is needed is missing.
        """
        for name in (STORE, DEPLOYED):
            if name not in env:
                raise UserError(f"{name} is not set: start the service with `ebbtide serve`, which sets it")
        as_of = env.get(AS_OF)
        exposures = Path(env[EXPOSURES]) if env.get(EXPOSURES) else None
        moment, share = int(as_of) if as_of else None, float(env.get(EXPLORE) or 0)
        return cls(Path(env[STORE]), Path(env[DEPLOYED]), moment, exposures, share)
