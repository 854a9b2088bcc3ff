/** Tools: calls, results, and what a target can't be told of them. */
import assert from 'node:assert/strict';
import { BadRequestError } from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import {
  after,
  BOTH,
  calls,
  dropped,
  FIND_TOOL,
  flow,
  NOTE_TOOL,
  NOW_TOOL,
  over,
  raises,
  refused,
  result,
  same,
  texts,
} from './flows.mjs';
import { IMAGE } from './flows_messages.mjs';

const CALL = '[[tool:find_note {"query":"harbor"}]]';
const TWO_CALLS = `${CALL}[[tool:add_note {"text":"it is open"}]]`;

over(BOTH, 'tool_once', async (f) => {
  const tools = [FIND_TOOL];
  const message = await f.ask(CALL, { tools });
  const [call] = calls(message);
  same(
    [call.name, call.input, message.stop_reason],
    ['find_note', { query: 'harbor' }, 'tool_use'],
  );
  const messages = after(f.user(CALL), message, result(call, 'open until nine'));
  assert.equal(
    texts(await f.ask(undefined, { messages, tools })),
    'The tool said: open until nine',
  );
});

over(BOTH, 'tool_once_streamed', async (f) => {
  const tools = [FIND_TOOL];
  const stream = f.streamed(CALL, { tools });
  const parts = [];
  stream.on('inputJson', (part) => parts.push(part));
  const message = await stream.finalMessage();
  same(JSON.parse(parts.join('')), { query: 'harbor' });
  const [call] = calls(message);
  same(call.input, { query: 'harbor' });
  const messages = after(f.user(CALL), message, result(call, [{ type: 'text', text: 'open' }]));
  assert.equal(await f.streamed(undefined, { messages, tools }).finalText(), 'The tool said: open');
});

over(BOTH, 'tools_parallel', async (f) => {
  const tools = [FIND_TOOL, NOTE_TOOL];
  const message = await f.ask(TWO_CALLS, { tools });
  const [first, second] = calls(message);
  same([first.name, second.name], ['find_note', 'add_note']);
  const results = [result(second, 'saved'), result(first, 'open')];
  await f.ask(undefined, { messages: after(f.user(TWO_CALLS), message, ...results), tools });
  const sent = f.lastBody().messages;
  const told = f.isPassed
    ? sent.at(-1).content.map((block) => [block.tool_use_id, block.content])
    : sent.slice(-2).map((entry) => [entry.tool_call_id, entry.content]);
  same(Object.fromEntries(told), { [first.id]: 'open', [second.id]: 'saved' });
});

over(BOTH, 'tools_parallel_streamed', async (f) => {
  const tools = [FIND_TOOL, NOTE_TOOL, NOW_TOOL];
  const message = await f.streamed(`${TWO_CALLS}[[tool:now {}]]`, { tools }).finalMessage();
  same(
    calls(message).map((call) => call.input),
    [{ query: 'harbor' }, { text: 'it is open' }, {}],
  );
  assert.equal(new Set(calls(message).map((call) => call.id)).size, 3);
});

over(BOTH, 'tool_without_arguments', async (f) => {
  const tools = [NOW_TOOL];
  const message = await f.ask('[[tool:now {}]]', { tools });
  const [call] = calls(message);
  same(call.input, {});
  const messages = after(f.user('[[tool:now {}]]'), message, result(call, 'noon'));
  assert.equal(texts(await f.ask(undefined, { messages, tools })), 'The tool said: noon');
});

over(BOTH, 'tool_choices', async (f) => {
  const tools = [FIND_TOOL, NOTE_TOOL];
  const any = await f.ask('any', { tools, tool_choice: { type: 'any' } });
  same(
    calls(any).map((call) => call.name),
    ['find_note'],
  );
  const named = await f.ask('one', { tools, tool_choice: { type: 'tool', name: 'add_note' } });
  same(
    calls(named).map((call) => call.name),
    ['add_note'],
  );
  const none = await f.ask(CALL, { tools, tool_choice: { type: 'none' } });
  same([calls(none), none.stop_reason], [[], 'end_turn']);
  const alone = { type: 'auto', disable_parallel_tool_use: true };
  assert.equal(calls(await f.ask(TWO_CALLS, { tools, tool_choice: alone })).length, 1);
});

over(BOTH, 'tool_result_is_error', async (f) => {
  const tools = [FIND_TOOL];
  const message = await f.ask(CALL, { tools });
  const failed = result(calls(message)[0], 'The pen was dry.', { is_error: true });
  const messages = after(f.user(CALL), message, failed);
  const { data, response } = await f.ask(undefined, { messages, tools }).withResponse();
  assert.equal(texts(data), 'The tool said: The pen was dry.');
  same(dropped(response), f.isPassed ? [] : ['tool_result.is_error']);
});

over(BOTH, 'tool_result_image', async (f) => {
  const tools = [FIND_TOOL];
  const message = await f.ask(CALL, { tools });
  const messages = after(f.user(CALL), message, result(calls(message)[0], [IMAGE]));
  const asked = f.ask(undefined, { messages, tools });
  if (f.isPassed) {
    await asked;
    same(f.lastBody().messages.at(-1).content[0].content, [IMAGE]);
  } else {
    // Chat completions have no place for it in a result: it follows in a user's message.
    const { response } = await asked.withResponse();
    same(dropped(response), ['tool_result.image']);
    const told = f.lastBody().messages.slice(-2);
    same(
      told.map((message) => message.role),
      ['tool', 'user'],
    );
    assert(told[1].content.some((part) => part.type === 'image_url'));
  }
});

/** The SDK's own loop: it calls the function and sends its result back. */
async function runTools(f, client) {
  const asked = [];
  const tool = betaTool({
    name: 'find_note',
    description: 'Finds the notes about a word.',
    inputSchema: FIND_TOOL.input_schema,
    run: ({ query }) => {
      asked.push(query);
      return `open until nine ${f.mark}`;
    },
  });
  const message = await client.beta.messages.toolRunner(f.params(CALL, { tools: [tool] }));
  assert.equal(texts(message), `The tool said: open until nine ${f.mark}`);
  same(asked, ['harbor']);
}

over(BOTH, 'tool_runner', async (f) => {
  await runTools(f, f.client);
  const threads = f.sent().map((line) => JSON.parse(line.body).thread?.type ?? null);
  same(threads, f.isPassed ? ['create', 'continue'] : [null, null]);
});

flow('tool_runner_under_a_budget', async (f) => {
  await runTools(f, f.with({ key: 'capped' }));
  assert(
    f.sent().every((line) => !('thread' in JSON.parse(line.body))),
    'a thread under a budget',
  );
});

over(['translated'], 'server_tool', async (f) => {
  const tools = [{ type: 'web_search_20250305', name: 'web_search' }];
  const error = await raises(BadRequestError, f.ask('search', { tools }));
  refused(error, 'invalid_request_error', 400, 'unsupported');
  assert(error.message.includes('tools[0].type'), error.message);
  same(f.sent(), []);
});
