"""What may be set of a simulated shop, and within which bounds; `default.toml` says what each means."""

import math
import tomllib
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from features.errors import UserError

SHIPPED = Path(__file__).parent
CAUSES = ("none", "natural", "soft", "experience")
ARMS = ("hold_out", "reminder", "coupon", "repair", "discovery")


@dataclass(frozen=True)
class Within:
    """The bounds of a number, or of each of a list of `length` numbers."""

    low: float
    high: float
    length: int | None = None


Share = Annotated[float, Within(0, 1)]


@dataclass(frozen=True)
class Shop:
    """The shop's calendar."""

    start: date
    weekday: Annotated[list[float], Within(0, 10, 7)]
    christmas: Annotated[float, Within(0, 10)]
    summer: Annotated[float, Within(-1, 10)]


@dataclass(frozen=True)
class Catalogue:
    """What there is to buy."""

    departments: Annotated[int, Within(1, 1000)]
    groups: Annotated[int, Within(1, 1000)]
    items: Annotated[int, Within(1, 1_000_000)]
    durable: Share
    price: Annotated[float, Within(0.01, 1e6)]
    price_spread: Annotated[float, Within(0, 3)]
    tier_step: Annotated[float, Within(0, 2)]
    cycle_days: Annotated[list[float], Within(1, 1000, 2)]
    complements: Share
    launched: Share
    hits: Share


@dataclass(frozen=True)
class People:
    """Who they are while they are engaged."""

    old: Share
    never_buy: Share
    order_gap_days: Annotated[float, Within(1, 1000)]
    order_gap_spread: Annotated[float, Within(0, 2)]
    rhythm_noise: Annotated[float, Within(0, 1.5)]
    visits_a_week: Annotated[float, Within(0, 14)]
    visits_spread: Annotated[float, Within(0, 2)]
    visits_with_orders: Share
    habits_spread: Annotated[float, Within(0, 2)]
    taste: Annotated[list[float], Within(0, 1, 3)]
    price_bands: Annotated[float, Within(0, 1)]
    hours_spread: Annotated[float, Within(0, 12)]
    needs_end_a_year: Annotated[float, Within(0, 12)]
    pauses_a_year: Annotated[float, Within(0, 4)]
    pause_days: Annotated[list[float], Within(0, 60, 2)]
    invited: Share
    two_devices: Share


@dataclass(frozen=True)
class Visits:
    """What happens in a visit."""

    views: Annotated[float, Within(1, 50)]
    dwell_s: Annotated[float, Within(0.1, 3600)]
    dwell_spread: Annotated[float, Within(0, 3)]
    lists: Share
    search: Share
    empty: Share
    favourite: Share
    cart: Share
    share: Share
    not_interested: Share
    touch: Share
    invite: Share
    login: Share
    anonymous: Share
    anonymous_visits: Share
    anonymous_before: Share
    late: Share
    late_hours: Annotated[float, Within(0, 1000)]


@dataclass(frozen=True)
class Orders:
    """What is bought, and what follows."""

    first: Annotated[float, Within(0, 10)]
    look_around: Share
    new_lines: Annotated[float, Within(0, 20)]
    complement: Share
    more: Share
    delivery_days: Annotated[float, Within(0.1, 60)]
    review: Share


@dataclass(frozen=True)
class Friction:
    """What goes wrong with orders of everybody."""

    trouble: Share
    spread: Annotated[float, Within(0, 3)]
    bad_spell: Share
    payment_failed: Annotated[float, Within(0, 100)]
    late: Annotated[float, Within(0, 100)]
    refund: Annotated[float, Within(0, 100)]
    complaint: Annotated[float, Within(0, 100)]
    complains_too: Share
    lost: Share
    late_days: Annotated[float, Within(0, 60)]


@dataclass(frozen=True)
class Messages:
    """Background campaigns."""

    every_days: Annotated[float, Within(1, 10_000)]
    reach: Share
    hold_out: Annotated[float, Within(0, 100)]
    reminder: Annotated[float, Within(0, 100)]
    coupon: Annotated[float, Within(0, 100)]
    repair: Annotated[float, Within(0, 100)]
    discovery: Annotated[float, Within(0, 100)]
    opened: Share
    opt_out: Share
    within_days: Annotated[float, Within(0.1, 30)]
    buys: Share
    coupon_days: Annotated[float, Within(0, 365)]
    coupon_used: Share
    coupon_discount: Share


@dataclass(frozen=True)
class Response:
    """Added probability of a visit within `messages.within_days` of a message, by its arm; negative: visits lost."""

    reminder: Annotated[float, Within(-1, 1)]
    coupon: Annotated[float, Within(-1, 1)]
    repair: Annotated[float, Within(-1, 1)]
    discovery: Annotated[float, Within(-1, 1)]


@dataclass(frozen=True)
class Survey:
    """Asking why."""

    share: Share
    right: Share


@dataclass(frozen=True)
class Needs:
    """What some users are after for a while, and how it shows."""

    share: Share
    idle: Share
    days: Annotated[list[float], Within(1, 1000, 2)]
    stage_days: Annotated[float, Within(1, 1000)]
    every_days: Annotated[float, Within(0.5, 365)]
    burst_days: Annotated[float, Within(1, 14)]
    missed: Share
    little: Share
    looks: Share


@dataclass(frozen=True)
class Leaving:
    """How many leave, and why."""

    a_year: Annotated[float, Within(0, 50)]
    spread: Annotated[float, Within(0, 2)]
    newcomers: Annotated[float, Within(0, 50)]
    newcomers_days: Annotated[float, Within(0, 365)]
    natural: Annotated[float, Within(0, 100)]
    soft: Annotated[float, Within(0, 100)]
    experience: Annotated[float, Within(0, 100)]
    lead_days: Annotated[float, Within(0, 180)]
    strength: Annotated[float, Within(0, 2)]
    strength_spread: Annotated[float, Within(0, 2)]
    atypical: Share
    habits_change: Annotated[float, Within(0, 2)]
    taste: Share
    crossover: Share


