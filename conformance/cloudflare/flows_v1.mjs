/** OpenAI's and Anthropic's doors at Cloudflare's address: `ai/v1`. */
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { AuthenticationError, PermissionDeniedError } from 'openai';
import { raises, same } from './evidence.mjs';
import { ACCOUNT, flow, MODEL } from './flows.mjs';

const BASE = `/client/v4/accounts/${ACCOUNT}/ai/v1`;

flow('v1_chat', async (f) => {
  const messages = f.user('hello');
  const answer = await f.openai(BASE).chat.completions.create({ model: MODEL, messages });
  same(answer.choices[0].message.content, `You said: hello ${f.mark}`);
  assert.match(answer.id, /^chatcmpl-/);
});

flow('v1_chat_stream', async (f) => {
  const body = { model: MODEL, messages: f.user('stream'), stream: true };
  let text = '';
  for await (const chunk of await f.openai(BASE).chat.completions.create(body)) {
    text += chunk.choices[0]?.delta.content ?? '';
  }
  same(text, `You said: stream ${f.mark}`);
});

flow('v1_responses', async (f) => {
  const client = f.openai(BASE);
  const first = await client.responses.create({ model: MODEL, input: `hello ${f.mark}` });
  same(first.output_text, `You said: hello ${f.mark}`);
  same((await client.responses.retrieve(first.id)).output_text, first.output_text);
  const next = { model: MODEL, input: `again ${f.mark}`, previous_response_id: first.id };
  same((await client.responses.create(next)).output_text, `You said: again ${f.mark}`);
});

flow('v1_messages', async (f) => {
  const client = new Anthropic({ apiKey: null, authToken: f.key(), baseURL: f.url + BASE.replace(/\/v1$/, '') });
  const messages = f.user('hello');
  const answer = await client.messages.create({ model: MODEL, max_tokens: 100, messages });
  same(answer.content, [{ type: 'text', text: `You said: hello ${f.mark}` }]);
});

flow('v1_embeddings', async (f) => {
  const body = { model: MODEL, input: [`a gate ${f.mark}`, f.mark] };
  const { data } = await f.openai(BASE).embeddings.create(body);
  same([data.length, data[1].index], [2, 1]);
  assert(data[0].embedding.length > 1);
});

flow('v1_models', async (f) => {
  const names = [];
  for await (const model of f.openai(BASE).models.list()) names.push(model.id);
  assert(names.includes(MODEL), names.join());
});

flow('v1_needs_the_keys_own_account', async (f) => {
  const ask = (base, key) =>
    f.openai(base, { key }).chat.completions.create({ model: MODEL, messages: f.user('x') });
  const other = BASE.replace(ACCOUNT, 'b'.repeat(32));
  const error = await raises(PermissionDeniedError, ask(other));
  assert.equal(error.code, 'permission_denied');
  await raises(AuthenticationError, ask(BASE, 'hf_wrong'));
  assert.equal(f.sent().length, 0);
});
