#!/usr/bin/env python3
"""A provider that speaks Anthropic's Messages API: its own process, a real HTTP/1.1 server.

It is `examples/demo/provider.py` with another format: the same log, the same directives in
messages. It is as strict as the documented API, so that what passes here may pass there:

- a key in x-api-key; a version that there is; no sampling parameters in version 2026-10-21
- roles, blocks, results that follow their calls; fields that need a beta only with that beta
- thinking comes back as it was given: a signature that was not made here is refused
- a prompt's prefix is kept where `cache_control` says so, and read where it comes again

    [[think:TEXT]] [[redacted]]     thinking before the answer, if the request allows any
    [[refuse]]                      the stop reason `refusal`
    [[fault:credit]]                the 400 of an account without money
    [[fault:no_stop]]               a clean end without `message_stop`

The other directives are those of `examples/demo/provider_script.py`. A line of the log has
`path` and `headers` too.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "demo"))

import provider  # noqa: E402
import rules  # noqa: E402
import script  # noqa: E402
from provider import Refusal  # noqa: E402

# Headers of a request that the log has; of secrets only that they are there.
LOGGED = ("anthropic-version", "anthropic-beta", "accept", "user-agent", "content-type")
SECRET = ("x-api-key", "authorization")


class Exchange(provider.Exchange):
    """One request, with what else its line in the log says."""

    def entry(self, finished):
        headers = self.handler.headers
        seen = {name: headers[name] for name in LOGGED if name in headers}
        seen |= {name: "there" for name in SECRET if name in headers}
        return super().entry(finished) | {"path": self.handler.path, "headers": seen}

    @property
    def counts(self):
        """Whether only the number of tokens is asked for."""
        return counts(self.handler.path)


def counts(path):
    return path.split("?")[0].endswith("/count_tokens")


class Handler(provider.Handler):
    server_version = "anthropic-script"
    exchange = Exchange

    def check_key(self):
        if self.headers.get("x-api-key") != self.server.options.own_key:
            raise Refusal(401, "invalid x-api-key", "authentication_error")

    def parse(self, raw, path):
        return rules.checked(raw, self.headers, self.server.options.models, counts(path))

    def refuse(self, refusal):
        """The same refusal as an error of this API."""
        said = refusal.body["error"]
        error = {"type": said["type"], "message": said["message"]}
        refusal.body = {"type": "error", "error": error, "request_id": self.request_id()}
        super().refuse(refusal)

    def request_id(self):
        return f"req_{self.headers.get('x-client-request-id', 'none')}"

    def end_headers(self):
        self.send_header("request-id", self.request_id())
        self.send_header("anthropic-organization-id", "org_secret")
        self.send_header("anthropic-ratelimit-requests-remaining", "41")
        super().end_headers()


def main():
    answer = script.Script().answer
    answers = {"/v1/messages": answer, "/v1/messages/count_tokens": answer}
    provider.serve(provider.Provider(provider.options(), answers, Handler))


if __name__ == "__main__":
    main()
