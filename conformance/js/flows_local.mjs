/**
 * The demo model on the local engine, through the same SDK: whatever words it finds, the shape
 * holds.
 */
import assert from 'node:assert/strict';
import { zodResponseFormat, zodResponsesFunction } from 'openai/helpers/zod';
import { z } from 'zod';
import { checkEvents } from './events.mjs';
import { all, flow, LOCAL, same } from './flows.mjs';
import { Berth } from './flows_chat.mjs';

flow('local_chat_stream', async (f) => {
  const messages = [{ role: 'user', content: 'Say hello.' }];
  const body = { model: LOCAL, messages, max_tokens: 40, stream_options: { include_usage: true } };
  const stream = f.client.chat.completions.stream(body);
  const deltas = [];
  stream.on('content.delta', ({ delta }) => deltas.push(delta));
  const final = await stream.finalChatCompletion();
  assert(deltas.length > 1, 'it came in one piece');
  assert.equal(final.choices[0].message.content, deltas.join(''));
  assert(['stop', 'length'].includes(final.choices[0].finish_reason));
  const { usage } = final;
  assert(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

flow('local_chat_schema', async (f) => {
  const response_format = zodResponseFormat(Berth, 'berth');
  const messages = [{ role: 'user', content: 'Berth 7 is free.' }];
  const body = { model: LOCAL, messages, response_format, max_tokens: 400, temperature: 0 };
  const answer = await f.client.chat.completions.create(body);
  const [choice] = answer.choices;
  // A small model may never close its string; what it does finish is what the schema says.
  if (choice.finish_reason === 'stop') Berth.strict().parse(JSON.parse(choice.message.content));
  else assert.equal(choice.finish_reason, 'length');
});

flow('local_responses_function_call', async (f) => {
  const find = zodResponsesFunction({
    name: 'find_note',
    parameters: z.object({ query: z.string() }),
  });
  const input = 'Find my note about the harbor.';
  const first = await f.client.responses.parse({
    model: LOCAL,
    input,
    tools: [find],
    tool_choice: 'required',
  });
  const call = first.output.find((item) => item.type === 'function_call');
  same(Object.keys(call.parsed_arguments), ['query']);
  const output = {
    type: 'function_call_output',
    call_id: call.call_id,
    output: 'The harbor gate opens at 6.',
  };
  const body = {
    model: LOCAL,
    input: [output],
    previous_response_id: first.id,
    tools: [find],
    tool_choice: 'none',
  };
  const second = await f.client.responses.create(body);
  assert(second.output_text.trim(), 'no answer');
});

flow('local_responses_stream', async (f) => {
  const body = { model: LOCAL, input: 'My name is Ada.', max_output_tokens: 40, stream: true };
  const events = await all(await f.client.responses.create(body));
  const final = checkEvents(events);
  assert(final.output[0].content[0].text.trim(), 'no answer');
  assert(final.usage.input_tokens > 0 && final.usage.output_tokens > 0);
});
