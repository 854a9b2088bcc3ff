"""The tools that training conversations may call: the demo's two, and many others in a small share.

The notebook's tools are those of the demo's tool server, mostly with its very names and
descriptions. The others exist so that a tool of the reader's own has a chance: hand-written
domains, generic "get / set NOUN" tools, and tools of nonsense names that only their specification
explains. In each pair of lists split by `|` the right-hand side is used by the evaluation only.
"""

import json
import random
from dataclasses import dataclass, field

from vocabulary import DAYS, Values


@dataclass
class Tool:
    """A tool as the model sees it: `description: name(parameter: type, ...)`."""

    name: str
    description: str
    parameters: list[tuple[str, str]]
    domain: "Domain | None" = None
    fills: dict[str, str] = field(default_factory=dict)

    def openai(self) -> dict:
        """The tool as an OpenAI chat request states it."""
        properties = {name: {"type": kind} for name, kind in self.parameters}
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}


@dataclass
class Notebook:
    """The demo's tools as one request offers them; a request may lack some."""

    find: Tool | None
    add: Tool | None
    title: Tool | None

    def tools(self) -> list[Tool]:
        return [tool for tool in (self.find, self.add, self.title) if tool]


# (name, parameter, description of the demo's server, other descriptions)
FIND = (
    "find_note",
    "query",
    "Finds the notes about a word.",
    ["Find a note by its subject", "Find notes", ""],
)
ADD = ("add_note", "text", "Adds a note.", ["Write a note to the notebook", "Add a note", ""])
TITLE = (
    "set_title",
    "title",
    "Sets the title of the notebook.",
    ["Set the title of the notebook", ""],
)
PREFIXES = ["notes__", "notes_", "notes.", "mcp_notes_", "notebook__"]


def draw_notebook(rng: random.Random) -> Notebook:
    """Mostly as the demo's server offers it; sometimes prefixed, described otherwise, partial."""
    usual = rng.random() < 0.7
    prefix = rng.choice(PREFIXES) if rng.random() < 0.25 else ""
    made = []
    for name, parameter, description, others in (FIND, ADD, TITLE):
        text = description if usual else rng.choice([description, *others])
        made.append(Tool(prefix + name, text, [(parameter, "string")]))
    find, add, title = made
    left = rng.random()
    if left < 0.08:
        add = title = None
    elif left < 0.14:
        find = title = None
    elif left < 0.4:
        title = None
    return Notebook(find, add, title)


@dataclass
class Domain:
    """A family of tools: its names, descriptions, parameters and the user's ways to ask for it.

    `parameters` are `slot:kind=name,name`; `kind` says how a value is drawn. `result` is the kind
    of the tool's result, or `act` for a tool that only reports success.
    """

    names: str
    descriptions: str
    parameters: str
    requests: str
    result: str = "act"


def both_sides(text: str, separator: str) -> tuple[list[str], list[str]]:
    """The training and the held-out entries of a `|` list; the first serve twice if no second."""
    left, _, right = text.partition("|")
    train, held_out = ([e.strip() for e in s.split(separator) if e.strip()] for s in (left, right))
    return train, held_out or train


