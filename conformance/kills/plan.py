"""What a round is: who is killed, where, and what runs meanwhile. A pure function of its seed."""

import dataclasses
import random

# The closed list of places at which the server stops itself, with how many times it gets there in a round.
POINTS = {
    "journal.after_model_intent": 12,
    "journal.after_model_outcome": 12,
    "journal.after_tool_intent": 10,
    "tool.running": 10,
    "journal.after_tool_outcome": 10,
    "journal.after_resolution": 1,
    "response.before_terminal": 3,
}
STYLES = ("background_stream", "background_poll", "foreground", "foreground_stream")


@dataclasses.dataclass(frozen=True)
class Kill:
    """Who, and where: a stop point, or a moment in seconds after the last thing that happened.

    `starting` kills a server `hold` seconds after the last thing, and the next one `after` its start, before it is
    ready; `guard` is the process over a tool server.
    """

    what: str
    point: str = None
    time: int = 1
    after: float = 0.0
    hold: float = 0.0

    @property
    def place(self):
        return f"{self.point}:{self.time}" if self.point else f"after {self.after:.3f} s"

    @property
    def stop_at(self):
        return f"{self.point}:{self.time}" if self.point else None


@dataclasses.dataclass(frozen=True)
class Plan:
    """One round."""

    seed: int
    kind: str
    kills: tuple
    styles: tuple
    with_engine: bool
    # How long a person looks at a step in doubt before they decide, in seconds.
    patience: float

    def __str__(self):
        kills = ", then ".join(f"{kill.what} at {kill.place}" for kill in self.kills)
        return f"seed {self.seed}: {kills}" + (" (local model too)" if self.with_engine else "")


# The kinds of rounds that a suite goes through in turn, with the kills of each: 24 in all.
KINDS = (
    ("journal.after_model_intent", 1),
    ("tool+random", 2),
    ("journal.after_tool_outcome", 1),
    ("random", 1),
    ("tool.running", 1),
    ("engine+random", 2),
    ("journal.after_model_outcome", 1),
    ("resolution", 2),
    ("response.before_terminal", 1),
    ("random+random", 2),
    ("guard+starting", 3),
    ("journal.after_tool_intent", 1),
    ("tool+engine", 2),
    ("starting", 2),
    ("tool+tool.running", 2),
)
# A seed names its kind of round too: seed modulo this many.
STRIDE = len(KINDS)


def plan(seed):
    """The round of that seed."""
    chance = random.Random(seed)
    kind = KINDS[seed % STRIDE][0]
    if kind == "resolution":
        kills = (Kill("tool", after=chance.uniform(0, 0.03)), at("journal.after_resolution", chance))
    else:
        kills = tuple(one(part, chance) for part in kind.split("+"))
    styles = list(STYLES)
    chance.shuffle(styles)
    return Plan(seed, kind, kills, tuple(styles), "engine" in kind or chance.random() < 0.2, chance.choice((0, 0.25)))


def one(part, chance):
    if part == "random":
        return Kill("server", after=chance.uniform(0.03, 0.9))
    if part == "starting":
        return Kill("starting", after=chance.uniform(0, 0.15), hold=chance.uniform(0.03, 0.7))
    if part in ("tool", "guard"):
        return Kill(part, after=chance.uniform(0, 0.06))
    if part == "engine":
        return Kill("engine", after=chance.uniform(0, 0.25))
    return at(part, chance)


def at(point, chance):
    return Kill("server", point=point, time=chance.randint(1, POINTS[point]), hold=chance.uniform(0, 0.1))


def seeds(first, kills):
    """Seeds of rounds that kill so often, beginning at `first`; every kind comes in its turn."""
    seed, left = first - first % STRIDE, kills
    while left > 0:
        yield seed
        left -= KINDS[seed % STRIDE][1]
        seed += 1
