"""Values that the training conversations talk about: names, places, words, numbers, note texts.

Every pool is split in two that never meet: what training may use, and what is HELD OUT for the
evaluation. A real word is held out when its CRC-32 says so, a number of two or more digits too;
made-up words are built from different syllables on the two sides. All lists were written for this
model; nothing is downloaded.
"""

import random
import zlib

NAMES = """
Aaron Abel Adele Agata Alba Alfred Alma Anders Andrea Anika Anton Anya Arno August Aurora Bea
Benno Berta Bianca Birgit Bjorn Bodil Boris Camille Carl Carmen Caspar Celia Chiara Cora Cyril
Dalia Daphne Dario Delia Denis Dina Dominik Dorian Ebba Edda Elias Elin Elsa Emre Enid Ennio Erna
Ester Ezra Fabio Farid Felicia Ferdi Filip Flora Fritz Gabor Gemma Georg Gerda Gilda Goran Greta
Gunnar Hakan Hanno Harriet Heidi Hilda Holger Ida Ilse Imre Inga Ira Iris Isak Ivo Jakob Jarek
Jelena Joel Johan Jonna Judith Jule Kamil Karin Kaspar Katja Keiko Klara Konrad Kurt Laszlo Leif
Lenka Leon Levi Linus Lore Lotte Luca Ludwig Lukas Lydia Magda Maja Malik Manuel Marek Marit
Matteo Maud Milan Mira Miriam Moritz Nadine Naomi Nele Niko Nils Nuria Oda Olaf Olivia Orhan Oskar
Pavel Pia Rafik Ragna Regina Renzo Rico Robin Roland Rosalie Ruben Runa Sabine Salma Samir Selma
Sven Sigrid Silvia Stella Svea Sybil Tamara Tariq Thea Tilda Tobias Toni Udo Ulla Urs Valeria Vera
Viola Wilma Winnie Xenia Yannick Yusra Zelda Zita Ben Anna Tom Sara Paul Nina Max Lena Eva Jan Mia
Noah
""".split()

PLACES = """
Aarhus Almeria Ancona Antwerp Arles Augsburg Avila Bari Belfast Bilbao Bologna Bordeaux Bradford
Bratislava Bremen Brno Bruges Cadiz Cannes Cardiff Catania Coimbra Cork Corfu Cordoba Cracow Delft
Dijon Dover Dublin Durham Edinburgh Eindhoven Essen Exeter Faro Ferrara Galway Gdansk Geneva Ghent
Girona Glasgow Granada Grenoble Haarlem Halle Hanover Helsinki Innsbruck Jena Kassel Kiel Kosice
Krakow Leeds Leiden Lille Limerick Linz Lisbon Liverpool Lodz London Lucerne Lugano Lund Lyon
Madrid Maribor Milan Modena Munich Nantes Naples Narvik Nice Odense Oporto Oslo Ostrava Oulu
Oxford Padua Paris Parma Pisa Poznan Prague Ravenna Rennes Riga Rimini Rome Rostock Rouen
Salamanca Salerno Seville Siena Sofia Split Stuttgart Szeged Tampere Tartu Tirana Toledo Toulouse
Trento Trier Trondheim Turku Ulm Uppsala Utrecht Varna Verona Vienna Vigo Vilnius Warsaw Weimar
York Zagreb Zurich
""".split()

NOUNS = """
harbor garden kitchen library bakery bridge castle station market museum office hotel school
church tower tunnel valley village forest island lake river beach mountain meadow orchard field
farm barn stable cellar attic balcony garage workshop studio theater cinema stadium gym pool park
zoo fountain statue square street corner crossing ferry train tram bus bicycle car truck boat ship
canoe rocket plane airport ticket passport suitcase backpack wallet key lock door window curtain
carpet sofa chair table desk shelf cupboard drawer lamp candle mirror clock calendar diary letter
parcel stamp envelope newspaper magazine book novel poem song concert guitar piano violin drum
trumpet flute choir dance painting camera photo film radio phone laptop printer server router
battery cable charger screen keyboard engine pump valve pipe hammer saw drill ladder rope bucket
brush paint wood stone brick glass steel copper silver gold coin invoice receipt contract budget
rent salary tax loan meeting lesson exam holiday birthday wedding party dinner lunch breakfast
picnic recipe soup salad bread butter cheese milk honey sugar salt pepper garlic onion potato
tomato carrot apple pear plum cherry lemon orange banana melon coffee tea juice wine cake cookie
chocolate rice pasta fish chicken egg doctor dentist nurse teacher lawyer pilot sailor farmer
baker plumber painter neighbor landlord cousin uncle aunt brother sister team class club committee
horse cow goat sheep dog cat rabbit parrot turtle bee spider fox wolf bear eagle owl swan tree
rose tulip oak pine fern moss seed plant rain snow storm wind fog sun moon star comet winter
spring summer autumn jacket coat scarf glove hat boot shoe shirt dress sock umbrella tent blanket
pillow towel soap medicine bandage map compass flag
""".split()