# Requests are clauses that can follow "please" or "then".
DOMAINS = [
    Domain(
        "get_weather weather current_weather weather_in | fetch_weather",
        "Get the weather of a city; Current weather for a city; Weather in a place "
        "| Weather report of a town",
        "c:place=city,location,place,town",
        "what is the weather in {c}?; how is the weather in {c} today?; "
        "tell me the weather in {c}; "
        "get the weather in {c}; is it cold in {c}?; check the weather for {c} "
        "| could you check the weather in {c}?",
        "weather",
    ),
    Domain(
        "get_time time_in local_time clock | world_clock",
        "Get the time in a city; Current time of a place; Local time in a city "
        "| Tells the time in a town",
        "c:place=city,location,place,timezone",
        "what time is it in {c}?; tell me the time in {c}; get the time in {c} "
        "| what is the local time in {c}?",
        "time",
    ),
    Domain(
        "send_message message send_text notify | post_message",
        "Send a message to a person; Send a text to someone; Message a person "
        "| Delivers a message to someone",
        "n:name=to,recipient,person,name; t:text=text,message,body,content",
        "send {n} the message: {t}; tell {n}: {t}; send a message to {n}: {t}; "
        "message {n}: {t} | write to {n}: {t}",
    ),
    Domain(
        "set_reminder remind add_reminder | create_reminder",
        "Set a reminder; Remind the user of something; Reminder in some minutes | Makes a reminder",
        "m:small=minutes,in_minutes,delay; t:text=text,what,task,message",
        "remind me in {m} minutes: {t}; set a reminder in {m} minutes: {t} "
        "| in {m} minutes remind me: {t}",
    ),
    Domain(
        "add sum plus add_numbers | addition",
        "Add two numbers; Sum of two numbers | Computes a sum",
        "a:number=a,x,first; b:number=b,y,second",
        "what is {a} + {b}?; add {a} and {b}; what is {a} plus {b}?; compute {a} + {b} "
        "| how much is {a} plus {b}?",
        "number",
    ),
    Domain(
        "read_file read open_file load_file | file_read",
        "Read a file; Read the text of a file; Open a file | Returns what a file contains",
        "p:path=path,file,filename",
        "read {p}; read the file {p}; open {p}; what is in {p}?; show me {p} | what does {p} say?",
        "text",
    ),
    Domain(
        "write_file write save_file create_file | file_write",
        "Write a file; Write text to a file; Save text in a file | Puts text into a file",
        "p:path=path,file,filename; t:text=content,text,data",
        "write to {p}: {t}; save in {p}: {t}; write {q} to {p}; save {q} in {p} | put {q} into {p}",
    ),
    Domain(
        "find_phone phone_number get_phone contact | phone_book",
        "Phone number of a person; Find a phone number; Get the number of a person "
        "| Tells someone's number",
        "n:name=name,person,contact",
        "what is the phone number of {n}?; find the phone number of {n}; "
        "get the number of {n} | I need the number of {n}",
        "number",
    ),
    Domain(
        "search search_web lookup web_search | query_web",
        "Search the web; Look something up; Search for a topic | Looks for something",
        "q:phrase=query,q,topic,text",
        "search for {q}; look up {q}; search the web for {q} | find something about {q}",
        "text",
    ),
    Domain(
        "order_status track_order get_order | check_order",
        "Status of an order; Track an order; Where an order is | Tells where an order is",
        "i:ident=order,order_id,id",
        "where is order {i}?; what is the status of order {i}?; track order {i} "
        "| please follow order {i}",
        "phrase",
    ),
    Domain(
        "turn_on switch_on light_on | power_on",
        "Turn on the light in a room; Switch a light on; Light in a room | Lights a room",
        "r:noun=room,where,place,name",
        "turn on the light in the {r}; switch on the {r} light | light up the {r}",
    ),
    Domain(
        "create_event add_event schedule new_meeting | plan_event",
        "Create an event in the calendar; Add an event on a day; Schedule something "
        "| Plans an event",
        "t:phrase=title,event,name,what; d:day=day,date,when",
        "create the event {t} on {d}; schedule {t} for {d}; add {t} on {d} to the calendar "
        "| plan {t} for {d}",
    ),
    Domain(
        "play_song play play_music start_song | put_on_song",
        "Play a song; Play music; Start a song by its title | Puts a song on",
        "s:phrase=song,title,name,track",
        "play {s}; play the song {s}; start the song {s} | put on the song {s}",
    ),
    Domain(
        "start_timer timer set_timer countdown | run_timer",
        "Start a timer; Timer of some minutes; Set a timer | Counts down",
        "m:small=minutes,duration,length",
        "start a timer of {m} minutes; set a timer for {m} minutes; {m} minutes timer "
        "| count down {m} minutes",
    ),
    Domain(
        "delete_file remove_file delete rm | erase_file",
        "Delete a file; Remove a file | Erases a file",
        "p:path=path,file,filename",
        "delete {p}; remove the file {p}; delete the file {p} | erase {p}",
    ),
    Domain(
        "get_stock stock_price share_price quote | fetch_stock",
        "Stock price of a company; Get a share price; Price of a stock | Tells a stock's price",
        "c:name=company,symbol,name,ticker",
        "what is the stock price of {c}?; get the price of {c} shares; how much is {c}? "
        "| what do {c} shares cost?",
        "number",
    ),
    Domain(
        "get_user find_user user_info lookup_user | fetch_user",
        "Get a user; Find a user by name; Information about a user | Tells about a user",
        "n:name=name,user,username,user_name",
        "who is {n}?; find the user {n}; get the user {n}; show me the user {n} "
        "| tell me about the user {n}",
        "text",
    ),
    Domain(
        "distance how_far get_distance route | measure_distance",
        "Distance between two cities; How far it is from one city to another "
        "| Tells the way's length",
        "a:place=from,origin,start,first; b:place=to,destination,end,second",
        "how far is it from {a} to {b}?; get the distance from {a} to {b}; "
        "what is the distance between {a} and {b}? | how long is the way from {a} to {b}?",
        "number",
    ),
    Domain(
        "translate translate_text to_language translator | translation",
        "Translate a text; Translate into a language | Gives a text in another language",
        "l:language=language,to,target; t:text=text,source,content",
        "translate to {l}: {t}; say in {l}: {t}; translate {q} to {l} | put into {l}: {t}",
        "text",
    ),
    Domain(
        "multiply times mul product | multiplication",
        "Multiply two numbers; Product of two numbers | Computes a product",
        "a:number=a,x,first; b:number=b,y,second",
        "what is {a} * {b}?; multiply {a} by {b}; what is {a} times {b}? "
        "| how much is {a} times {b}?",
        "number",
    ),
    Domain(
        "{V}_{T} {V} {V}_one do_{V} | run_{V}_{T}",
        "{V} a {T}; {V} one {T} | Can {V} some {T}",
        "v:any={T},{T}_id,name,id",
        "{V} the {T} {v}; {V} {T} {v}; {V} {v}; I want to {V} {v} | can you {V} the {T} {v}?",
    ),
    Domain(
        "get_{F} {T}_{F} get_{T}_{F} lookup_{F} {F} | fetch_{F} read_{T}_{F}",
        "Get the {F} of a {T}; Look up the {F} of a {T}; {F} of a {T} | Tells the {F} of some {T}",
        "v:any={T},{T}_id,name,id",
        "what is the {F} of the {T} {v}?; get the {F} of {T} {v}; tell me the {F} of {v}; "
        "what is the {F} of {v}? "
        "| which {F} does the {T} {v} have?",
        "any",
    ),
    Domain(
        "set_{F} update_{F} set_{T}_{F} change_{F} | put_{F} modify_{F}",
        "Set the {F} of a {T}; Change the {F} of a {T}; Update the {F} of a {T} "
        "| Gives a {T} a new {F}",
        "v:any={T},{T}_id,name,id; w:value={F},value,new_{F}",
        "set the {F} of {v} to {w}; change the {F} of {T} {v} to {w}; update the {F} of {v} to {w} "
        "| make {w} the {F} of {v}",
    ),
]
GENERIC = DOMAINS[-3:]

