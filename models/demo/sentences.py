"""The sentences of the conversations: what users say, what tools report, what the model answers.

Lists whose name begins with `NEW_`, and what stands behind a `|`, are used by the evaluation only.
"""

# {q}: a subject with or without an article. All are clauses that can follow "please" or "then".
FIND_CLAUSES = [
    "find the note about {q}",
    "look up the note about {q}",
    "get the note about {q}",
    "read the note about {q}",
    "show me the note about {q}",
    "look for the note about {q}",
    "look for a note about {q}",
    "open the note about {q}",
    "check the note about {q}",
    "find my note about {q}",
    "look up my note on {q}",
    "read me the note on {q}",
    "search the notes for {q}",
    "search my notebook for {q}",
    "find what I wrote about {q}",
    "tell me what the note about {q} says",
    "find out what I noted about {q}",
    "look up {q} in the notebook",
    "go to the note about {q}",
    "take the note about {q}",
    "give me the note about {q}",
    "bring me the note on {q}",
    "load the note about {q}",
    "find the note on {q}",
    "find the note for {q}",
    "find the notes about {q}",
    "find a note about {q}",
    "look at the note about {q}",
    "look at my note on {q}",
    "tell me about {q} from my notes",
    "tell me what I wrote about {q}",
    "check what the notes say about {q}",
    "read what the note on {q} says",
    "find out what the note about {q} says",
    "show me what my note about {q} says",
    "search for the note about {q}",
    "search for a note on {q}",
    "I need the note about {q}",
    "I want to read the note about {q}",
]
FIND_QUESTIONS = [
    "What does the note about {q} say?",
    "What did I write about {q}?",
    "Is there a note about {q}?",
    "Do I have a note about {q}?",
    "What do we know about {q}?",
    "What do my notes say about {q}?",
    "What is in the note about {q}?",
    "Can you find the note about {q}?",
    "Could you look up the note about {q}?",
    "Could you find my note on {q}?",
    "Can you read me the note about {q}?",
    "Can you tell me what the note about {q} says?",
    "Would you look for the note about {q}?",
    "What is written about {q}?",
    "What does it say about {q}?",
    "Where is the note about {q}?",
    "Did I write something about {q}?",
    "Did I make a note about {q}?",
    "Have I got a note about {q}?",
    "What was the note about {q}?",
    "What do you know about {q}?",
    "Any notes about {q}?",
    "Are there notes about {q}?",
]
NEW_FIND_CLAUSES = [
    "pull up the note about {q}",
    "fetch the note on {q}",
    "have a look at the note about {q}",
    "see what the note about {q} says",
]
NEW_FIND_QUESTIONS = ["What have I noted about {q}?", "Can you look up what I wrote on {q}?"]

# {t}: the text as it is, at the end of the clause; {s}: the text in quotes, anywhere.
ADD_CLAUSES = [
    "save a note: {t}",
    "save the note: {t}",
    "save a new note: {t}",
    "save this note: {t}",
    "add a note: {t}",
    "add the note: {t}",
    "add this to the notebook: {t}",
    "write a note: {t}",
    "write down: {t}",
    "write this down: {t}",
    "write down {t}",
    "write down that {t}",
    "make a note: {t}",
    "make a note that {t}",
    "take a note: {t}",
    "note down: {t}",
    "note that {t}",
    "remember this: {t}",
    "put this in the notebook: {t}",
    "save {s}",
    "save the note {s}",
    "add the note {s}",
    "write down {s}",
    "add {s} to the notebook",
    "write {s} in the notebook",
    "save: {t}",
    "save this: {t}",
    "save the following note: {t}",
    "save the text {s}",
    "save the text: {t}",
    "note: {t}",
    "new note: {t}",
    "add: {t}",
    "add a new note: {t}",
    "add a note that says {s}",
    "add a note with the text {s}",
    "add a note saying {t}",
    "add the text: {t}",
    "write: {t}",
    "write in the notebook: {t}",
    "write into my notebook: {t}",
    "write a note that {t}",
    "write a note saying {s}",
    "create a note: {t}",
    "create a new note: {t}",
    "create the note {s}",
    "make a new note: {t}",
    "record this: {t}",
    "record that {t}",
    "remember that {t}",
    "remember for me: {t}",
    "do not forget: {t}",
    "put down: {t}",
    "put {s} in my notes",
    "put a note in the notebook: {t}",
    "enter a note: {t}",
    "leave a note: {t}",
    "keep this in the notebook: {t}",
    "I want to note this: {t}",
]
NEW_ADD_CLAUSES = ["keep a note: {t}", "jot down: {t}", "store the note {s}", "note for me: {t}"]

