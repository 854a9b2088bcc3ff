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
    "audio_in": 40_000_007,
    "audio_out": 80_000_011,
    "search": 10_000_007_000,
}
# Of other tiers: what a token costs there, by the same names.
TIERS = {
    "flex": {"input": 500_009, "cached": 50_021, "output": 5_000_011},
    "priority": {"input": 2_000_017, "cached": 200_017, "output": 20_000_023},
    "fast": {"input": 6_000_011, "cached": 600_043, "output": 60_000_049},
    "batch": {"input": 400_009, "cached": 40_009, "output": 4_000_037},
}
# What a setting of a model is called.
SETTINGS = {
    "input": "input_usd_per_million",
    "cached": "cached_input_usd_per_million",
    "write": "cache_write_usd_per_million",
    "write_1h": "cache_write_1h_usd_per_million",
    "output": "output_usd_per_million",
    "audio_in": "audio_input_usd_per_million",
    "audio_out": "audio_output_usd_per_million",
}
NANODOLLARS = 1_000_000_000
UNKNOWN = "unknown"


def dollars_per_million(picodollars):
    """A rate as the configuration has it."""
    return f"{picodollars // 1_000_000}.{picodollars % 1_000_000:06d}"


def settings(names=("input", "cached", "write", "write_1h", "output")):
    """A model's prices in the configuration: those of its tokens."""
    return rates_text({name: RATES[name] for name in names})


def all_settings():
    """All that a model's price can say."""
    tiers = ", ".join(f"{tier} = {{ {rates_text(rates)} }}" for tier, rates in TIERS.items())
    search = RATES["search"] // 1_000
    fee = f'usd_per_search = "0.{search:09d}"'
    return f"{settings(SETTINGS)}, {fee}, tiers = {{ {tiers} }}"


def rates_text(rates):
    return ", ".join(f'{SETTINGS[name]} = "{dollars_per_million(rate)}"' for name, rate in rates.items())


def bill(lines):
    """Nanodollars of a bill: summed exactly, rounded up once. `tier` is which its tokens are of."""
    lines = dict(lines)
    rates = RATES | TIERS.get(lines.pop("tier", None), {})
    picodollars = sum(count * rates[name] for name, count in lines.items())
    return -(-picodollars // 1_000)


def nanodollars(text):
    """An amount as the API shows it."""
    whole, _, decimals = text.partition(".")
    assert len(decimals) <= 9, f"{text} is finer than a nanodollar"
    return int(whole) * NANODOLLARS + int(decimals.ljust(9, "0"))
