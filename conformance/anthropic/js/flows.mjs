/**
 * What every flow is given, and what flows say often.
 *
 * Most flows are run over two targets: `passed` (a provider of the same format) and `translated` (a
 * provider of chat completions). The answer must be the same where the scripts are asked for the
 * same.
 */
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { flow, jsonLines, markOf, same } from '../../js/common.mjs';

export * from '../../js/common.mjs';

export const PASSED = 'claude/sonnet';
export const TRANSLATED = 'mock/demo';
export const LOCAL = 'local/demo';
const TARGETS = { passed: PASSED, translated: TRANSLATED, local: LOCAL };
export const BOTH = ['passed', 'translated'];
// A client that waits for longer than this is a failure, not a slow machine.
const CLIENT_MS = 30_000;
const CAP = 1024;

export const FIND_TOOL = {
  name: 'find_note',
  description: 'Finds the notes about a word.',
  input_schema: {
    type: 'object',
    properties: { query: { type: 'string' } },
    required: ['query'],
  },
};
export const NOTE_TOOL = {
  name: 'add_note',
  description: 'Adds a note.',
  input_schema: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] },
};
export const NOW_TOOL = {
  name: 'now',
  description: 'Tells the time.',
  input_schema: { type: 'object', properties: {} },
};

/** Registers a flow once per target, whose model it finds in `f.model`. */
export function over(targets, name, run) {
  for (const target of targets) {
    flow(`${name}_${target}`, (f) => {
      f.target = target;
      f.model = TARGETS[target];
      return run(f);
    });
  }
}

/** What one flow gets: clients of the shared server, and the others' evidence. */
export class Flow {
  constructor(name, env = process.env) {
    this.name = name;
    this.env = env;
    this.url = env.HOLDFAST_URL;
    this.target = 'passed';
    this.model = PASSED;
    this.client = this.with({});
  }

  /** A word that no other flow says, and that no other flow's word contains. */
  get mark() {
    return markOf(this.name);
  }

  get isPassed() {
    return this.target === 'passed';
  }

  key(name) {
    return this.env[`HOLDFAST_KEY_${name.toUpperCase()}`] ?? name;
  }

  /** A client of the shared server; unless told otherwise with the key `ci` and no retries. */
  with({ key = 'ci', ...options }) {
    return new Anthropic({
      apiKey: this.key(key),
      baseURL: this.url,
      maxRetries: 0,
      timeout: CLIENT_MS,
      logLevel: 'off',
      ...options,
    });
  }

  /** A client as the SDK makes it: two retries. */
  retrying(key = 'ci') {
    return this.with({ key, maxRetries: 2 });
  }

  /** What reached the target's provider of this flow's requests. */
  sent() {
    const log = this.isPassed ? 'HOLDFAST_CLAUDE_LOG' : 'HOLDFAST_PROVIDER_LOG';
    return jsonLines(this.env[log]).filter((line) => line.body.includes(this.mark));
  }

  /** The body of this flow's last request, as its provider got it. */
  lastBody() {
    return JSON.parse(this.sent().at(-1).body);
  }

  user(text) {
    return [{ role: 'user', content: `${text} ${this.mark}` }];
  }

  /** What a request needs, unless the flow says otherwise. */
  params(text, more = {}) {
    const messages = text === undefined ? {} : { messages: this.user(text) };
    return { model: this.model, max_tokens: CAP, ...messages, ...more };
  }

  /** A message about this flow's mark. */
  ask(text, more = {}, options = {}, client = this.client) {
    return client.messages.create(this.params(text, more), options);
  }

  /** The SDK's helper about this flow's mark. */
  streamed(text, more = {}, options = {}) {
    return this.client.messages.stream(this.params(text, more), options);
  }

  /** One plain request, for what an SDK would not send. */
  http(method, path, { body, key = 'ci', headers = {} } = {}) {
    const own = {
      'x-api-key': this.key(key),
      'anthropic-version': '2023-06-01',
      'content-type': 'application/json',
    };
    return fetch(this.url + path, { method, headers: { ...own, ...headers }, body });
  }
}

export function texts(message) {
  return message.content
    .filter((block) => block.type === 'text')
    .map((block) => block.text)
    .join('');
}

export function calls(message) {
  return message.content.filter((block) => block.type === 'tool_use');
}

export function result(call, content, more = {}) {
  return { type: 'tool_result', tool_use_id: call.id, content, ...more };
}

/** The conversation that goes on behind a message with tool calls. */
export function after(first, message, ...results) {
  const said = { role: 'assistant', content: message.content };
  return [...first, said, { role: 'user', content: results }];
}

/** The fields that an answer's header says were left out. */
export function dropped(response) {
  return (response.headers.get('holdfast-dropped') ?? '').split(',').filter(Boolean);
}

/** An error of Anthropic's shape that says which Call it was. */
export function refused(error, kind, status, code) {
  assert.equal(error.status, status, JSON.stringify(error.error));
  same([error.error?.type, error.type], ['error', kind], 'the shape');
  assert.match(error.requestID ?? '', /^hfc_/);
  if (code) assert.equal(error.errorCode, code);
}
