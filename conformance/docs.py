#!/usr/bin/env python3
"""The suite `docs`: is what README.md and docs/*.md say what happens?

The fenced code blocks of a page are run in their order, in a temporary folder that looks like a
checkout, against servers that the page itself starts. Standard library only; the blocks find the
clients of the SDK suites.

    sh      run by bash; variables and the working folder last until the end of the page
    python  run by the Python that runs this suite, where the openai SDK is
    js      run by Node.js as a module, with the js suite's node_modules
    toml    given to `holdfast check`, which may find no problem
    json    parsed; right behind a block that runs: its expected output
    text    right behind a block that runs: its expected output

In an expected output `…` stands for anything: within a line, or as a line of its own for any
number of lines. In JSON the string "…" stands for any value, the key "…" for further fields, and
as the last of a list for further items. Runs of spaces count as one.

An HTML comment right above a block says what is different about it:

    <!-- docs: stays PORT -->   it runs on until a later block takes its PORT (it gets Ctrl-C), or
                                until the page ends; the next block waits until PORT is listened on
    <!-- docs: fails -->        it must end with an error
    <!-- docs: file NAME -->    it is the content of the file NAME, which the reader makes
    <!-- docs: wrong NAME -->   the same, and `holdfast check` must find a problem in it
    <!-- docs: skip WHY -->     it can't be run here

The ports that the pages name are other, free ones here, in what is run and in what is shown.

Beyond that: every setting, command, option and path of the API has its place in the docs and
nothing else has, and links lead somewhere. And commands whose reader goes end quietly, a start in
vain leaves nothing behind, and one without its engine says so.
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request

from harness import ROOT, Server, SetupFailed, World, eventually, holdfast_binary

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
# Ports that the pages name: the server's, and that of a provider.
PORTS = (8420, 9000)
# What a block that does not stay may take, and what a process has to end after Ctrl-C.
BLOCK_SECONDS = 30
STOP_SECONDS = 15
# Commands that ask a server, which they find by its data folder.
ASKING = ("keys", "calls", "sessions", "budgets", "rate-limits", "models", "routes")
# Their common options, which commands.md describes once.
COMMON_OPTIONS = {"--url", "--key", "--data", "--json"}
RUNS = ("sh", "python", "js")
FENCE = re.compile(r"^```(\w*)\s*$")
DIRECTIVE = re.compile(r"^<!-- docs: (\w+)(?: (.*?))? -->$")


@dataclasses.dataclass
class Block:
    """One fenced block: its language, text, first line, directive and expected output."""

    language: str
    text: str
    line: int
    directive: str = ""
    about: str = ""
    expected: "Block | None" = None


def blocks(page):
    """The page's blocks in their order; an expected output is part of the block it follows."""
    found, lines, at = [], page.read_text().splitlines(), 0
    directive = ("", "")
    follows = None  # the block that ran right above, if nothing but empty lines came since
    while at < len(lines):
        line = lines[at]
        at += 1
        if marked := DIRECTIVE.match(line):
            directive = (marked[1], marked[2] or "")
            continue
        if not (fence := FENCE.match(line)):
            if line.strip():
                directive, follows = ("", ""), None
            continue
        begin = at
        while at < len(lines) and lines[at].strip() != "```":
            at += 1
        block = Block(fence[1], "\n".join(lines[begin:at]) + "\n", begin, *directive)
        at += 1
        directive = ("", "")
        if follows and block.language in ("text", "json") and not block.directive:
            follows.expected, follows = block, None
            continue
        found.append(block)
        runs = block.language in RUNS and block.directive in ("", "fails")
        follows = block if runs else None
    return found


def like(expected, found):
    """Whether an output is the expected one, `…` standing for anything."""
    pattern = ""
    for line in tidy(expected).splitlines():
        if line == "…":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("…")) + r"\n"
    return re.fullmatch(pattern, tidy(found)) is not None


def tidy(text):
    lines = [re.sub(r" +", " ", line).strip() for line in text.strip().splitlines()]
    return "".join(line + "\n" for line in lines)


