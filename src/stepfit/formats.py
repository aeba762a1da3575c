"""Numbers and counts as people read them, the same in sentences, pictures, tables and progress lines."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Write a number of any size with six digits at most.

    Examples
    --------
    >>> number(3164.48), number(25322500000.0), number(0.1)
    ('3,164.48', '2.53225e10', '0.1')
    """
    return f"{value:,.6g}".replace("e+", "e")


def short_number(value: float) -> str:
    """Write a number with four digits, as the player does; from 1,000 on it is rounded to a whole number.

    Examples
    --------
    >>> short_number(0.12345), short_number(12345.6), short_number(float("inf"))
    ('0.1235', '12,346', 'infinity')
    """
    if not math.isfinite(value):
        return "infinity" if value == math.inf else "NaN"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def counted(count: int, item: str) -> str:
    """Write how many there are, with the item in the singular or plural: 1 point, 1,200 points."""
    return f"{count:,} {item}{'' if count == 1 else 's'}"
