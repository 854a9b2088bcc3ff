/** The Vercel AI SDK's provider of Workers AI, which asks by AI Gateway. */
import assert from 'node:assert/strict';
import { generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { createWorkersAI } from 'workers-ai-provider';
import { z } from 'zod';
import { same } from './evidence.mjs';
import { ACCOUNT, CF_MODEL, flow, MODEL } from './flows.mjs';

const CALL = '[[tool:find_note {"query":"harbor"}]]';

function workersAi(f, model = MODEL) {
  return createWorkersAI({ accountId: ACCOUNT, apiKey: f.key() })(model);
}

flow('vercel_generate_text', async (f) => {
  const { text, usage, finishReason } = await generateText({
    model: workersAi(f),
    prompt: `hello ${f.mark}`,
    maxOutputTokens: 100,
  });
  same([text, finishReason], [`You said: hello ${f.mark}`, 'stop']);
  same([usage.inputTokens, usage.outputTokens], [2, 4]);
});

flow('vercel_stream_text', async (f) => {
  const stream = streamText({ model: workersAi(f), prompt: `stream ${f.mark}` });
  const pieces = [];
  for await (const piece of stream.textStream) pieces.push(piece);
  same(pieces.join(''), `You said: stream ${f.mark}`);
  assert(pieces.length > 1, 'it came in one piece');
  same([await stream.finishReason, (await stream.usage).outputTokens], ['stop', 4]);
});

/** A tool that the SDK runs by itself, and what it was called with. */
function finder() {
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

flow('vercel_tool_loop', async (f) => {
  const { asked, tools } = finder();
  const { text, steps } = await generateText({
    model: workersAi(f),
    prompt: `${CALL} ${f.mark}`,
    tools,
    stopWhen: stepCountIs(3),
  });
  same([asked, steps.length], [['harbor'], 2]);
  assert.match(text, /Nothing about harbor/);
  assert.equal(f.sent().length, 2);
});

flow('vercel_tool_loop_streamed', async (f) => {
  const { asked, tools } = finder();
  const stream = streamText({
    model: workersAi(f),
    prompt: `${CALL} ${f.mark}`,
    tools,
    stopWhen: stepCountIs(3),
  });
  assert.match(await stream.text, /Nothing about harbor/);
  same(asked, ['harbor']);
});

flow('vercel_output_object', async (f) => {
  const schema = z.object({ harbor: z.string(), number: z.int() });
  const { output } = await generateText({
    model: workersAi(f),
    prompt: `berth 9 ${f.mark}`,
    output: Output.object({ schema }),
  });
  same(output, { harbor: `berth 9 ${f.mark}`, number: 9 });
});

flow('vercel_cloudflares_name', async (f) => {
  const { text } = await generateText({ model: workersAi(f, CF_MODEL), prompt: f.mark });
  same(text, `You said: ${f.mark}`);
});
