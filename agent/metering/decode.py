"""What the words of a register say, exactly: words to counts, and back for the simulated meter.

Before this come words from a frame that was checked; after it the gates. No binary floating point takes part: every
float32 and float64 is a dyadic rational and is taken apart by integer arithmetic (wire format, section 3, rule 3).
Words that mean "no value" are an answer of their own, with a reason, and never zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.profile import Quantity, Register, Sum, WordType
from agent.metering.quantity import Counts

_SIGNED = frozenset({WordType.S16, WordType.S32, WordType.S64})
_BCD = frozenset({WordType.BCD32, WordType.BCD, WordType.BCD_SIGNED})
_TEXT = frozenset({WordType.ASCII, WordType.DIGITS})


@dataclass(frozen=True, slots=True)
class NoValue:
    """The meter answered, and its words mean that it has no value; `reason` goes into the event that says so."""

    reason: str


Decoded = Counts | str | NoValue
"""Counts of a number, the text of an ASCII register, or no value."""


@dataclass(frozen=True, slots=True)
class _FloatFormat:
    """A binary interchange format of IEEE 754-2019, table 3.5: `precision` counts the hidden bit."""

    words: int
    precision: int
    exponent_max: int

    @property
    def exponent_bits(self) -> int:
        return 16 * self.words - self.precision

    @property
    def exponent_min(self) -> int:
        return 1 - self.exponent_max

    @property
    def unit_exponent_min(self) -> int:
        """Power of two of the smallest step the format has."""
        return self.exponent_min - self.precision + 1


_FLOATS = {WordType.F32: _FloatFormat(2, 24, 127), WordType.F64: _FloatFormat(4, 53, 1023)}


def decode(quantity: Quantity, words: Sequence[int]) -> Decoded:
    """Read the raw value of a register from its words, in the order in which they came.

    Integers are returned as they are, negative ones of a counter too: the gates judge. Floats are returned as the
    exact fraction they are, -0.0 as zero. `NoValue` stands for the profile's invalid marks, NaN, infinities, BCD with
    a nibble above 9, and text that is blank or not ASCII.

    The words of a sum are those of its parts one after the other, and its value is their exact sum, modulo `Sum.
    modulus_counts` where that is known. It has no value as soon as one part has none, or shows what it never can.

    Raises:
        ValueError: not as many words as the register has, or a word outside 0..65535; the frame was not checked.
    """
    if isinstance(quantity, Sum):
        return _decode_sum(quantity, words)
    register = quantity
    raw = _raw(register, words)
    if raw in register.invalid:
        return NoValue(f"{register.name}: invalid mark 0x{raw:0{4 * register.words}X}")
    if register.type in _FLOATS:
        return _decode_float(register, raw)
    if register.type in _BCD:
        return _decode_bcd(register, raw)
    if register.type is WordType.DIGITS:
        digits = f"{raw:0{2 * register.size}X}"
        return digits if digits.isdecimal() else NoValue(f"{register.name}: 0x{digits} are not digits")
    if register.type is WordType.ASCII:
        return _decode_ascii(register, raw)
    bits = 16 * register.words
    if register.type in _SIGNED and raw >> (bits - 1):
        return raw - (1 << bits)
    return raw


def encode(quantity: Quantity, value: Counts | str) -> tuple[int, ...]:
    """The words in which a meter shows a value: the simulated meter's half of `decode`.

    A register shows the greatest value it can show that is not above `value`, as a counter that has not reached its
    next count. All of a sum is shown in its first part.

    Raises:
        ValueError: outside the range of the register's type, or text for a number register and the reverse.
    """
    if isinstance(quantity, Sum):
        first, *rest = quantity.parts
        return sum((encode(part, 0) for part in rest), encode(first, value))
    register = quantity
    if isinstance(value, str) is not (register.type in _TEXT):
        raise ValueError(f"{register.name} is {register.type}, {value!r} does not fit")
    if isinstance(value, str):
        raw = (
            _encode_digits(register, value)
            if register.type is WordType.DIGITS
            else _encode_ascii(register, value)
        )
    elif register.type in _FLOATS:
        raw = _encode_float(register, Fraction(value))
    else:
        raw = _encode_integer(register, value.__floor__())
    words = tuple((raw >> (16 * place)) & 0xFFFF for place in range(register.words))
    return words if register.low_word_first else words[::-1]


def split(total: Sum, words: Sequence[int]) -> tuple[tuple[Register, tuple[int, ...]], ...]:
    """The parts of a sum, each with its words.

    Raises:
        ValueError: not as many words as the parts have together.
    """
    if len(words) != total.words:
        raise ValueError(f"{total.name} has {total.words} words, got {len(words)}")
    found, start = [], 0
    for part in total.parts:
        found.append((part, tuple(words[start : start + part.words])))
        start += part.words
    return tuple(found)


def resolution(quantity: Quantity, counts: Counts) -> Fraction:
    """The smallest rise, in counts, that the register can show at this value.

    One for integers; for floats the distance to the next greater value, which grows with the value: a float32 in kWh
    moves in steps of 15.6 Wh at 131 MWh. Of a sum, that of its coarsest part if that part held all of it.
    """
    if isinstance(quantity, Sum):
        return max(resolution(part, counts) for part in quantity.parts)
    register = quantity
    form = _FLOATS.get(register.type)
    if form is None:
        return Fraction(1)
    return _power_of_two(_unit_exponent(form, abs(Fraction(counts))))


def _raw(register: Register, words: Sequence[int]) -> int:
    """The words as one unsigned integer, high word first."""
    if len(words) != register.words:
        raise ValueError(f"{register.name} has {register.words} words, got {len(words)}")
    raw = 0
    for word in reversed(words) if register.low_word_first else words:
        if not 0 <= word <= 0xFFFF:
            raise ValueError(f"{register.name}: {word} is no 16-bit word")
        raw = raw << 16 | word
    return raw


def _decode_sum(total: Sum, words: Sequence[int]) -> Decoded:
    counts: Counts = 0
    for part, own in split(total, words):
        value = decode(part, own)
        if isinstance(value, NoValue):
            return value
        if isinstance(value, str):
            return NoValue(f"{part.name}: text where a count belongs")
        if value < 0 or (part.modulus_counts is not None and value >= part.modulus_counts):
            return NoValue(f"{part.name}: {value.__floor__()} is no count of it")
        counts += value
    return counts if total.modulus_counts is None else counts % total.modulus_counts


def _decode_float(register: Register, raw: int) -> Fraction | NoValue:
    form = _FLOATS[register.type]
    fraction_bits = form.precision - 1
    fraction = raw & ((1 << fraction_bits) - 1)
    biased = raw >> fraction_bits & ((1 << form.exponent_bits) - 1)
    negative = raw >> (16 * form.words - 1)
    if biased == (1 << form.exponent_bits) - 1:
        return NoValue(f"{register.name}: {'not a number' if fraction else 'infinite'}")
    # A zero exponent marks subnormals: no hidden bit, and the exponent of the smallest normal numbers.
    significand = fraction | (1 << fraction_bits if biased else 0)
    magnitude = significand * _power_of_two(max(biased, 1) - 1 + form.unit_exponent_min)
    return -magnitude if negative else magnitude


def _encode_float(register: Register, value: Fraction) -> int:
    form = _FLOATS[register.type]
    unit_exponent = _unit_exponent(form, abs(value))
    significand = (value / _power_of_two(unit_exponent)).__floor__()
    negative, significand = significand < 0, abs(significand)
    if significand == 1 << form.precision:  # a negative value rounded away from zero, over a power of two
        significand, unit_exponent = significand >> 1, unit_exponent + 1
    if unit_exponent > form.exponent_max - form.precision + 1:
        raise ValueError(f"{register.name}: {value} is beyond {register.type}")
    # Adding, not or-ing: the hidden bit of a normal number raises the exponent field from 0 to 1.
    magnitude = ((unit_exponent - form.unit_exponent_min) << (form.precision - 1)) + significand
    return magnitude | (int(negative) << (16 * form.words - 1))


def _unit_exponent(form: _FloatFormat, magnitude: Fraction) -> int:
    """Power of two of the last place of the greatest float that is not above `magnitude`."""
    if magnitude == 0:
        return form.unit_exponent_min
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if _power_of_two(exponent) > magnitude:
        exponent -= 1
    return max(exponent, form.exponent_min) - form.precision + 1


def _power_of_two(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def _decode_bcd(register: Register, raw: int) -> int | NoValue:
    sign = _sign_bit(register)
    digits = f"{raw & ~sign:0{_bcd_digits(register)}X}"
    if not digits.isdecimal():
        return NoValue(f"{register.name}: 0x{digits} is not BCD")
    return -int(digits) if raw & sign else int(digits)


def _bcd_digits(register: Register) -> int:
    return 2 * register.size or 4 * register.words


def _sign_bit(register: Register) -> int:
    """The bit that makes a value negative, 0 where there is none."""
    return 1 << (8 * register.size - 1) if register.type is WordType.BCD_SIGNED else 0


def _encode_integer(register: Register, counts: int) -> int:
    bits = 16 * register.words
    signed = register.type is WordType.BCD_SIGNED
    if register.type in _BCD:
        # The sign takes a bit of the first digit, which then goes up to 7.
        high = 8 * 10 ** (_bcd_digits(register) - 1) if signed else 10 ** _bcd_digits(register)
        low = 1 - high if signed else 0
    elif register.type in _SIGNED:
        low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    else:
        low, high = 0, 1 << bits
    if not low <= counts < high:
        raise ValueError(f"{register.name}: {counts} is beyond {register.type}")
    if register.type in _BCD:
        return int(str(abs(counts)), 16) | (_sign_bit(register) if counts < 0 else 0)
    return counts % (1 << bits)


def _encode_digits(register: Register, text: str) -> int:
    if not text.isdecimal() or len(text) > 2 * register.size:
        raise ValueError(f"{register.name}: {text!r} is not at most {2 * register.size} digits")
    return int(text, 16)


def _decode_ascii(register: Register, raw: int) -> str | NoValue:
    data = raw.to_bytes(2 * register.words, "big").strip(b"\0 ")
    if not data:
        return NoValue(f"{register.name}: blank")
    if any(not 0x20 <= byte <= 0x7E for byte in data):
        return NoValue(f"{register.name}: {data.hex()} is not printable ASCII")
    return data.decode("ascii")


def _encode_ascii(register: Register, text: str) -> int:
    data = text.encode("ascii", "strict") if text.isascii() else b""
    if not data or len(data) > 2 * register.words:
        raise ValueError(f"{register.name}: {text!r} is not 1 to {2 * register.words} ASCII characters")
    return int.from_bytes(data.ljust(2 * register.words), "big")