ADJECTIVES = """
red blue green yellow white black brown purple old new big small long short heavy light warm cold
wet dry clean dirty quiet loud fast slow early late broken lost spare wooden rusty empty full
round sharp soft narrow wide tall low deep bright dark fresh sweet sour annual weekly local
northern southern second last next best
""".split()

VERBS = """
call visit paint clean repair sell buy bring fetch move open close lock check count copy print
sign send return order cancel book water feed wash fold pack carry measure replace rename test
charge empty fill label sort weigh borrow lend thank invite remind meet ask pay
""".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday today tomorrow tonight".split()

# Properties and things of the generic "get" and "set" tools.
FIELDS = """
price status owner color size weight height age score rank balance address email author version
deadline budget temperature speed capacity category language country manager rating stock distance
volume level limit mode label priority location plan quota role
""".split()
THINGS = """
user order host product city team project account device room vehicle customer package employee
student company machine sensor flight house animal game item branch member
""".split()

# Syllables of made-up words: (onsets, vowels, codas). The two sides share no onset of consonants.
TRAIN_SYLLABLES = (
    "b br c d dr f g gr h k l m n p r s st t tr v w z ch sh".split() + [""],
    "a e i o u ai ea o e a ou".split(),
    "n r l s m d k t".split() + ["", "", ""],
)
HELD_OUT_SYLLABLES = (
    "qu sk ph th j bl cl fl gl pl sl sp cr fr pr kn sc y".split(),
    "a e i o u oo ie y au ei".split(),
    "x p g b nd st ck ng f ll".split() + ["", ""],
)

# `{}` texts of notes. The sentences after the bar are used by the evaluation only.
NOTE_TEXTS = """
call {name} at {hour}
call {name} about the {noun}
buy {noun} and {noun}
buy {small} {noun}s
meet {name} in {place}
meet {name} at the {noun} at {hour}
{name} likes {noun}
{name} lives in {place}
{name} has the {adjective} {noun}
{name} arrives on {day}
{name} wants a {adjective} {noun}
{verb} the {noun}
{verb} the {adjective} {noun}
{verb} the {noun} on {day}
{verb} the {noun} and {verb} the {noun}
the {noun} opens at {hour}
the {noun} closes at {hour}
The {noun} opens at {hour} and closes at {hour}
the {noun} is in the {noun}
The {noun} is {adjective}
the {adjective} {noun} costs {number} euros
the {noun} leaves at {time}
The {noun} to {place} leaves at {time}
the code is {number}
The code of the {noun} is {number}
the {noun} is under the {noun}
{noun} for {name}
{noun}, {noun} and {noun}
{number} {noun}s
the {noun} number is {number}
my {noun} is in {place}
do not {verb} the {noun}
bring the {noun} to {name}
we need {small} {noun}s and a {adjective} {noun}
{name} and {name} come on {day}
{name} put the {noun} into the {noun}
{name} gave the {noun} to {name}
the {noun} of the {noun} is {adjective}
the {noun} is behind the {noun} and the {noun}
{name} needs the {noun} for the {noun} in {place}
{name} has the {noun} of {name}
tell {name} that the {noun} is in the {noun}
the {noun}, the {noun} and the {noun} are in {place}
{day} at {hour}: {noun} with {name}
{name} owes {name} {number} euros
the {noun} has {small} {noun}s and {small} {noun}s
look after the {noun} of {name} until {day}
the {noun} moved from {place} to {place}
there is a {adjective} {noun} in the {adjective} {noun}
Please {verb} the {noun} before {day}
why is the {noun} {adjective}
{noun} and {noun} for {number} euros
""".strip().splitlines()
HELD_OUT_NOTE_TEXTS = """
send {name} the {noun} before {hour}
{name} keeps the {noun} behind the {noun}
the next {noun} is on {day} in {place}
pick up {name} from the {noun} at {time}
{adjective} {noun} in the {noun} of {name}
we owe {name} {number} euros
The {noun} of {name} is {adjective}
ask {name} if the {noun} is ready
""".strip().splitlines()


def is_held_out(word: str) -> bool:
    """Whether a word or a number belongs to the evaluation only (one in four)."""
    return zlib.crc32(word.lower().encode()) % 4 == 0