COPY_CLAUSES = [
    "save its text as a note",
    "save its text as a new note",
    "save it as a new note",
    "save it again as a note",
    "save a copy of it",
    "save what it says as a note",
    "save the text as a note",
    "copy it into a new note",
    "copy its text to a new note",
    "copy it",
    "write it down again",
    "write its text in a new note",
    "write the same text down",
    "add its text as a new note",
    "add a note with its text",
    "make a copy of it",
    "save that as a new note",
    "save that text as a note",
    "save the found text as a note",
    "save what you found",
    "save what it says",
    "save what you find as a new note",
    "save the same text again",
    "add it again",
    "add it as a new note",
    "add what it says as a note",
    "add the same text as a new note",
    "write what it says in a new note",
    "write it in a new note",
    "write that down as a new note",
    "copy the text into another note",
    "copy that note",
    "duplicate it",
    "put its text in a new note",
    "create a new note with its text",
    "create a copy",
]
NEW_COPY_CLAUSES = ["store its text as a note", "make a new note of what it says"]

TITLE_CLAUSES = [
    "set the title to {t}",
    "set the title to {s}",
    "set the title of the notebook to {t}",
    "change the title to {t}",
    "rename the notebook to {t}",
    "call the notebook {t}",
    "give the notebook the title {t}",
    "set the title: {t}",
    "title: {t}",
    "name it {t}",
    "the title should be {t}",
    "change the notebook's title to {t}",
    "rename it to {t}",
    "use the title {t}",
    "use {s} as the title",
    "choose {s} as the title",
]
NEW_TITLE_CLAUSES = ["title the notebook {t}", "make {t} the title"]

JOINS = [
    "{a} and {b}",
    "{a} and {b}",
    "{a}, then {b}",
    "{a} and then {b}",
    "{a}, and {b}",
    "{a}. Then {b}",
    "first {a}, then {b}",
    "{a}. Also {b}",
    "{a}; {b}",
    "{a}; then {b}",
    "{a}, also {b}",
    "{a} and also {b}",
    "{a}, next {b}",
    "{a}. Next, {b}",
    "{a}, and then {b}",
    "{a}. And {b}",
    "{a}. {B}",
    "{a}. Now {b}",
    "{a}. Please also {b}",
    "{a}. When that is done, {b}",
    "{a}, and when you have it, {b}",
    "{a}; after this, {b}",
    "{a}, later {b}",
    "I want you to {a} and {b}",
    "first {a}. Second, {b}",
    "first, {a}; then {b}",
    "could you {a} and {b}",
]
NEW_JOINS = ["{a}, and after that {b}", "{a}. After that, {b}"]

SAVED_RESULTS = ["saved", "ok", "done", "note saved", "added", '{"ok": true}', '{"saved": true}']
NOTHING_RESULTS = ["no note found", "nothing found", "[]", "not found"]
FAILURES = ["not allowed", "disk full", "timeout", "the notebook is locked", "server not running"]

SYSTEM_TEXTS = [
    "You are a helpful assistant.",
    "You are a helpful assistant that can call tools.",
    "Answer briefly.",
    "You keep the user's notebook.",
    "You are an agent. Use the tools.",
    "You are a notebook agent. Use the tools, then answer in one sentence.",
    "Use the tools when you need them and answer in one sentence.",
    "Be precise and short.",
]

SMALL_TALK = [
    ("Hello;Hi;Hey;Good morning;Hello there;Hi there;Good evening", "Hello! How can I help you?"),
    (
        "Who are you?;What are you?;Hello, who are you?;Hi, what are you?;What is your name?",
        "I am Holdfast's demo model: tiny, but I can call tools.",
    ),
    (
        "What can you do?;Help;How can you help me?",
        "I can call the tools you give me and answer in a sentence.",
    ),
    ("Say hello;Say hi", "Hello!"),
    ("Thank you;Thanks;Thank you very much;Thanks a lot", "You are welcome."),
    (
        "How big are you?;Are you a large model?;How large are you?",
        "Very small: about three million parameters.",
    ),
    ("Goodbye;Bye;See you;Good night", "Goodbye!"),
    (
        "What is Holdfast?;Tell me about Holdfast",
        "Holdfast runs AI agents and models on your own machines.",
    ),
    (
        "Tell me a joke;Another joke please",
        "Why did the agent cross the network? To call a tool on the other side.",
    ),
    ("Do you need the internet?;Can you work offline?", "No. I run on your own machine."),
    ("How are you?;How are you today?", "I am well, thank you."),
    ("OK;Fine;Good;Great;All right", "Good. What else can I do?"),
    (
        "Tell me a story;Write a poem;Explain gravity;Who won the war?;What is love?",
        "I am too small for that. I can call tools and copy words.",
    ),
]

