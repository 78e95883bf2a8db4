"""What the playbook's ladders are worth, in simulated shops where it is known how users answer to a contact.

    python -m benchmarks.ladder                                       # three shops of 1,000 users, about six minutes
    python -m benchmarks.ladder --users 10000 --only default
    python -m benchmarks.ladder --beside benchmarks/ladder.toml       # as `results/ladder.json` was made

Writes `results/ladder.json` and prints tables. Each shop lives for a year with campaigns of its own; a churn model and
the facts of the audience are learned from that year. Then, for 60 days, each policy looks every morning at the log as
it is by then and writes its contacts into it; users answer as `training.simulation.contacts` has it, by the same dice
under every policy. What came of it is told by 30 days more. No policy sees the truth. The shipped ladders were
not chosen on these shops; those of `ladder.toml` were, on the shop default with seed 11.

- **nobody**; **everybody**: whoever is known on the first day gets the three-step recall, whatever their state;
  **ladders**: of the shipped playbook those against leaving, `prevent…`, `recall…`, `win_back`; **highest risk**: each
  day as many contacts as these make, the three-step recall, highest churn probability among buyers of 180 days first;
  **playbook**: all of it; **ladders beside**: of another playbook those against leaving; **oracle**: who truly drifts
  gets, thrice, what answers best to the true cause, which nobody can know: about what the stated responses allow a
  policy that writes to leavers only. A table of what one contact is worth in each true state stands beside it.
- **Treated over control**: users whom a ladder addressed, against those of the control group whom it would have
  addressed; 30 days from that instant. Beside it the same treated users in the same shop without any contact: the
  surer of the two, as the control group's users are others, and few.
- The control group is never contacted by any policy, and is larger here than shipped so that figures are surer.
- **stays**: after a return a simulated user goes on drifting away, as the response is stated, so a second order must
  come of another contact or of what is left of the user's rhythm. Practitioners tell that a quarter to 60 % of the
  recalled buy on; `stays` is the chance that a return ends the drift (of who forgets; of whom we failed, by a repair).

Profit: what was paid, less goods (60 % of the price) and contacts, over the 90 days; discounts are in what was paid.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._ladder_contact import One, one_contact, told
from benchmarks._ladder_log import AFTER, BEFORE, RUN, Log, Shop, make_shop
from benchmarks._ladder_outcomes import (
    OUTCOMES,
    SOON,
    WITHIN,
    Share,
    mean,
    outcomes,
    paired_ratio,
    pooled,
    profits,
    ratio,
)
from benchmarks._ladder_policies import Policies, known_without, places
from features.audience.learn import learn
from features.events import columns as c
from features.timeline import Array
from models.audience import Audience
from models.operations import shipped
from models.playbook import Playbook, load_playbook
from training.churn import train_churn
from training.metrics import Interval
from training.recipes import load_recipe

OUT = Path(__file__).parent / "results" / "ladder.json"
SHOPS = ("default", "noisy", "sparse")
SEED = 11
CONTROL = 0.3  # share of users
LADDERS = ("prevent", "recall", "win_back")
BESIDE = "ladders beside"
# What runs under each `stays`; all of the playbook, the dearest, once.
RUNS: dict[float, tuple[str, ...]] = {0.0: ("everybody", "highest risk", "ladders", "playbook", "oracle")}
RUNS[0.4] = ("everybody", "highest risk", "ladders", "oracle")
# Users at the first moment, by what their profile says of leaving, and ladders by their aim.
STATES = ("about_to_leave", "dormancy", "lost")
AIMS = {"prevent": "about to leave", "recall": "dormant", "win_back": "lost"}
TARGET = 1.4


@dataclass
class Found:
    """What one shop gave under one `stays`, an element a user where it is an array."""

    policies: Policies
    state: dict[str, Array]  # bool[users]
    returned: dict[str, Array]  # policy → bool[users, OUTCOMES] from the first moment
    profit: dict[str, Array]


def main() -> None:
    """Run the shops asked for and print what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--only", nargs="*", choices=SHOPS, default=list(SHOPS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[SEED])
    parser.add_argument("--beside", type=Path, help="a playbook whose ladders are tried as well")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    each: dict[float, dict[str, Found]] = {stays: {} for stays in RUNS}
    once: list[One] = []
    for name, seed in ((name, seed) for seed in given.seeds for name in given.only):
        with tempfile.TemporaryDirectory() as folder:
            shop = make_shop(name, given.users, seed, Path(folder))
            for found in _lived(shop, f"{name}, seed {seed}", given.beside):
                each[found.policies.stays][f"{name}, seed {seed}"] = found
            once.append(one_contact(shop))
        kept: dict[str, Any] = {
            "simulated": {"users": given.users, "shops": list(each[0.0]), "days": [BEFORE, RUN, AFTER]},
            "control_share": CONTROL,
            "target": TARGET,
            "one_contact": told(once),
        }
        for stays, shops in each.items():
            apart = {name: _figures([found]) for name, found in shops.items()} if len(shops) > 1 else {}
            kept[f"stays {stays:g}"] = {"all": _figures(list(shops.values()), each=True), **apart}
        given.out.write_text(json.dumps(kept, indent=1) + "\n")
    _print(kept)