class Values:
    """Draws values from one side of the split.

    `pieces` are letter pieces of the tokenizer: training also copies random strings of them, so
    that every piece is copied often and an unknown word is no stranger than a known one.
    """

    def __init__(self, rng: random.Random, held_out: bool = False, pieces: list[str] | None = None):
        self.rng = rng
        self.held_out = held_out
        self.pieces = pieces or []
        pools = (NAMES, PLACES, NOUNS, ADJECTIVES, VERBS, FIELDS, THINGS)
        side = [[word for word in pool if is_held_out(word) == held_out] for pool in pools]
        self.names, self.places, self.nouns, self.adjectives, self.verbs = side[:5]
        self.fields, self.things = side[5:]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def made_up(self) -> str:
        """A pronounceable word of one to three syllables."""
        onsets, vowels, codas = HELD_OUT_SYLLABLES if self.held_out else TRAIN_SYLLABLES
        choice = self.rng.choice
        syllables = choice([1, 2, 2, 2, 3]) if not self.held_out else choice([1, 2, 2])
        return "".join(choice(onsets) + choice(vowels) + choice(codas) for _ in range(syllables))

    def junk(self) -> str:
        """A string of tokenizer pieces or letters; training only."""
        choice = self.rng.choice
        if self.pieces and self.chance(0.75):
            return "".join(choice(self.pieces) for _ in range(choice([1, 2, 2, 3])))
        letters = "abcdefghijklmnopqrstuvwxyz"
        return "".join(choice(letters) for _ in range(self.rng.randint(2, 6)))

    def _strange(self, pool: list[str], strange: float) -> str:
        """A word of the pool or, with probability `strange`, one that no list holds."""
        if not self.chance(strange):
            return self.rng.choice(pool)
        return self.made_up() if self.held_out or self.chance(0.4) else self.junk()

    def noun(self) -> str:
        return self._strange(self.nouns, 0.1 if self.held_out else 0.45)

    def name(self) -> str:
        word = self._strange(self.names, 0.1 if self.held_out else 0.45)
        return word[:1].upper() + word[1:]

    def place(self) -> str:
        word = self._strange(self.places, 0.1 if self.held_out else 0.45)
        return word[:1].upper() + word[1:]

    def number(self, low: int = 1, high: int = 5) -> int:
        """A number of `low` to `high` digits; one-digit numbers belong to both sides."""
        while True:
            digits = self.rng.randint(low, high)
            first = 0 if digits == 1 else 10 ** (digits - 1)
            number = self.rng.randint(first, 10**digits - 1)
            if digits == 1 or is_held_out(str(number)) == self.held_out:
                return number

    def hour(self) -> str:
        return str(self.rng.randint(1, 23)) if self.chance(0.7) else self.time()

    def time(self) -> str:
        return f"{self.rng.randint(0, 23)}:{self.rng.randint(0, 59):02d}"

    def topic(self) -> str:
        """What a note is about, without an article: `harbor`, `old bridge`, `Mira`."""
        kind = self.rng.random()
        if kind < 0.55:
            return self.noun()
        if kind < 0.67:
            return f"{self.rng.choice(self.adjectives)} {self.noun()}"
        if kind < 0.79:
            return f"{self.noun()} {self.noun()}"
        return self.name() if kind < 0.91 else self.place()

    def sentence(self, templates: list[str]) -> str:
        """A template with each `{slot}` drawn anew."""
        parts = self.rng.choice(templates).replace("}", "{").split("{")
        draw = {
            "name": self.name,
            "place": self.place,
            "noun": self.noun,
            "adjective": lambda: self.rng.choice(self.adjectives),
            "verb": lambda: self.rng.choice(self.verbs),
            "day": lambda: self.rng.choice(DAYS),
            "hour": self.hour,
            "time": self.time,
            "number": self.number,
            "small": lambda: self.rng.randint(2, 12),
        }
        return "".join(str(draw[p]()) if i % 2 else p for i, p in enumerate(parts))

    def note_text(self, new_forms: bool = False) -> str:
        """The text of a note, without a final period. `new_forms`: held-out sentence forms."""
        if new_forms:
            return self.sentence(HELD_OUT_NOTE_TEXTS)
        if self.held_out or self.chance(0.55):
            return self.sentence(NOTE_TEXTS)
        text = self.word_salad(1, 7)
        return text[:1].upper() + text[1:] if self.chance(0.25) else text

    def word_salad(self, low: int, high: int) -> str:
        """Words in no order: copying them needs no grammar and gets no help from one."""
        glue = "the the the the a a of of is at on we will my are to in and for with it not".split()
        draws = [self.noun, self.noun, self.name, lambda: str(self.number(1, 4))]
        draws += [lambda: self.rng.choice(self.verbs), lambda: self.rng.choice(self.adjectives)]
        words = []
        for _ in range(self.rng.randint(low, high)):
            words.append(self.rng.choice(glue) if self.chance(0.25) else self.rng.choice(draws)())
        return " ".join(words)

    def found_text(self, new_forms: bool = False) -> str:
        """A note as the notebook returns it: mostly a sentence with its period."""
        text = self.note_text(new_forms)
        if self.chance(0.75):
            return text[:1].upper() + text[1:] + "."
        return text

    def ident(self) -> str:
        """An id such as `AB-1204`, `pump-17` or `2031-11-05`."""
        letters = "".join(self.rng.choice("ABCDEFGHKLMNPRSTUVWXYZ") for _ in range(2))
        day = f"20{self.rng.randint(20, 39)}-{self.rng.randint(10, 12)}-{self.rng.randint(10, 28)}"
        number = self.number(2, 5)
        return self.rng.choice([f"{letters}-{number}", f"{self.noun()}-{number}", str(number), day])