# (kind of value, ways to tell it, acknowledgement, ways to ask, answer); `|` as in tools.py.
FACTS = [
    (
        "name",
        "My name is {x}.;I am {x}.;I'm {x}.;Hi, I am {x}.;Call me {x}.;Hello, my name is {x}.;"
        "Hi, my name is {x}.;Hello, I am {x}.;Please call me {x}.;They call me {x}.;"
        "People call me {x}.;The name is {x}.;Everyone calls me {x}.;This is {x}. "
        "| You can call me {x}.",
        "Nice to meet you, {x}!",
        "What is my name?;Do you know my name?;Who am I?;Do you remember my name?;"
        "Tell me my name.;Say my name.;What is my name again?;Which name did I tell you?;"
        "Can you tell me my name?;Do you still know who I am?;What am I called?;"
        "What did I say my name was? | What was my name again?",
        "Your name is {x}.",
    ),
    (
        "place",
        "I live in {x}.;My home is in {x}.;I am from {x}.;I come from {x}.;We live in {x}.;"
        "My house is in {x}. | I am living in {x}.",
        "I will remember that you live in {x}.",
        "Where do I live?;Which city do I live in?;Where is my home?;Do you know where I live?;"
        "Where am I from?;What city do I live in? | Tell me where I live.",
        "You live in {x}.",
    ),
    (
        "noun",
        "My favorite thing is the {x}.;I like the {x} best.;I love the {x}.;I like the {x}. "
        "| The thing I like best is the {x}.",
        "I will remember that you like the {x}.",
        "What is my favorite thing?;What do I like best?;What do I like?;What do I love? "
        "| Which thing do I like?",
        "You like the {x} best.",
    ),
    (
        "number",
        "My lucky number is {x}.;Remember the number {x}.;My number is {x}.;"
        "The number is {x}.;Please remember {x}. | Please keep the number {x} in mind.",
        "I will remember the number {x}.",
        "What is my number?;Which number did I tell you?;What was the number?;"
        "Do you remember the number?;What is my lucky number? | Tell me my number.",
        "Your number is {x}.",
    ),
    (
        "name",
        "My dog is called {x}.;I have a dog named {x}.;My dog's name is {x}.;"
        "I have a dog, {x}.;We call our dog {x}. | The name of my dog is {x}.",
        "What a nice name, {x}!",
        "What is my dog called?;What is the name of my dog?;What is my dog's name?;"
        "Do you know my dog's name? | How is my dog called?",
        "Your dog is called {x}.",
    ),
]

ECHOES = [
    ("Repeat: {}", "{}"),
    ("Repeat after me: {}", "{}"),
    ("Say {}", "{}"),
    ("Say: {}", "{}"),
    ("Copy this: {}", "{}"),
    ("Say hello to {}", "Hello, {}!"),
    ("Greet {}", "Hello, {}!"),
    ("Say hi to {}", "Hello, {}!"),
    ("Please repeat: {}", "{}"),
    ("Repeat this: {}", "{}"),
    ("Please say: {}", "{}"),
    ("Write back: {}", "{}"),
    ('Repeat "{}"', "{}"),
    ('Say "{}"', "{}"),
]


def fixed_sentences() -> list[str]:
    """What stands in conversations whatever their values are."""
    sentences = [*SYSTEM_TEXTS, *SAVED_RESULTS, *NOTHING_RESULTS, *FAILURES, "# Tools"]
    sentences += [text for pair in SMALL_TALK for text in pair]
    sentences += [text for fact in FACTS for text in fact[1:]]
    sentences += ["That did not work: The note says: The note I found says: The title is now"]
    sentences += ["I saved your note. I saved both notes. I saved a copy. There is no note about"]
    sentences += ["Here is the result: Done. I have no tool for that. is saved"]
    return sentences
