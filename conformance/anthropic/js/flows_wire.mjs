/** The bytes: what goes to a provider of the same format is what the client sent. */
import assert from 'node:assert/strict';
import { NotFoundError } from '@anthropic-ai/sdk';
import {
  all,
  BOTH,
  dropped,
  flow,
  LOCAL,
  over,
  PASSED,
  raises,
  same,
  texts,
  TRANSLATED,
} from './flows.mjs';

flow('version_and_key', async (f) => {
  await f.ask('version');
  const [line] = f.sent();
  assert.equal(line.headers['anthropic-version'], '2026-10-21');
  assert('x-api-key' in line.headers && !('authorization' in line.headers), line.headers);
  assert(!JSON.stringify(line).includes(f.key('ci')), "the client's key");
});

flow('betas_byte_for_byte', async (f) => {
  const betas = ['interleaved-thinking-2025-05-14', 'unheard-of-2030-01-01'];
  await f.client.beta.messages.create(f.params('betas', { betas }));
  const [line] = f.sent();
  assert.equal(line.headers['anthropic-beta'], betas.join(','));
});

over(BOTH, 'unknown_field', async (f) => {
  const { data, response } = await f
    .ask('unknown', { sparkle: { deep: [1, null] } })
    .withResponse();
  assert.equal(texts(data), `You said: unknown ${f.mark}`);
  if (f.isPassed) same(f.lastBody().sparkle, { deep: [1, null] });
  else assert(String(dropped(response)).includes('sparkle'), String(dropped(response)));
});

flow('odd_bytes_pass', async (f) => {
  const body =
    '{  "max_tokens": 9,\t"model":"claude/sonnet",  "messages":[{"content":"caf\\u00e9 \\/ ' +
    `${f.mark}","role":"user"}], "metadata" : {"user_id":"u", "x":1e2,"z":1.50E+3}\n}\r\n`;
  const answer = await f.http('POST', '/v1/messages', { body });
  assert.equal(answer.status, 200, await answer.text());
  assert.equal(f.sent()[0].body, body.replace('claude/sonnet', 'sonnet'));
});

/** A field's value as it stands in a body whose strings hold no brackets of their own. */
function messagesOf(body) {
  const start = body.indexOf('"messages":');
  let depth = 0;
  for (let at = body.indexOf('[', start); ; at += 1) {
    if (body[at] === '[') depth += 1;
    if (body[at] === ']') depth -= 1;
    if (depth === 0) return body.slice(start, at + 1);
  }
}

over(BOTH, 'prefix_is_the_same_over_turns', async (f) => {
  const messages = [];
  for (let turn = 0; turn < 5; turn += 1) {
    messages.push({ role: 'user', content: `turn ${turn} ${f.mark}` });
    const message = await f.ask(undefined, { messages, system: 'Be brief.' });
    messages.push({ role: 'assistant', content: message.content });
  }
  const bodies = f.sent().map((line) => messagesOf(line.body));
  assert.equal(bodies.length, 5);
  for (let turn = 1; turn < 5; turn += 1) {
    const before = `${bodies[turn - 1].slice(0, -1)},`;
    assert(bodies[turn].startsWith(before), `turn ${turn}: ${bodies[turn]}`);
  }
});

flow('prompt_cache_hits_over_turns', async (f) => {
  const messages = [];
  let kept = 0;
  for (let turn = 0; turn < 5; turn += 1) {
    const content = { type: 'text', text: `turn ${turn} [[say:answer]] ${f.mark}` };
    const marked = { ...content, cache_control: { type: 'ephemeral' } };
    const asked = [...messages, { role: 'user', content: [marked] }];
    const { usage } = await f.ask(undefined, { messages: asked });
    same([usage.cache_read_input_tokens, usage.input_tokens], [kept, 0], `turn ${turn}`);
    kept += usage.cache_creation_input_tokens;
    messages.push({ role: 'user', content: [content] }, { role: 'assistant', content: 'answer' });
  }
  assert(kept > 10, String(kept));
});

flow('usage_has_all_its_fields', async (f) => {
  const text = '[[usage:input=10,written=200,read=3000,output=50]]';
  const { data, response } = await f.ask(text).withResponse();
  const { usage } = data;
  same(
    [usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens],
    [10, 200, 3000],
  );
  same([usage.output_tokens, usage.cache_creation.ephemeral_5m_input_tokens], [50, 200]);
  // 10 × $3 + 50 × $15 + 200 × $3.75 + 3000 × $0.30, per million.
  assert.equal(Number(response.headers.get('holdfast-cost')), 0.00243);
  const streamed = (await f.streamed(text).finalMessage()).usage;
  same([streamed.cache_read_input_tokens, streamed.output_tokens], [3000, 50]);
});

over(['translated'], 'cache_control', async (f) => {
  const mark = { cache_control: { type: 'ephemeral' } };
  const { response } = await f
    .ask(undefined, {
      system: [{ type: 'text', text: 's', ...mark }],
      messages: [{ role: 'user', content: [{ type: 'text', text: f.mark, ...mark }] }],
    })
    .withResponse();
  same(dropped(response).sort(), ['messages.content.cache_control', 'system.cache_control']);
});

over(BOTH, 'with_response', async (f) => {
  const { data, response, request_id } = await f.ask('headers').withResponse();
  assert.equal(request_id, response.headers.get('holdfast-call-id'));
  assert.equal(data._request_id, request_id);
  assert.equal(response.headers.get('holdfast-model'), f.model);
});

flow('models', async (f) => {
  const found = (await all(f.client.models.list())).map((model) => model.id);
  for (const name of [PASSED, TRANSLATED, LOCAL]) assert(found.includes(name), String(found));
  const paged = (await all(f.client.models.list({ limit: 1 }))).map((model) => model.id);
  same(paged.sort(), found.sort());
  assert.equal((await f.client.models.retrieve(PASSED)).id, PASSED);
  await raises(NotFoundError, f.client.models.retrieve('claude/none'));
});
