"""Whether a meter is what its profile takes it for: settings a person can change, and generations of one model.

Some meters show no energy in the wrong mode, and some makers moved a register between two generations of hardware that
bear the same name; the wrong map may answer with rubbish instead of an exception. So a profile states what must hold
at the meter (`profile.Condition`). Before this come the decoded registers of one meter, after it the poll stage, which
takes no reading from a meter that breaks a condition.

A counter that never counted proves nothing: import + export = total also holds where all three are zero. Such an
answer is `Undecided`; the meter is read, since nothing can be booked wrongly while it stands at zero, and asked again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.decode import Decoded, NoValue
from agent.metering.profile import Condition, Profile


@dataclass(frozen=True, slots=True)
class Met:
    """Every condition holds."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nothing speaks against the profile, but the counters that would tell are still at zero."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The meter is not what the profile says; `reason` names the fact and the remedy."""

    reason: str


Verdict = Met | Undecided | Broken


def judge(profile: Profile, values: Mapping[str, Decoded]) -> Verdict:
    """Hold the conditions of a profile against what the meter says.

    Args:
        profile: whose conditions.
        values: decoded raw counts or texts by register; a register that the meter does not have is left out.
    """
    verdicts = [_judge(profile, condition, values) for condition in profile.conditions]
    for verdict in verdicts:
        if isinstance(verdict, Broken):
            return verdict
    return Undecided() if any(isinstance(verdict, Undecided) for verdict in verdicts) else Met()


def _judge(profile: Profile, condition: Condition, values: Mapping[str, Decoded]) -> Verdict:
    found: list[Fraction | str] = []
    for name in condition.registers:
        value = values.get(name)
        if value is None:
            return _broken(condition, f"the meter has no register {name}")
        if isinstance(value, NoValue):
            return _broken(condition, value.reason)
        found.append(value if isinstance(value, str) else value * profile.registers[name].per_count)
    if isinstance(found[0], str):
        shown = found[0]
        if condition.one_of and shown not in condition.one_of:
            return _broken(condition, f'{condition.terms[0]} reads "{shown}"')
        return Met()
    numbers = [value for value in found if isinstance(value, Fraction)]
    return _judge_numbers(condition, numbers)


def _judge_numbers(condition: Condition, numbers: Sequence[Fraction]) -> Verdict:
    total = sum(numbers[: len(condition.terms)], Fraction(0))
    name = " + ".join(condition.terms)
    if condition.one_of and total not in condition.one_of:
        return _broken(condition, f"{name} reads {_text(total)}")
    asks_counters = condition.equals is not None or condition.at_least is not None
    if asks_counters and not any(numbers):
        return Undecided()
    if condition.at_least is not None and total < condition.at_least:
        return _broken(condition, f"{name} reads {_text(total)}, less than {_text(condition.at_least)}")
    if condition.at_most is not None and total > condition.at_most:
        return _broken(condition, f"{name} reads {_text(total)}, more than {_text(condition.at_most)}")
    if condition.equals is not None and abs(total - numbers[-1]) > condition.within:
        return _broken(
            condition, f"{name} reads {_text(total)}, but {condition.equals} reads {_text(numbers[-1])}"
        )
    return Met()


def _broken(condition: Condition, fact: str) -> Broken:
    instead = "" if condition.other is None else f'; the profile may be "{condition.other}"'
    return Broken(f"{fact}: {condition.remedy}{instead}")


def _text(value: Fraction) -> str:
    """A number for a message, rounded to three decimals."""
    thousandths = round(value * 1000)
    sign, (whole, rest) = "-" if thousandths < 0 else "", divmod(abs(thousandths), 1000)
    return f"{sign}{whole}.{rest:03d}".rstrip("0").rstrip(".")
