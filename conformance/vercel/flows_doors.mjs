/** What every provider of the SDK can do, over models of both formats. */
import assert from 'node:assert/strict';
import { APICallError, generateText, Output, stepCountIs, streamText } from 'ai';
import { z } from 'zod';
import { all, raises, same } from '../js/common.mjs';
import { everywhere, finder } from './flows.mjs';

const CALL = '[[tool:find_note {"query":"harbor"}]]';
const TWICE = '[[tool:find_note {"query":"harbor"}]][[tool:find_note {"query":"pier"}]]';

everywhere('text', async (f) => {
  const { text, usage, finishReason } = await generateText({
    model: f.model(),
    system: 'Be brief.',
    prompt: `hello ${f.mark}`,
    maxOutputTokens: 100,
  });
  same([text, finishReason], [`You said: hello ${f.mark}`, 'stop']);
  same([usage.inputTokens, usage.outputTokens], [4, 4]);
});

everywhere('streamed', async (f) => {
  const stream = streamText({ model: f.model(), prompt: `stream ${f.mark}`, onError: () => {} });
  const pieces = await all(stream.textStream);
  same(pieces.join(''), `You said: stream ${f.mark}`);
  assert(pieces.length > 1, 'it came in one piece');
  const usage = await stream.usage;
  same([await stream.finishReason, usage.inputTokens, usage.outputTokens], ['stop', 2, 4]);
});

everywhere('cut_short', async (f) => {
  const { text, finishReason } = await generateText({
    model: f.model(),
    prompt: `[[words:50]] ${f.mark}`,
    maxOutputTokens: 3,
  });
  same([text.trim().split(/\s+/).length, finishReason], [3, 'length']);
});

everywhere('tool_loop', async (f) => {
  const { asked, tools } = finder();
  const { text, steps, totalUsage } = await generateText({
    model: f.model(),
    prompt: `${CALL} ${f.mark}`,
    tools,
    stopWhen: stepCountIs(3),
  });
  same([asked, steps.length], [['harbor'], 2]);
  assert.match(text, /Nothing about harbor/);
  same(steps[0].finishReason, 'tool-calls');
  assert(totalUsage.outputTokens > 0);
});

everywhere('tool_loop_streamed', async (f) => {
  const { asked, tools } = finder();
  const stream = streamText({
    model: f.model(),
    prompt: `${TWICE} ${f.mark}`,
    tools,
    stopWhen: stepCountIs(3),
  });
  const parts = await all(stream.fullStream);
  same(asked.sort(), ['harbor', 'pier']);
  same(parts.filter(({ type }) => type === 'error'), []);
  same(parts.filter(({ type }) => type === 'tool-result').length, 2);
  assert.match(await stream.text, /Nothing about/);
});

everywhere('object', async (f) => {
  const schema = z.object({ harbor: z.string(), number: z.int() });
  const { output } = await generateText({
    model: f.model(),
    prompt: `berth 9 ${f.mark}`,
    output: Output.object({ schema }),
  });
  same(typeof output.harbor, 'string');
  same(output.number, 9);
});

everywhere('a_history', async (f) => {
  const { text } = await generateText({
    model: f.model(),
    messages: [
      { role: 'user', content: 'one' },
      { role: 'assistant', content: 'two' },
      { role: 'user', content: [{ type: 'text', text: `three ${f.mark}` }] },
    ],
  });
  same(text, `You said: three ${f.mark}`);
});

everywhere('a_failure', async (f) => {
  const asked = generateText({
    model: f.model(),
    prompt: `[[fault:status=500]] ${f.mark}`,
    maxRetries: 0,
  });
  const error = await raises(APICallError, asked);
  same(error.statusCode >= 500, true);
});

everywhere('a_wrong_key', async (f) => {
  const model = f.model({ key: 'hf_wrong' });
  const error = await raises(APICallError, generateText({ model, prompt: f.mark, maxRetries: 0 }));
  same([error.statusCode, error.isRetryable], [401, false]);
});

everywhere('an_unknown_model', async (f) => {
  const model = f.model({ id: 'nowhere/nothing' });
  const error = await raises(APICallError, generateText({ model, prompt: f.mark, maxRetries: 0 }));
  same([error.statusCode, error.isRetryable], [404, false]);
  assert.match(error.message, /nowhere/);
});

everywhere('aborted', async (f) => {
  const abort = new AbortController();
  const stream = streamText({
    model: f.model(),
    prompt: `[[words:500]][[delay_ms=20]] ${f.mark}`,
    abortSignal: abort.signal,
    onError: () => {},
  });
  const types = [];
  for await (const { type } of stream.fullStream) {
    types.push(type);
    if (type === 'text-delta') abort.abort();
  }
  same(types.at(-1), 'abort');
});

everywhere('a_cut_stream', async (f) => {
  const stream = streamText({
    model: f.model(),
    prompt: `[[fault:cut_after=3]] one two three four five ${f.mark}`,
    maxRetries: 0,
    onError: () => {},
  });
  const parts = await all(stream.fullStream);
  assert(parts.some(({ type }) => type === 'error'), 'the cut was not told');
});