def like_json(expected, found):
    """The same for JSON values."""
    if expected == "…":
        return True
    if isinstance(expected, dict) and isinstance(found, dict):
        named = {key: value for key, value in expected.items() if key != "…"}
        whole = "…" in expected or set(named) == set(found)
        return whole and all(
            key in found and like_json(value, found[key]) for key, value in named.items()
        )
    if isinstance(expected, list) and isinstance(found, list):
        open_end = bool(expected) and expected[-1] == "…"
        wanted = expected[:-1] if open_end else expected
        fits = len(wanted) <= len(found) if open_end else len(wanted) == len(found)
        return fits and all(map(like_json, wanted, found))
    if isinstance(expected, str) and isinstance(found, str):
        return like(expected, found)
    return expected == found


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_listened_on(port):
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


class Page:
    """One page being tried: its folder, its shell's variables, and what it left running."""

    def __init__(self, folder):
        self.folder = folder / "checkout"
        self.state = folder / "variables.sh"
        self.where = folder / "where"
        self.ports = {port: free_port() for port in PORTS}
        self.staying = {}
        self.count = 0
        programs = self.folder / "target" / "release"
        programs.mkdir(parents=True)
        for name in ("examples", "models"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "node_modules").symlink_to(ROOT / "conformance" / "js" / "node_modules")
        (programs / "holdfast").symlink_to(holdfast_binary())
        self.where.write_text(str(self.folder))
        self.environment = self.clean_environment(programs)

    def clean_environment(self, programs):
        """What a newcomer's shell has: nothing of ours but where to listen."""
        ours = ("HOLDFAST_", "OPENAI_", "ANTHROPIC_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        node = ROOT / ".build" / "node" / "node_modules" / ".bin"
        kept["PATH"] = f"{programs}:{node}:{kept['PATH']}"
        kept["HOLDFAST_SERVER__LISTEN"] = f"127.0.0.1:{self.ports[PORTS[0]]}"
        return kept

    def here(self, text):
        """A block with this run's ports."""
        for named, port in self.ports.items():
            text = re.sub(rf"\b{named}\b", str(port), text)
        return text

    def there(self, text):
        """An output with the ports that the page names."""
        for named, port in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(named), text)
        return text

    def run(self, block):
        """Tries one block; an assertion fails if it is not as the page says."""
        text = self.here(block.text)
        if block.directive in ("file", "wrong"):
            (self.folder / block.about).write_text(text)
        if block.language == "toml":
            self.check_configuration(text, block.directive == "wrong")
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "text":
            raise AssertionError("a text block that follows no block that runs")
        elif block.language not in RUNS:
            raise AssertionError(f"a block of the language {block.language!r}: say which, or why")
        elif block.directive == "stays":
            self.start(text, int(block.about))
        elif block.directive != "file":
            self.run_and_compare(block, text)

    def check_configuration(self, text, is_wrong):
        fragment = self.folder / "fragment.toml"
        fragment.write_text(text)
        code, output = self.finish(self.spawn("sh", f"holdfast check --config {fragment}"))
        fragment.unlink()
        assert (code != 0) == is_wrong, output

    def run_and_compare(self, block, text):
        code, output = self.finish(self.spawn(block.language, text))
        output = self.there(output)
        assert (code != 0) == (block.directive == "fails"), f"ended with {code}:\n{output}"
        if block.expected is None:
            return
        if block.expected.language == "json":
            fits = like_json(json.loads(block.expected.text), json.loads(output))
        else:
            fits = like(block.expected.text, output)
        wanted = f"expected, at line {block.expected.line}:\n{block.expected.text}"
        assert fits, f"{wanted}got:\n{output}"

    def spawn(self, language, text, stays=False):
        """Starts a block in a process group of its own: (process, file of its output)."""
        self.count += 1
        output = self.folder.parent / f"{self.count}.log"
        if language == "sh":
            # What stays ends later than blocks behind it, whose variables count.
            last = "" if stays else f"declare -px >'{self.state}'; pwd >'{self.where}'"
            program = f"set -aeo pipefail\n{text}\n{last}\n"
        else:
            suffix, runner = {"python": ("py", sys.executable), "js": ("mjs", "node")}[language]
            script = self.folder / f"block{self.count}.{suffix}"
            script.write_text(text)
            program = f"exec '{runner}' '{script}'"
        known = f"[[ ! -f '{self.state}' ]] || . '{self.state}'\ncd \"$(cat '{self.where}')\"\n"
        with open(output, "wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", known + program],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return process, output

    def finish(self, started):
        process, output = started
        try:
            code = process.wait(BLOCK_SECONDS)
        except subprocess.TimeoutExpired:
            code = f"no end after {BLOCK_SECONDS} s"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return code, output.read_text(errors="replace")

    def start(self, text, named):
        """Starts what stays, in place of what stayed on that port before."""
        if named in self.staying:
            self.stop(self.staying.pop(named))
        process, output = self.spawn("sh", text, stays=True)
        self.staying[named] = process
        eventually(
            f"something listens on {named}:\n{output.read_text(errors='replace')}",
            lambda: process.poll() is not None or is_listened_on(self.ports[named]),
            BLOCK_SECONDS,
        )
        assert process.poll() is None, f"it ended:\n{output.read_text(errors='replace')}"

    def stop(self, process):
        """Ctrl-C, as the reader would; what does not end by that is killed and is a failure."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"it did not end {STOP_SECONDS} s after Ctrl-C") from None

    def stop_all(self):
        for process in self.staying.values():
            self.stop(process)
        self.staying.clear()


class Judge:
    """Counts and prints."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, function):
        began = time.monotonic()
        try:
            function()
        except Exception as problem:  # any failure is a result
            self.failed += 1
            told = problem if isinstance(problem, AssertionError) else traceback.format_exc()
            print(f"FAIL {name}: {told}", flush=True)
            return False
        self.passed += 1
        print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
        return True


