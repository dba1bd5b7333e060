"""How long to wait before the next try."""


def delay(attempt: int, *, base: float, cap: float, jitter: float) -> float:
    """Seconds before try `attempt` + 1: base × 2^(attempt − 1), at most `cap`, spread by ±20 %.

    attempt: failures so far, from 1. jitter: a random number in [0, 1) that the caller draws.
    """
    # 2^64 times any base is beyond every cap; larger exponents would only overflow.
    return spread(min(cap, base * 2.0 ** min(max(attempt, 1) - 1, 64)), jitter=jitter)


def spread(seconds: float, *, jitter: float) -> float:
    """`seconds` moved by up to ±20 %, so that many waiters do not come back at once."""
    return seconds * (0.8 + 0.4 * jitter)
