/** The demo model on the local engine: whatever its words, its calls are well formed. */
import assert from 'node:assert/strict';
import { calls, FIND_TOOL, NOTE_TOOL, over, same, texts } from './flows.mjs';

over(['local'], 'create_and_stream', async (f) => {
  const message = await f.ask('Hello, who are you?', { max_tokens: 40 });
  assert(texts(message).trim(), 'an empty answer');
  assert(message.usage.input_tokens > 0 && message.usage.output_tokens > 0, 'no usage');
  const stream = f.streamed('Say hello.', { max_tokens: 40 });
  const pieces = [];
  stream.on('text', (piece) => pieces.push(piece));
  assert.equal(texts(await stream.finalMessage()), pieces.join(''));
});

over(['local'], 'tool_call', async (f) => {
  const more = { tools: [FIND_TOOL, NOTE_TOOL], tool_choice: { type: 'any' }, max_tokens: 200 };
  const [call] = calls(await f.streamed('Find my note.', more).finalMessage());
  same(Object.keys(call.input), call.name === 'find_note' ? ['query'] : ['text']);
});
