/** The SDK's providers pointed at the server, and what every flow is given. */
import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { tool } from 'ai';
import { z } from 'zod';
import { flow, markOf } from '../js/common.mjs';

const URL = process.env.HOLDFAST_URL;

/** A model by each of the SDK's providers. */
export const DOORS = {
  openai_chat: (model, apiKey) => createOpenAI({ baseURL: `${URL}/v1`, apiKey }).chat(model),
  openai_responses: (model, apiKey) =>
    createOpenAI({ baseURL: `${URL}/v1`, apiKey }).responses(model),
  compatible: (model, apiKey) =>
    createOpenAICompatible({
      name: 'holdfast',
      baseURL: `${URL}/v1`,
      apiKey,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })(model),
  anthropic: (model, apiKey) => createAnthropic({ baseURL: `${URL}/v1`, apiKey })(model),
  // It takes a name with a slash for a whole path.
  google: (model, apiKey) =>
    createGoogleGenerativeAI({ baseURL: `${URL}/v1beta`, apiKey })(`models/${model}`),
};
export const MODELS = { chat: 'mock/demo', messages: 'claude/sonnet' };

/** Registers a flow once per door and model. */
export function everywhere(name, run) {
  for (const door of Object.keys(DOORS)) {
    for (const target of Object.keys(MODELS)) {
      flow(`${name}_by_${door}_over_${target}`, (f) => run(f.at(door, target)));
    }
  }
}

/** What one flow gets. */
export class Given {
  constructor(name) {
    this.name = name;
    this.mark = markOf(name);
  }

  at(door, target) {
    return Object.assign(this, { door, target });
  }

  key(name = 'ci') {
    return process.env[`HOLDFAST_KEY_${name.toUpperCase()}`] ?? name;
  }

  model({ id = MODELS[this.target], key } = {}) {
    return DOORS[this.door](id, this.key(key));
  }
}

/** A tool that the SDK runs by itself, and what it was called with. */
export function finder() {
  const asked = [];
  const find = tool({
    description: 'Finds the notes about a word.',
    inputSchema: z.object({ query: z.string() }),
    execute: ({ query }) => {
      asked.push(query);
      return `Nothing about ${query}.`;
    },
  });
  return { asked, tools: { find_note: find } };
}