def try_page(judge, path, everything):
    name = path.relative_to(ROOT)
    folder = everything / str(name).replace("/", "-")
    folder.mkdir()
    page = Page(folder)
    try:
        for block in blocks(path):
            where = f"{name}:{block.line} {block.language}"
            if block.directive == "skip":
                assert block.about, f"{where}: a block that is skipped needs a reason"
                print(f"skip {where}: {block.about}", flush=True)
            elif not judge.check(where, lambda block=block: page.run(block)):
                print(f"     the rest of {name} is not tried: it builds on this", flush=True)
                return
    finally:
        judge.check(f"{name} ends", page.stop_all)


# What the docs must name.


def same(what, written, real):
    assert real, f"{what}: nothing was found in the product, so that this check checks nothing"
    missing, invented = sorted(real - written), sorted(written - real)
    assert not missing, f"{what}: not in the docs: {', '.join(missing)}"
    assert not invented, f"{what}: in the docs and not in the product: {', '.join(invented)}"


def sections(page):
    """The page's text by heading, without what is fenced."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    parts = re.split(r"^#+ (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def settings():
    """Each table of the configuration with its fields, as the code reads them."""
    sources = sorted((ROOT / "crates/holdfast/src/config").glob("*.rs"))
    source = "".join(path.read_text() for path in sources)
    # A field that is called otherwise in the file.
    renamed = r'#\[serde\((?:default, )?rename = "(\w+)"[^\n]*\)\]\n( +pub\(crate\) )\w+:'
    source = re.sub(renamed, r"\2\1:", source)
    structs = {
        name: dict(re.findall(r"pub\(crate\) (\w+): ([^\n]+),\n", body))
        for name, body in re.findall(r"pub\(crate\) struct (\w+) \{(.*?)^\}", source, re.M | re.S)
    }
    for fields in structs.values():
        if fields.get("price") == "PriceEntry":
            del fields["price"]
            fields.update(structs["PriceEntry"])
    tables = {}
    for name, kind in structs["Config"].items():
        if kind == "Text":
            continue  # the same tables, as they are written
        entry = re.sub(r"Vec<(\w+)>", r"\1", kind)
        tables[f"[[{name}]]" if entry != kind else f"[{name}]"] = set(structs[entry])
    tables["models of a provider"] = set(structs["ProviderModel"])
    def tables_below(path, entry):
        for name, kind in structs[entry].items():
            below = re.fullmatch(r"Option<(\w+)>", kind)
            if below and below[1] in structs:
                tables[f"[{path}.{name}]"] = set(structs[below[1]])
                tables_below(f"{path}.{name}", below[1])

    tables_below("routes", "RouteEntry")
    return tables


def check_settings():
    written = {}
    for heading, text in sections(DOCS / "configuration.md").items():
        names = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
        if names:
            written[heading.replace("`", "")] = names
    real = settings()
    same("tables of the configuration", set(written), set(real))
    for table, fields in real.items():
        same(f"settings of {table}", written[table], fields)


def help_of(*command):
    done = subprocess.run(
        [holdfast_binary(), *command, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


def commands(*above):
    """Each command with its own options, as the binary tells them."""
    text = help_of(*above)
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.M)
    below = re.findall(r"^  ([\w-]+) ", listed[1], re.M) if listed else []
    found = {}
    for name in below:
        if name != "help":
            found |= commands(*above, name)
    if not below:
        options = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", text, re.M)) - {"--help"}
        if above[0] in (*ASKING, "reload", "usage"):
            options -= COMMON_OPTIONS
        found[" ".join(["holdfast", *above])] = options
    return found


def check_commands():
    page = sections(DOCS / "commands.md")
    written = {
        heading.strip("`"): set(re.findall(r"^\| `(--[\w-]+)", text, re.M))
        for heading, text in page.items()
        if heading.startswith("`holdfast ")
    }
    real = commands()
    same("commands", set(written), set(real))
    for command, options in real.items():
        if written[command] or options:
            same(f"options of {command}", written[command], options)


def check_api():
    with World() as world:
        server = world.start(Server, "")
        _, document = server.api("GET", "openapi.json")
    real = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    text = (DOCS / "api.md").read_text()
    written = set(re.findall(r"^\| `((?:GET|POST|DELETE|PUT|PATCH) /(?:api/|metrics)[^`?]*)", text, re.M))
    same("paths of /api", written, real)


def check_outputs():
    """A reader that goes early ends a command quietly; a disk that is full does not."""
    with World() as world:
        server = world.start(Server, "")
        for command in ASKING:
            read, write = os.pipe()
            os.close(read)
            with os.fdopen(write, "w") as gone, open("/dev/full", "w") as full:
                code, told = list_into(gone, command, server)
                assert (code, told) == (0, ""), f"{command}: ended with {code}: {told}"
                code, told = list_into(full, command, server)
            assert code == 1 and "writing the answer" in told, f"{command}: {code}: {told}"


def check_lost_secrets():
    """A key whose secret could not be shown is not left behind."""
    with World() as world:
        server = world.start(Server, "")

        def names():
            return [key["name"] for key in server.api("GET", "keys")[1]["data"]]

        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as gone, open("/dev/full", "w") as full:
            for output in (gone, full):
                asked = [holdfast_binary(), "keys", "create", "lost", "--no-budget"]
                asked += ["--url", server.url, "--key", server.admin_key]
                done = subprocess.run(asked, stdout=output, stderr=subprocess.PIPE, text=True)
                assert done.returncode == 1 and "deleted again" in done.stderr, done.stderr
                assert names() == ["admin"], names()


def check_refused_folders():
    """A folder with other files is left as it was; a start in vain makes none."""
    with World() as world:
        home = world.folder / "home"
        home.mkdir(mode=0o755)
        (home / "letter.txt").write_text("mine")
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        for data, address, told in (
            (home, "127.0.0.1:0", "no data folder of Holdfast's"),
            (world.folder / "new", f"127.0.0.1:{port}", "--listen"),
        ):
            command = [holdfast_binary(), "serve", "--data", data, "--listen", address]
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=home, timeout=BLOCK_SECONDS
            )
            assert done.returncode == 1 and told in done.stderr, done.stderr
        listening.close()
        assert not (world.folder / "new").exists()
        assert home.stat().st_mode & 0o777 == 0o755 and len(list(home.iterdir())) == 1


def check_engine_that_is_missing():
    """A copy of `holdfast` alone says so: in its log, when it is asked, and to clients."""
    with World() as world:
        alone = world.folder / "alone"
        alone.mkdir()
        binary = pathlib.Path(shutil.copy(holdfast_binary(), alone / "holdfast"))
        ready, log = world.folder / "alone.ready", world.folder / "alone.log"
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--ready-file", ready]
        with open(log, "w") as output:
            child = subprocess.Popen(command, stdout=output, stderr=output, cwd=alone)
        try:
            eventually("it is ready", ready.exists, BLOCK_SECONDS)
            url = json.loads(ready.read_text())["url"]
            key = (alone / "holdfast-data" / "admin.key").read_text().strip()
            asked = json.dumps({"model": "local/demo", "messages": [{"role": "user", "content": "x"}]})
            for path, body in (("/v1/chat/completions", asked.encode()), ("/readyz", None)):
                request = urllib.request.Request(url + path, body)
                request.add_header("authorization", f"Bearer {key}")
                request.add_header("content-type", "application/json")
                try:
                    told, code = urllib.request.urlopen(request, timeout=BLOCK_SECONDS).read(), 200
                except urllib.error.HTTPError as refused:
                    told, code = refused.read(), refused.code
                assert code == 503 and b"is not beside holdfast" in told, (path, code, told)
            assert (alone / "holdfast-data" / "server.url").read_text().strip() == url
        finally:
            child.terminate()
            child.wait(STOP_SECONDS)
        assert "holdfast-engine is not beside holdfast" in log.read_text(), log.read_text()
        assert not (alone / "holdfast-data" / "server.url").exists()


def check_unread_servers():
    """A server whose output nobody reads any more (`| head`) answers what it would log."""
    with World() as world:
        read, write = os.pipe()
        os.close(read)
        ready = world.folder / "unread.ready"
        command = [holdfast_binary(), "serve", "--listen", "127.0.0.1:0", "--ready-file", ready]
        child = subprocess.Popen(command, stdout=write, stderr=write, cwd=world.folder)
        os.close(write)
        try:
            eventually("it is ready", ready.exists, BLOCK_SECONDS)
            url = json.loads(ready.read_text())["url"]
            try:
                code = urllib.request.urlopen(f"{url}/v1/models", timeout=BLOCK_SECONDS).status
            except urllib.error.HTTPError as refused:
                code = refused.code
            assert code == 401, code
        finally:
            child.terminate()
            child.wait(STOP_SECONDS)


def list_into(output, command, server):
    """Lists something into a file: (exit code, what was said on standard error)."""
    asked = [holdfast_binary(), command, "list", "--url", server.url, "--key", server.admin_key]
    done = subprocess.run(asked, stdout=output, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr


def check_links():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link} is nowhere"


def main(names):
    # Told to end early, it still stops what it started: that is in process groups of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("conformance: told to end"))
    judge = Judge()
    checks = [check_settings, check_commands, check_api, check_links]
    checks += [check_outputs, check_unread_servers, check_lost_secrets, check_refused_folders]
    checks += [check_engine_that_is_missing]
    try:
        with World() as world:
            for function in checks:
                name = function.__name__.replace("check_", "every ").rstrip("s")
                if not names or any(part in name for part in names):
                    judge.check(name, function)
            for path in PAGES:
                if not names or any(part in path.name for part in names):
                    try_page(judge, path, world.folder)
    except SetupFailed as problem:
        print(f"conformance: {problem}")
        judge.failed += 1
    print(f"{judge.passed} passed, {judge.failed} failed")
    return 1 if judge.failed or not judge.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
