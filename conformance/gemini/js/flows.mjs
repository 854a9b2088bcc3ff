/**
 * What every flow of this suite is given.
 *
 * A flow drives the server with the unmodified SDK and asserts what came back and what the providers
 * wrote down. Flows run in parallel and share one server, so each marks its prompts with a word of
 * its own (`f.mark`) and looks only at what carries that mark.
 */
import assert from 'node:assert/strict';
import { GoogleGenAI } from '@google/genai';
import { all, flow, jsonLines, markOf } from '../../js/common.mjs';

export { all, flow };

// The scripted Gemini provider, passed through; a chat provider, translated; the local engine.
export const PASSED = 'google/gemini-3-script';
export const TRANSLATED = 'mock/demo';
export const LOCAL = 'local/demo';

/** Registers a flow twice: passed through to Google's format, and translated to chat. */
export function both(name, run) {
  flow(`${name}_passed`, (f) => run(f, PASSED));
  flow(`${name}_translated`, (f) => run(f, TRANSLATED));
}

/** What one flow gets: a client of the shared server, and the others' evidence. */
export class Flow {
  constructor(name, env = process.env) {
    this.name = name;
    this.env = env;
    this.url = env.HOLDFAST_URL;
    this.client = this.clientOf('ci');
  }

  /** A word that no other flow says, and that no other flow's word contains. */
  get mark() {
    return markOf(this.name);
  }

  key(name) {
    return this.env[`HOLDFAST_KEY_${name.toUpperCase()}`] ?? name;
  }

  clientOf(key, options = {}) {
    const httpOptions = { baseUrl: this.url, timeout: 30_000, ...options };
    return new GoogleGenAI({ apiKey: this.key(key), httpOptions });
  }

  said(text) {
    return `${text} ${this.mark}`;
  }

  ask(model, text, config) {
    return this.client.models.generateContent({ model, contents: this.said(text), config });
  }

  async stream(model, text, config) {
    const contents = this.said(text);
    return all(await this.client.models.generateContentStream({ model, contents, config }));
  }

  /** What reached the provider of this flow's requests. */
  sent(model = PASSED) {
    const { HOLDFAST_PROVIDER_LOG: mock, HOLDFAST_GEMINI_LOG: google } = this.env;
    const whole = jsonLines(model === TRANSLATED ? mock : google);
    return whole.filter((line) => line.body.includes(this.mark));
  }

  bodies(model) {
    return this.sent(model).map((line) => JSON.parse(line.body));
  }

  /** One plain request, for what the SDK would not send. */
  async http(path, body, headers = { 'x-goog-api-key': this.key('ci') }) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return fetch(this.url + path, { method: 'POST', body: text, headers });
  }
}

/** The error with which a promise ends; anything else fails the flow. */
export async function rejects(promise) {
  const settled = await promise.then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  assert(settled.error, `expected an error, got ${JSON.stringify(settled.value)?.slice(0, 300)}`);
  return settled.error;
}
