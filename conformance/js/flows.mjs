/**
 * The registry of flows, and what every flow is given.
 *
 * A flow is one function that drives the server with the unmodified SDK and asserts what came back
 * and what the provider or the tool server wrote down. Flows run in parallel and share one server,
 * so each marks its prompts with a word of its own (`f.mark`) and looks only at what carries that
 * mark. A flow never believes what the product says of itself where somebody else wrote it down
 * too.
 */
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { eventually, jsonLines, markOf } from './common.mjs';

export * from './common.mjs';

export const MODEL = 'mock/demo';
export const LOCAL = 'local/demo';
// A client that waits for longer than this is a failure, not a slow machine.
const CLIENT_MS = 30_000;
// The prices that the suite's configuration sets, in nanodollars per token.
const INPUT_NANODOLLARS = 1000n;
const OUTPUT_NANODOLLARS = 2000n;

/** What one flow gets: clients of the shared server, and the others' evidence. */
export class Flow {
  constructor(name, env = process.env) {
    this.name = name;
    this.env = env;
    this.url = env.HOLDFAST_URL;
    this.client = this.with({});
  }

  /** A word that no other flow says, and that no other flow's word contains. */
  get mark() {
    return markOf(this.name);
  }

  /** A client of the shared server; unless told otherwise with the key `ci` and no retries. */
  with({ key = 'ci', ...options }) {
    const apiKey = this.env[`HOLDFAST_KEY_${key.toUpperCase()}`] ?? key;
    const defaults = {
      apiKey,
      baseURL: `${this.url}/v1`,
      maxRetries: 0,
      timeout: CLIENT_MS,
      logLevel: 'off',
    };
    return new OpenAI({ ...defaults, ...options });
  }

  /** A client as the SDK makes it: two retries. */
  retrying(key = 'ci') {
    return this.with({ key, maxRetries: 2 });
  }

  /** The lines of the provider's log about this flow's requests, or about one Call. */
  sent({ call } = {}) {
    const lines = jsonLines(this.env.HOLDFAST_PROVIDER_LOG);
    return lines.filter((line) =>
      call === undefined ? line.body.includes(this.mark) : line.call_id === call,
    );
  }

  /**
   * The effects that a tool server wrote down of this flow's calls: `HOLDFAST_EFFECTS` or
   * `HOLDFAST_SLOW_EFFECTS`.
   */
  effects(log = 'HOLDFAST_EFFECTS') {
    return jsonLines(this.env[log]).filter((entry) =>
      JSON.stringify(entry.arguments).includes(this.mark),
    );
  }

  user(text) {
    return [{ role: 'user', content: `${text} ${this.mark}` }];
  }

  /** A plain chat completion about this flow's mark. */
  ask(text, body = {}, options = {}) {
    return this.client.chat.completions.create(
      { model: MODEL, messages: this.user(text), ...body },
      options,
    );
  }

  /** A response about this flow's mark. */
  respond(text, body = {}, options = {}) {
    return this.client.responses.create(
      { model: MODEL, input: `${text} ${this.mark}`, ...body },
      options,
    );
  }

  /** The Responses helper about this flow's mark. */
  streamed(text, body = {}, options = {}) {
    return this.client.responses.stream(
      { model: MODEL, input: `${text} ${this.mark}`, ...body },
      options,
    );
  }

  /** One plain request with this key, for what an SDK would not send. */
  http(method, path, { body, key = 'ci' } = {}) {
    const secret = this.env[`HOLDFAST_KEY_${key.toUpperCase()}`] ?? key;
    const headers = { authorization: `Bearer ${secret}`, 'content-type': 'application/json' };
    return fetch(this.url + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  }

  /** Holdfast's own API with the admin key: the JSON of a good answer. */
  async api(method, path, body) {
    const answer = await this.http(method, `/api/${path}`, {
      body,
      key: this.env.HOLDFAST_ADMIN_KEY,
    });
    const text = await answer.text();
    assert(answer.ok, `${method} /api/${path}: ${answer.status} ${text.slice(0, 300)}`);
    return text ? JSON.parse(text) : undefined;
  }

  /** The steps of a session as `/api` shows them, in order. */
  async steps(session) {
    return (await this.api('GET', `sessions/${session}`)).turns.flatMap((turn) => turn.steps);
  }

  /** Polls as the SDK's guide does, until the response is no longer open. */
  finished(id, client = this.client) {
    return eventually(`${id} ends`, async () => {
      const response = await client.responses.retrieve(id);
      return response.status === 'queued' || response.status === 'in_progress'
        ? undefined
        : response;
    });
  }
}

/** What the suite's prices make of a usage object, whichever API's: nanodollars. */
export function costOf(usage) {
  const input = usage.prompt_tokens ?? usage.input_tokens;
  // Embeddings have no output.
  const output = usage.completion_tokens ?? usage.output_tokens ?? 0;
  return BigInt(input) * INPUT_NANODOLLARS + BigInt(output) * OUTPUT_NANODOLLARS;
}

/** An OpenAI error object with that status that names the field, and says which Call it was. */
export function refusedByName(error, field, status = 400) {
  assert.equal(error.status, status);
  assert(
    `${error.param} ${error.message}`.includes(field),
    `the error does not name ${field}: ${error.message}`,
  );
  assert.match(error.headers.get('holdfast-call-id') ?? '', /^hfc_[0-9a-hjkmnp-tv-z]{26}$/);
  assert(typeof error.code === 'string' && error.code, `no code: ${JSON.stringify(error.error)}`);
}
