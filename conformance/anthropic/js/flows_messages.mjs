/** Messages: what a client of Anthropic's API sends, and what it must get back. */
import assert from 'node:assert/strict';
import { jsonSchemaOutputFormat } from '@anthropic-ai/sdk/helpers/json-schema';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { z } from 'zod';
import { all, BOTH, flow, over, PASSED, same, texts } from './flows.mjs';

const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC';
export const IMAGE = {
  type: 'image',
  source: { type: 'base64', media_type: 'image/png', data: PIXEL },
};

over(BOTH, 'create', async (f) => {
  const message = await f.ask('hello there');
  assert.equal(texts(message), `You said: hello there ${f.mark}`);
  same(
    [message.type, message.role, message.stop_reason, message.stop_sequence],
    ['message', 'assistant', 'end_turn', null],
  );
  same([message.usage.input_tokens, message.usage.output_tokens], [3, 5]);
  assert.match(message.id, /^msg_/);
  const [line] = f.sent();
  same([line.finished, line.status, line.call_id], [true, 200, message._request_id]);
});

over(BOTH, 'stream_raw', async (f) => {
  const events = await all(await f.ask('stream this', { stream: true }));
  const pieces = events.filter((event) => event.type === 'content_block_delta');
  assert.equal(pieces.map((event) => event.delta.text).join(''), `You said: stream this ${f.mark}`);
  assert(pieces.length > 3, 'it did not come in pieces');
  same([events[0].type, events.at(-1).type], ['message_start', 'message_stop']);
  assert.equal(events.at(-2).usage.output_tokens, 5);
});

over(BOTH, 'stream_helper', async (f) => {
  const stream = f.streamed('help me');
  const pieces = [];
  stream.on('text', (text) => pieces.push(text));
  const message = await stream.finalMessage();
  assert.equal(pieces.join(''), `You said: help me ${f.mark}`);
  same([message.stop_reason, message.usage.output_tokens], ['end_turn', 5]);
  assert.match(stream.request_id ?? '', /^hfc_/);
  assert.equal(await stream.finalText(), texts(await f.ask('help me')));
});

over(BOTH, 'stream_helper_iterated', async (f) => {
  const kinds = new Set();
  for await (const event of f.streamed('each event')) kinds.add(event.type);
  for (const kind of ['message_start', 'content_block_delta', 'message_delta', 'message_stop']) {
    assert(kinds.has(kind), `${kind} is not among ${[...kinds]}`);
  }
});

over(BOTH, 'stream_aborted', async (f) => {
  const stream = f.streamed('[[words:200]][[delay_ms=50]]');
  for await (const event of stream) if (event.type === 'content_block_delta') break;
  stream.abort();
  assert.equal(texts(await f.ask('[[say:next]]')), 'next');
});

over(BOTH, 'many_at_once', async (f) => {
  const numbers = Array.from({ length: 24 }, (_, index) => index);
  const found = await Promise.all(numbers.map((number) => f.ask(`number ${number}`)));
  same(
    found.map(texts),
    numbers.map((number) => `You said: number ${number} ${f.mark}`),
  );
});

over(BOTH, 'system_text', async (f) => {
  assert.equal(texts(await f.ask('who?', { system: '[[say:the system]]' })), 'the system');
});

over(BOTH, 'system_blocks', async (f) => {
  const system = [
    { type: 'text', text: 'Be brief.' },
    { type: 'text', text: '[[say:block two]]' },
  ];
  assert.equal(texts(await f.ask('who?', { system })), 'block two');
});

over(BOTH, 'multi_turn', async (f) => {
  const messages = [
    { role: 'user', content: 'My name is Nora.' },
    { role: 'assistant', content: [{ type: 'text', text: 'Hello Nora.' }] },
    { role: 'system', content: 'Now be brief.' },
    { role: 'user', content: `[[echo:messages]] ${f.mark}` },
  ];
  const seen = JSON.parse(texts(await f.ask(undefined, { messages })));
  same(
    seen.map(([role]) => role),
    ['user', 'assistant', 'system', 'user'],
  );
  same(seen[2], ['system', 'Now be brief.']);
});

over(BOTH, 'stop_sequence', async (f) => {
  const message = await f.ask('[[say:one two STOP three]]', { stop_sequences: ['STOP', 'HALT'] });
  assert.equal(texts(message).trim(), 'one two');
  const found = [message.stop_reason, message.stop_sequence];
  same(found, f.isPassed ? ['stop_sequence', 'STOP'] : ['end_turn', null]);
});

over(BOTH, 'max_tokens', async (f) => {
  const message = await f.ask('[[words:50]]', { max_tokens: 5 });
  same([message.stop_reason, message.usage.output_tokens], ['max_tokens', 5]);
});

over(BOTH, 'output_format_zod', async (f) => {
  const shape = z.object({ harbor: z.string(), number: z.number(), free: z.boolean() });
  const message = await f.client.messages.parse(
    f.params('berth 7', { output_config: { format: zodOutputFormat(shape) } }),
  );
  assert.equal(message.parsed_output.number, 7);
});

over(BOTH, 'output_format_schema', async (f) => {
  const format = jsonSchemaOutputFormat({
    type: 'object',
    properties: { harbor: { type: 'string' } },
    required: ['harbor'],
    additionalProperties: false,
  });
  const message = await f.client.messages.parse(f.params('by hand', { output_config: { format } }));
  same(Object.keys(message.parsed_output), ['harbor']);
});

over(BOTH, 'odd_characters', async (f) => {
  const text = 'naïve “quotes” \u{1f600} \u200b é \\ / <&>';
  assert.equal(texts(await f.ask(`[[say:${text}]]`)), text);
  assert.equal(await f.streamed(`[[say:${text}]]`).finalText(), text);
});

over(BOTH, 'image_base64', async (f) => {
  const content = [IMAGE, { type: 'text', text: f.mark }];
  await f.ask(undefined, { messages: [{ role: 'user', content }] });
  const [part] = f.lastBody().messages[0].content;
  const url = `data:image/png;base64,${PIXEL}`;
  same(part, f.isPassed ? IMAGE : { type: 'image_url', image_url: { url } });
});

flow('refusal', async (f) => {
  const message = await f.ask('[[refuse]]');
  same([message.stop_reason, message.content], ['refusal', []]);
  assert.equal((await f.streamed('[[refuse]]').finalMessage()).stop_reason, 'refusal');
});

flow('count_tokens_by_the_provider', async (f) => {
  const { data, response } = await f.client.messages
    .countTokens({ model: PASSED, messages: f.user('one two three'), system: 'four five' })
    .withResponse();
  assert.equal(data.input_tokens, 6);
  assert.equal(response.headers.get('holdfast-estimated'), null);
});

over(['translated', 'local'], 'count_tokens_estimated', async (f) => {
  const { data, response } = await f.client.messages
    .countTokens({ model: f.model, messages: f.user('one two three'), system: 'four five' })
    .withResponse();
  assert.equal(response.headers.get('holdfast-estimated'), 'true');
  assert(data.input_tokens >= 6 && data.input_tokens <= 100, String(data.input_tokens));
});