LANGUAGES = "French Spanish German Italian Dutch Polish Danish Greek Turkish Czech".split()
SKIES = "sunny cloudy rainy windy foggy snowy clear stormy".split()
DONE_RESULTS = [
    "ok",
    "done",
    "sent",
    "saved",
    "success",
    "title set",
    '{"ok": true}',
    '{"status": "ok"}',
]


def same_fills(a: Tool, b: Tool) -> bool:
    """Whether two tools of one generic domain differ in too little to tell them apart."""
    return a.fills["F"] == b.fills["F"] or a.fills["V"] == b.fills["V"]


class ToolMaker:
    """Draws concrete tools, requests for them, and their results."""

    def __init__(self, rng: random.Random, values: Values, new_phrasings: bool = False):
        self.rng = rng
        self.values = values
        self.side = 1 if new_phrasings else 0

    def value(self, kind: str) -> str | int:
        values = self.values
        if kind == "any":
            kind = self.rng.choice(["name", "ident", "noun", "place"])
        if kind == "value":
            kind = self.rng.choice(["number", "noun", "name", "phrase"])
        draw = {
            "place": values.place,
            "name": values.name,
            "noun": values.noun,
            "ident": values.ident,
            "number": lambda: values.number(1, 5),
            "small": lambda: values.number(1, 2),
            "text": values.note_text,
            "phrase": lambda: values.topic() if values.chance(0.5) else values.word_salad(1, 3),
            "path": self._path,
            "day": lambda: self.rng.choice(DAYS),
            "language": lambda: self.rng.choice(LANGUAGES),
        }
        return draw[kind]()

    def _path(self) -> str:
        extension = self.rng.choice("txt md json csv log".split())
        folder = f"{self.values.noun()}/" if self.values.chance(0.2) else ""
        return f"{folder}{self.values.noun().lower()}.{extension}"

    def tool(self, domain: Domain | None = None) -> Tool:
        """A tool of a domain (a random one by default), with drawn names."""
        choice, chance, values = self.rng.choice, self.values.chance, self.values
        domain = domain or choice(DOMAINS + GENERIC)
        train = not values.held_out
        fills = {"F": choice(values.fields), "T": choice(values.things), "V": choice(values.verbs)}
        if train and chance(0.25):
            fills["F"] = values.made_up()
        if train and chance(0.25):
            fills["T"] = values.made_up()
        side = self.side
        name = choice(both_sides(domain.names, " ")[side]).format(**fills)
        description = choice(both_sides(domain.descriptions, ";")[side]).format(**fills)
        description = description[:1].upper() + description[1:]
        if train and chance(0.1):
            name = f"{values.made_up()}_{values.made_up()}" if chance(0.5) else values.made_up()
        if train and chance(0.1):
            head, *rest = name.split("_")
            name = head + "".join(part.capitalize() for part in rest)
        parameters = []
        for entry in domain.parameters.split("; "):
            slot_kind, _, names = entry.partition("=")
            parameter = choice(names.split(",")).format(**fills)
            if train and chance(0.1):
                parameter = values.made_up()
            kind = "number" if slot_kind.split(":")[1] in ("number", "small") else "string"
            parameters.append((parameter, kind))
        if len({parameter for parameter, _ in parameters}) < len(parameters):
            return self.tool(domain)
        return Tool(name, description, parameters, domain, fills)

    def others(self, tool: Tool | None, count: int) -> list[Tool]:
        """`count` further tools, none of which could be taken for `tool`."""
        found: list[Tool] = []
        taken = [tool] if tool else []
        while len(found) < count:
            new = self.tool()
            clash = any(
                new.name == t.name
                or new.description == t.description
                or (new.domain is t.domain and new.domain not in GENERIC)
                or (new.domain is t.domain and same_fills(new, t))
                for t in taken
            )
            if not clash:
                found.append(new)
                taken.append(new)
        return found

    def request(self, tool: Tool) -> tuple[str, dict, str, bool]:
        """A clause that asks for the tool, the arguments, the result, whether it is an act."""
        slots: dict[str, str | int] = dict(tool.fills)
        arguments: dict[str, str | int] = {}
        for entry, (parameter, kind) in zip(tool.domain.parameters.split("; "), tool.parameters):
            slot, value_kind = entry.partition("=")[0].split(":")
            value = self.value(value_kind)
            slots[slot] = value
            arguments[parameter] = value if kind == "number" else str(value)
            if value_kind == "text":
                slots["q"] = f'"{value}"'
        clause = self.rng.choice(both_sides(tool.domain.requests, ";")[self.side]).format(**slots)
        act = tool.domain.result == "act"
        return clause, arguments, self._result(tool.domain.result, arguments), act

    def _result(self, kind: str, arguments: dict) -> str:
        choice, values = self.rng.choice, self.values
        if kind == "act":
            return choice(DONE_RESULTS)
        if kind == "weather":
            degrees, sky = self.rng.randint(-9, 38), choice(SKIES)
            forms = [f"{degrees} C, {sky}", f"{sky}, {degrees} degrees", sky]
            return choice([*forms, json.dumps({"temperature": degrees, "sky": sky})])
        if kind == "number":
            numbers = [v for v in arguments.values() if isinstance(v, int)]
            result = sum(numbers) if numbers else values.number(4, 6)
        elif kind == "time":
            result = values.time()
        elif kind == "text":
            result = values.found_text() if values.chance(0.7) else values.word_salad(2, 7)
        else:
            result = self.value("phrase" if kind == "phrase" else "any")
        if values.chance(0.2):
            return json.dumps({choice(["result", "value", "output"]): result}, ensure_ascii=False)
        return str(result)

    def explicit(self) -> tuple[Tool, str, dict, str]:
        """A tool of made-up names and a request that spells its call out."""
        choice, chance, values = self.rng.choice, self.values.chance, self.values

        def word() -> str:
            return values.made_up() if chance(0.6) else choice(values.fields)

        count = self.rng.randint(1, 3)
        names = list(dict.fromkeys(word() for _ in range(count)))
        arguments = {}
        for name in names:
            value = self.value(choice(["number", "noun", "phrase", "ident", "name"]))
            arguments[name] = value if isinstance(value, int) and chance(0.6) else str(value)
        kinds = [(n, "number" if isinstance(v, int) else "string") for n, v in arguments.items()]
        tool = Tool(f"{word()}_{word()}" if chance(0.6) else word(), values.word_salad(2, 4), kinds)
        equals, join = choice([(" ", " and "), ("=", ", "), (": ", ", "), (" = ", " and ")])
        spelled = join.join(f"{name}{equals}{value}" for name, value in arguments.items())
        clause = f"{choice(['call', 'use', 'run'])} {tool.name} with {spelled}"
        return tool, clause, arguments, values.word_salad(1, 4)