@dataclass(frozen=True)
class Signs:
    """How one cause of leaving shows."""

    days: Annotated[float, Within(1, 1000)]
    days_spread: Annotated[float, Within(0, 2)]
    fall: Annotated[float, Within(0.05, 10)]
    visits: Share
    buying: Share
    need: Share
    views: Annotated[float, Within(0, 10)]
    dwell: Annotated[float, Within(0, 10)]
    carts: Annotated[float, Within(0, 10)]
    opened: Annotated[float, Within(0, 10)]
    opt_out: Annotated[float, Within(0, 100)]
    before_days: Annotated[float, Within(0, 365)]
    before_orders: Annotated[float, Within(0, 10)]
    searches: Annotated[float, Within(0, 10)]
    trouble: Share
    empty: Share
    not_interested: Share


@dataclass(frozen=True)
class Parameters:
    """All of a simulated shop's parameters, a section a field."""

    shop: Shop
    catalogue: Catalogue
    people: People
    visits: Visits
    orders: Orders
    friction: Friction
    messages: Messages
    survey: Survey
    needs: Needs
    leaving: Leaving
    natural: Signs
    soft: Signs
    experience: Signs
    response_engaged: Response
    response_natural: Response
    response_soft: Response
    response_experience: Response


def load(path: Path | None = None) -> Parameters:
    """The shipped parameters, with what a file overrides.

    Args:
        path: a TOML file, or the name of another shipped one: `sparse`, `noisy` or `needs`.

    Raises:
        UserError: the file cannot be read, or sets what is unknown or out of bounds.
    """
    shipped = _read(SHIPPED / "default.toml")
    if path is None:
        return _checked(shipped, SHIPPED / "default.toml")
    named = SHIPPED / f"{path}.toml"
    path = named if not path.exists() and len(path.parts) == 1 and named.is_file() else path
    own = _read(path)
    for section, values in own.items():
        _require_known(path, section, section, shipped)
        if not isinstance(values, dict):
            raise UserError(f"{path} sets {section} to {values!r}; it is a section: [{section}] and its keys below it")
        for key in values:
            _require_known(path, f"{section}.{key}", key, shipped[section])
        shipped[section].update(values)
    return _checked(shipped, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the parameters {path}: {error}") from error


def _require_known(path: Path, name: str, key: str, known: dict[str, Any]) -> None:
    if key not in known:
        raise UserError(f"{path} sets {name}, which a simulated shop does not have; valid here: {', '.join(known)}")


def _checked(values: dict[str, Any], path: Path) -> Parameters:
    sections = {}
    for section in fields(Parameters):
        kind: Any = section.type
        own = values[section.name]
        for key, hint in get_type_hints(kind, include_extras=True).items():
            own[key] = _value(path, f"{section.name}.{key}", own[key], hint)
        sections[section.name] = kind(**own)
    done = Parameters(**sections)
    for name, weights in (
        ("leaving.natural, soft and experience", [done.leaving.natural, done.leaving.soft, done.leaving.experience]),
        ("messages.hold_out, reminder, coupon, repair and discovery", [getattr(done.messages, arm) for arm in ARMS]),
        ("shop.weekday", done.shop.weekday),
        ("friction.payment_failed, late, refund and complaint", _kinds_of_trouble(done.friction)),
    ):
        if sum(weights) <= 0:
            raise UserError(f"{path} sets {name} to 0; these are weights: at least one must be above 0")
    if sum(done.people.taste) > 1:
        raise UserError(f"{path} sets people.taste to {done.people.taste}; these are shares: at most 1 together")
    for name, (low, high) in (
        ("catalogue.cycle_days", done.catalogue.cycle_days),
        ("people.pause_days", done.people.pause_days),
        ("needs.days", done.needs.days),
    ):
        if low > high:
            raise UserError(f"{path} sets {name} to [{low}, {high}]; write the lower bound first")
    groups = done.catalogue.departments * done.catalogue.groups
    if groups > done.catalogue.items:
        raise UserError(
            f"{path} sets catalogue.items to {done.catalogue.items:,}, fewer than the {groups:,} groups of "
            "catalogue.departments x catalogue.groups; a group has at least one item"
        )
    return done


def _kinds_of_trouble(friction: Friction) -> list[float]:
    return [friction.payment_failed, friction.late, friction.refund, friction.complaint]


def _value(path: Path, name: str, value: Any, hint: Any) -> Any:
    if hint is date:
        if type(value) is not date or not date(1971, 1, 1) <= value <= date(2200, 1, 1):
            raise UserError(f"{path} sets {name} to {value!r}; it is a date without quotes, such as 2022-01-01")
        return value
    kind, bounds = get_args(hint)
    if bounds.length is None:
        return _number(path, name, value, bounds, whole=kind is int)
    if not isinstance(value, list) or len(value) != bounds.length:
        raise UserError(f"{path} sets {name} to {value!r}; it is a list of {bounds.length} numbers")
    return [_number(path, name, number, bounds, whole=False) for number in value]


def _number(path: Path, name: str, value: Any, bounds: Within, *, whole: bool) -> Any:
    if type(value) is not int and (whole or type(value) is not float):
        raise UserError(f"{path} sets {name} to {value!r}; it is a {'whole ' if whole else ''}number")
    if not math.isfinite(value) or not bounds.low <= value <= bounds.high:
        raise UserError(f"{path} sets {name} to {value!r}; it must be from {bounds.low:g} to {bounds.high:g}")
    return value if whole else float(value)