def _lived(shop: Shop, name: str, beside: Path | None) -> list[Found]:
    """The run of all policies on one shop."""
    started = time.perf_counter()

    def said(what: str) -> None:
        print(f"{name}: {what} after {time.perf_counter() - started:.0f} s", flush=True)

    audience, books = _audience(shop)
    if beside is not None:
        books[BESIDE] = _against_leaving(load_playbook(beside))
    said(f"churn model and audience of {shop.store.rows:,} events learned")
    both = [
        Policies(shop, audience, {n: book for n, book in books.items() if n in names}, names, stays)
        for stays, names in ((stays, (*names, BESIDE) if beside else names) for stays, names in RUNS.items())
    ]
    begin = known_without(shop, audience, 0)
    for day in range(RUN):
        base = known_without(shop, audience, day) if day else begin
        for policies in both:
            policies.day(day, base)
    said(f"{RUN} days lived")
    state = {name: places(begin, [name]) & ~both[0].held_out for name in STATES}
    out = []
    for policies in both:
        logs: dict[str, Log | None] = {"nobody": None, **policies.logs}
        since = np.full(len(shop.ids), shop.at(0))
        returned = {name: outcomes(shop, log, since) for name, log in logs.items()}
        out.append(Found(policies, state, returned, {name: profits(shop, log) for name, log in logs.items()}))
    return out


def _audience(shop: Shop) -> tuple[Audience, dict[str, Playbook]]:
    """All that is learned from the year before, and the shipped playbook, in part and whole, with our control group."""
    as_of = shop.begin + BEFORE * c.DAY
    recipe = load_recipe("churn") | {"test_moments": 1, "horizons": [30]}
    model = train_churn(shop.store, as_of=as_of, recipe=recipe, threads=1).model
    operations = shipped()
    audience = Audience(learn(shop.store, as_of), operations, model, shop.directory)
    return audience, {"ladders": _against_leaving(operations.playbook), "playbook": _held_out(operations.playbook)}


def _held_out(book: Playbook) -> Playbook:
    return book.model_copy(update={"control": book.control.model_copy(update={"share": CONTROL, "salt": "control"})})


def _against_leaving(book: Playbook) -> Playbook:
    some = tuple(ladder for ladder in book.ladder if ladder.name.startswith(LADDERS))
    return _held_out(book).model_copy(update={"ladder": some})


def _figures(found: Sequence[Found], each: bool = False) -> dict[str, Any]:
    """Of some shops together; `each`: of each ladder as well."""
    names = list(found[0].profit)
    return {
        "policies": {name: _policy(found, name) for name in names},
        "treated_over_control": {
            "ladders": _over_control(found, "ladders", ""),
            **{f"ladders: {aim}": _over_control(found, "ladders", ladder) for ladder, aim in AIMS.items()},
            f"ladders, {SOON} days": _over_control(found, "ladders", "", SOON),
            **{what: at for name in ("ladders", BESIDE) if each and name in names for what, at in _apart(found, name)},
            **{name: _over_control(found, name, "") for name in (BESIDE, "playbook", "oracle") if name in names},
            f"oracle, {SOON} days": _over_control(found, "oracle", "", SOON),
        },
        "profit_of_ladders_over": {
            name: _interval(_gain(found, "ladders", name)) for name in names if name not in ("ladders", "nobody")
        },
    }


def _policy(found: Sequence[Found], name: str) -> dict[str, Any]:
    """Return and profit of the users outside the control group under one policy."""
    logs = [one.policies.logs[name] for one in found if name in one.policies.logs]
    contacts = [contact for log in logs for contact in log.contacts]
    truly = Counter(text for log in logs for text in _states(log))
    return {
        "contacts": len(contacts),
        "users_contacted": sum(len(log.touched) for log in logs),
        "cost": round(sum(contact.cost for contact in contacts), 2),
        "truly": _shares(truly),
        "returned": {
            state: {
                what: _rate(pooled(Share.of(one.returned[name][one.state[state], i]) for one in found))
                for i, what in enumerate(OUTCOMES)
            }
            for state in STATES
        },
        "profit_a_user_over_nobody": _interval(_gain(found, name, "nobody")),
        "users": sum(int((~one.policies.held_out).sum()) for one in found),
    }


def _states(log: Log) -> list[str]:
    """The true state of each contact's user when it was sent."""
    user, at = (np.array([getattr(contact, name) for contact in log.contacts]) for name in ("user", "at"))
    return [str(text) for text in log.shop.state(user, at)]


def _gain(found: Sequence[Found], name: str, other: str) -> Interval:
    return mean(np.concatenate([(one.profit[name] - one.profit[other])[~one.policies.held_out] for one in found]))


