/**
 * The registry of flows, and what every flow is given.
 *
 * A flow is one function that drives the server with an unmodified client and asserts what came
 * back and what the provider wrote down. Flows run in parallel and share one server, so each marks
 * its prompts with a word of its own (`f.mark`) and looks only at what carries that mark.
 */
import assert from 'node:assert/strict';
import Cloudflare from 'cloudflare';
import OpenAI from 'openai';
import { jsonLines } from './evidence.mjs';

export const FLOWS = [];
export const MODEL = 'mock/demo';
/** Cloudflare's name of a model, an alias of a route here. */
export const CF_MODEL = '@cf/meta/llama-3.1-8b-instruct';
/** The first account's id; `default` names it too. */
export const ACCOUNT = '00000000000000000000000000000001';
// A client that waits for longer than this is a failure, not a slow machine.
const CLIENT_MS = 30_000;

/** Registers a flow. */
export function flow(name, run) {
  assert(!FLOWS.some((other) => other.name === name), `two flows are called ${name}`);
  FLOWS.push({ name, run });
}

/** What one flow gets: clients of the shared server, and the provider's evidence. */
export class Flow {
  constructor(name, env = process.env) {
    this.name = name;
    this.env = env;
    this.url = env.HOLDFAST_URL;
    this.ai = this.cloudflare().ai;
  }

  /** A word that no other flow says, and that no other flow's word contains. */
  get mark() {
    return `m${this.name.replaceAll('_', '')}q`;
  }

  key(name = 'ci') {
    return this.env[`HOLDFAST_KEY_${name.toUpperCase()}`] ?? name;
  }

  /** Cloudflare's own SDK. */
  cloudflare({ key, ...options } = {}) {
    const baseURL = `${this.url}/client/v4`;
    const defaults = { apiToken: this.key(key), baseURL, maxRetries: 0, timeout: CLIENT_MS };
    return new Cloudflare({ ...defaults, logLevel: 'off', ...options });
  }

  /** OpenAI's SDK at one of Cloudflare's base URLs. */
  openai(base, { key, ...options } = {}) {
    const defaults = { apiKey: this.key(key), baseURL: this.url + base, maxRetries: 0 };
    return new OpenAI({ ...defaults, timeout: CLIENT_MS, logLevel: 'off', ...options });
  }

  /** Runs a model by the SDK. */
  run(input, { model = MODEL, account = ACCOUNT, ...options } = {}) {
    return this.ai.run(model, { account_id: account, ...input }, options);
  }

  /** One plain request, for what an SDK would not send. */
  http(method, path, { body, key, headers = {} } = {}) {
    const own = { authorization: `Bearer ${this.key(key)}`, 'content-type': 'application/json' };
    const sent = Object.fromEntries(
      Object.entries({ ...own, ...headers }).filter(([, value]) => value !== undefined),
    );
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return fetch(this.url + path, { method, headers: sent, body: text });
  }

  /** The same below the account's `ai/`. */
  post(place, body, options = {}) {
    const { account = 'default', ...rest } = options;
    const path = `/client/v4/accounts/${account}/ai/${place}`;
    return this.http('POST', path, { body, ...rest });
  }

  /** One plain request below the account's gateway. */
  gateway(place, body, options = {}) {
    return this.http('POST', `/ai-gateway/v1/default/default${place}`, { body, ...options });
  }

  user(text) {
    return [{ role: 'user', content: `${text} ${this.mark}` }];
  }

  /** The lines of the provider's log about this flow's requests. */
  sent() {
    return jsonLines(this.env.HOLDFAST_PROVIDER_LOG).filter((line) =>
      line.body.includes(this.mark),
    );
  }

  /** The bodies of these requests. */
  bodies() {
    return this.sent().map((line) => JSON.parse(line.body));
  }
}

/** Hosts that Cloudflare's clients know by heart are at this server: what DNS would say. */
const HOSTS = {
  'https://api.cloudflare.com/': `${process.env.HOLDFAST_URL}/`,
  'https://gateway.ai.cloudflare.com/': `${process.env.HOLDFAST_URL}/ai-gateway/`,
};
const outside = globalThis.fetch;
globalThis.fetch = (address, init) => {
  const text = String(address?.url ?? address);
  const found = Object.entries(HOSTS).find(([host]) => text.startsWith(host));
  return outside(found ? text.replace(...found) : address, init);
};

/** Cloudflare's envelope of an error with that status, number and name of ours. */
export async function refused(answer, status, number, code) {
  const body = await answer.json();
  assert.equal(answer.status, status, JSON.stringify(body));
  assert.equal(body.success, false);
  assert.equal(body.result, null);
  const [error, ...more] = body.errors;
  assert.deepEqual([error.code, error.holdfast.code, more.length], [number, code, 0]);
  assert.equal(error.holdfast.call_id, answer.headers.get('holdfast-call-id'));
  return error;
}

/** The events of a stream's bytes, and the comments between them. */
export function readStream(text) {
  const events = [];
  const comments = [];
  for (const frame of text.split('\n\n').filter(Boolean)) {
    if (frame.startsWith(':')) comments.push([events.length, frame.slice(1).trim()]);
    else if (frame === 'data: [DONE]') events.push('[DONE]');
    else events.push(JSON.parse(frame.replace(/^data: /, '')));
  }
  return { events, comments };
}
