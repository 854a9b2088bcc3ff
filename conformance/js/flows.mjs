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
import { readFileSync } from 'node:fs';
import OpenAI from 'openai';

export const FLOWS = [];
export const MODEL = 'mock/demo';
export const LOCAL = 'local/demo';
// A client that waits for longer than this is a failure, not a slow machine.
const CLIENT_MS = 30_000;
// How long `eventually` waits for something that another process does on its own, and how often it
// looks.
const EVENTUALLY_MS = 10_000;
const LOOK_EVERY_MS = 20;
// The prices that the suite's configuration sets, in nanodollars per token.
const INPUT_NANODOLLARS = 1000n;
const OUTPUT_NANODOLLARS = 2000n;

/** Registers a flow. */
export function flow(name, run) {
  assert(!FLOWS.some((other) => other.name === name), `two flows are called ${name}`);
  FLOWS.push({ name, run });
}

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
    return `m${this.name.replaceAll('_', '')}q`;
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

/** The whole lines of a JSONL file that another process may be writing at this moment. */
export function jsonLines(path) {
  let data;
  try {
    data = readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw error;
  }
  const whole = data.slice(0, data.lastIndexOf('\n') + 1);
  return whole
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/**
 * Asks again until `check` gives something truthy, and returns that; fails with `what` if it never
 * does.
 */
export async function eventually(what, check) {
  const deadline = Date.now() + EVENTUALLY_MS;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert(Date.now() < deadline, `waited ${EVENTUALLY_MS / 1000} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** The list, or nothing if it is empty: for `eventually`. */
export function some(list) {
  return list.length ? list : undefined;
}

/** The error of that class that `promise` ends in; anything else fails the flow. */
export async function raises(kind, promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new assert.AssertionError({
    message: `expected ${kind.name}, got ${JSON.stringify(value)?.slice(0, 300)}`,
  });
}

/** Deep equality of what JSON can say: fields that are `undefined` do not count. */
export function same(found, expected, what) {
  assert.deepEqual(
    plain(found),
    plain(expected),
    what && `${what}: ${show(found)} is not ${show(expected)}`,
  );
}

export function plain(value) {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value));
}

function show(value) {
  return (JSON.stringify(value) ?? String(value)).slice(0, 400);
}

/** All that an async iterable gives. */
export async function all(iterable) {
  const found = [];
  for await (const value of iterable) found.push(value);
  return found;
}

/** The first `count` things that an iterator gives; the iterator stays usable. */
export async function take(iterator, count) {
  const found = [];
  while (found.length < count) {
    const { value, done } = await iterator.next();
    assert(!done, `it ended after ${found.length} of ${count}`);
    found.push(value);
  }
  return found;
}

/** What the suite's prices make of a usage object, whichever API's: nanodollars. */
export function costOf(usage) {
  const input = usage.prompt_tokens ?? usage.input_tokens;
  // Embeddings have no output.
  const output = usage.completion_tokens ?? usage.output_tokens ?? 0;
  return BigInt(input) * INPUT_NANODOLLARS + BigInt(output) * OUTPUT_NANODOLLARS;
}

/** A decimal string of dollars as nanodollars, exactly. */
export function nanodollars(text) {
  const match = /^(\d+)(?:\.(\d{1,9})0*)?$/.exec(text);
  assert(match, `not an amount of dollars: ${text}`);
  return BigInt(match[1]) * 1_000_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** The fields of the comment line that ends a stream: `: holdfast-cost=…; holdfast-attempts=…`. */
export function commentFields(comment) {
  return Object.fromEntries(comment.split(';').map((part) => part.trim().split('=', 2)));
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

/** `word1 word2 … wordN`, as the provider answers `[[words:N]]`. */
export function words(count) {
  return Array.from({ length: count }, (_, index) => `word${index + 1}`).join(' ');
}