def _apart(found: Sequence[Found], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each ladder of a playbook by itself, 30 days and a few."""
    for ladder in found[0].policies.books[name].ladder:
        for days in (WITHIN, SOON):
            yield f"{name}: {ladder.name}, {days} days", _over_control(found, name, f"{ladder.name}$", days)


def _over_control(found: Sequence[Found], name: str, prefix: str, within: int = WITHIN) -> dict[str, Any]:
    """Of users whom a policy's ladders of this prefix ("name$": of this name) addressed: treated, control, and the
    treated if left alone."""
    groups: dict[str, list[Array]] = {"treated": [], "control": [], "alone": []}
    truly: Counter[str] = Counter()
    for one in found:
        since = _begun(one.policies, name, prefix)
        asked, held_out, shop = since < c.NEVER, one.policies.held_out, one.policies.shop
        alone = outcomes(shop, None, since, within)
        groups["treated"].append(outcomes(shop, one.policies.logs[name], since, within)[asked & ~held_out])
        groups["control"].append(alone[asked & held_out])
        groups["alone"].append(alone[asked & ~held_out])
        truly.update(shop.state(np.flatnonzero(asked), since[asked]).tolist())
    treated, control, alone = (np.concatenate(parts) for parts in groups.values())
    out: dict[str, Any] = {"treated_users": len(treated), "control_users": len(control), "truly": _shares(truly)}
    for i, what in enumerate(OUTCOMES):
        both = np.array([[np.sum((treated[:, i] == a) & (alone[:, i] == b)) for b in (0, 1)] for a in (0, 1)])
        out[what] = {
            "treated": _rate(Share.of(treated[:, i])),
            "control": _rate(Share.of(control[:, i])),
            "ratio": _interval(ratio(Share.of(treated[:, i]), Share.of(control[:, i]))),
            "same_users_without": _rate(Share.of(alone[:, i])),
            "ratio_to_themselves": _interval(paired_ratio(both)),
        }
    return out


def _shares(counts: Counter[str]) -> dict[str, float]:
    return {text: round(count / counts.total(), 3) for text, count in counts.most_common()}


def _begun(policies: Policies, name: str, prefix: str) -> Array:
    """When ladders of a prefix (or "name$") first addressed each user, µs; `c.NEVER` where they did not."""
    since = np.full(len(policies.shop.ids), c.NEVER)
    for (user, ladder), at in policies.begun[name].items():
        if f"{ladder}$".startswith(prefix):
            since[user] = min(since[user], at)
    return since


def _rate(share: Share) -> float | None:
    return round(share.value, 4) if share.users else None


def _interval(interval: Interval) -> list[float | None]:
    return [round(value, 4) if np.isfinite(value) else None for value in asdict(interval).values()]


def _print(kept: Mapping[str, Any]) -> None:
    of = kept["simulated"]
    print(f"\n{of['users']:,} users each of the simulated shops {'; '.join(of['shops'])}, together")
    print(
        "  one contact: profit over 90 days, without the contact's own cost; return within 30 days without and with it"
    )
    for name, one in kept["one_contact"].items():
        rates = "  ".join(f"{what} {one[what][0]:.1%} to {one[what][1]:.1%}" for what in OUTCOMES)
        print(f"    {name:<22} {_shown(one['profit']):<26} {one['users']:>6,} users  {rates}")
    for stays in RUNS:
        at_all = kept[f"stays {stays:g}"]["all"]
        print(f"\n== a return ends the drift with probability {stays:g}")
        _print_policies(at_all["policies"])
        for name, gain in at_all["profit_of_ladders_over"].items():
            print(f"  ladders' profit a user over that of {name}: {_shown(gain)}")
        print(f"  treated over control, {WITHIN} days from the first contact (target {TARGET}); same users without it")
        for aim, at in at_all["treated_over_control"].items():
            print(
                f"    {aim}: {at['treated_users']:,} treated, {at['control_users']:,} in control; truly {at['truly']}"
            )
            for what in OUTCOMES:
                one = at[what]
                if one["treated"] is None or one["control"] is None:
                    continue
                print(
                    f"      {what:<20} {one['treated']:6.1%} over {one['control']:6.1%} = {_shown(one['ratio'])}"
                    f"   themselves {one['same_users_without']:6.1%} = {_shown(one['ratio_to_themselves'])}"
                )


def _print_policies(policies: Mapping[str, Any]) -> None:
    print(
        "  profit a user, less that of nobody, and return within 30 days of the first day: opened / bought / 2+ orders"
    )
    for name, at in policies.items():
        print(f"    {name:<13} {_shown(at['profit_a_user_over_nobody']):<26} {at['contacts']:>7,} contacts", end="")
        for state in STATES:
            shares = " / ".join("-" if x is None else f"{x:.1%}" for x in at["returned"][state].values())
            print(f"   {state.replace('_', ' ')} {shares}", end="")
        print(f"\n      written to: {at['truly']}, {at['users_contacted']:,} users, cost {at['cost']:,.0f}")


def _shown(interval: Sequence[float | None]) -> str:
    if None in interval:
        return "not known"
    value, low, high = interval
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
