"""What the suite says of money: rates in picodollars, bills in integers.

A bill is written as its lines, as the provider counts them: how many of what. What they cost is
computed here, by nobody's code but this. No float touches an amount.
"""

# Picodollars of one token, and of one search. Odd numbers: a token in the wrong line shows.
RATES = {
    "input": 1_000_003,
    "cached": 100_003,
    "write": 1_250_009,
    "write_1h": 2_000_003,
    "output": 10_000_019,
}
# What a setting of a model is called.
SETTINGS = {
    "input": "input_usd_per_million",
    "cached": "cached_input_usd_per_million",
    "write": "cache_write_usd_per_million",
    "write_1h": "cache_write_1h_usd_per_million",
    "output": "output_usd_per_million",
}
NANODOLLARS = 1_000_000_000
UNKNOWN = "unknown"


def dollars_per_million(picodollars):
    """A rate as the configuration has it."""
    return f"{picodollars // 1_000_000}.{picodollars % 1_000_000:06d}"


def settings(rates=None, names=None):
    """A model's prices in the configuration."""
    rates = RATES if rates is None else rates
    names = SETTINGS if names is None else names
    return ", ".join(f'{names[name]} = "{dollars_per_million(rate)}"' for name, rate in rates.items())


def bill(lines, rates=None):
    """Nanodollars of a bill: summed exactly, rounded up once."""
    rates = RATES if rates is None else rates
    picodollars = sum(count * rates[name] for name, count in lines.items())
    return -(-picodollars // 1_000)


def nanodollars(text):
    """An amount as the API shows it."""
    whole, _, decimals = text.partition(".")
    assert len(decimals) <= 9, f"{text} is finer than a nanodollar"
    return int(whole) * NANODOLLARS + int(decimals.ljust(9, "0"))
