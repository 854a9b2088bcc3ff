/** Thinking: signatures come back byte for byte. */
import assert from 'node:assert/strict';
import {
  after,
  BOTH,
  calls,
  dropped,
  FIND_TOOL,
  flow,
  over,
  result,
  same,
  texts,
} from './flows.mjs';

const ROOM = { thinking: { type: 'enabled', budget_tokens: 1024 }, max_tokens: 4096 };

flow('thinking_signature_round_trip', async (f) => {
  const text = '[[redacted]][[think:First I look.]][[tool:find_note {"query":"harbor"}]]';
  const more = { ...ROOM, tools: [FIND_TOOL] };
  const stream = f.streamed(text, more);
  const seen = [];
  stream.on('thinking', (piece) => seen.push(piece));
  stream.on('signature', (signature) => seen.push(signature));
  const message = await stream.finalMessage();
  const [redacted, thinking] = message.content;
  same([redacted.type, thinking.type], ['redacted_thinking', 'thinking']);
  same([seen.slice(0, -1).join(''), seen.at(-1)], ['First I look.', thinking.signature]);
  const messages = after(f.user(text), message, result(calls(message)[0], 'open'));
  const last = await f.ask(undefined, { ...more, messages });
  assert.equal(texts(last), 'The tool said: open');
  const { body } = f.sent().at(-1);
  for (const opaque of [redacted.data, thinking.signature]) {
    assert(body.includes(JSON.stringify(opaque)), 'not the same bytes');
  }
});

flow('thinking_stream_is_the_whole_answer', async (f) => {
  const streamed = await f.streamed('[[think:hm well]][[say:yes]]', ROOM).finalMessage();
  const whole = await f.ask('[[think:hm well]][[say:yes]]', ROOM);
  same(
    streamed.content.map(({ type, text, thinking, signature }) => [
      type,
      text,
      thinking,
      signature,
    ]),
    whole.content.map(({ type, text, thinking, signature }) => [type, text, thinking, signature]),
  );
});

over(['translated'], 'thinking_history', async (f) => {
  const content = [
    { type: 'thinking', thinking: 'hm', signature: 'c2ln' },
    { type: 'redacted_thinking', data: 'b3BhcXVl' },
    { type: 'text', text: 'yes' },
  ];
  const messages = [...f.user('first'), { role: 'assistant', content }, ...f.user('second')];
  const { data, response } = await f.ask(undefined, { messages }).withResponse();
  assert.equal(texts(data), `You said: second ${f.mark}`);
  assert(dropped(response).includes('reasoning'), String(dropped(response)));
  assert(!f.sent()[0].body.includes('c2ln'), 'another provider was told the signature');
});

over(BOTH, 'thinking_effort', async (f) => {
  await f.ask('hard', { thinking: { type: 'adaptive' }, output_config: { effort: 'high' } });
  const sent = f.lastBody();
  assert.equal(f.isPassed ? sent.output_config.effort : sent.reasoning_effort, 'high');
});
