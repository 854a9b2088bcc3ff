/** What Claude Code sends, all in one request: accepted, and what is lost is named. */
import assert from 'node:assert/strict';
import { BOTH, calls, dropped, over, result, same, texts } from './flows.mjs';

const BETAS = [
  'claude-code-20250219',
  'interleaved-thinking-2025-05-14',
  'context-management-2025-06-27',
];
const MARK = { cache_control: { type: 'ephemeral' } };
const TEXT = { type: 'string' };

function tool(name, properties) {
  const schema = { type: 'object', properties, required: Object.keys(properties).slice(0, 1) };
  return {
    name,
    description: `${name}s.`,
    input_schema: {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      ...schema,
      additionalProperties: false,
    },
  };
}

const TOOLS = [
  tool('Bash', { command: TEXT, timeout: { type: 'number' } }),
  tool('Read', { file_path: TEXT, offset: { type: 'number' } }),
  tool('Edit', { file_path: TEXT, old_string: TEXT, new_string: TEXT }),
  tool('mcp__notes__find_note', { query: TEXT }),
];

function request(f, messages) {
  return {
    model: f.model,
    max_tokens: 32_000,
    system: [
      { type: 'text', text: 'You are a coding agent.', ...MARK },
      { type: 'text', text: '# Environment', ...MARK },
    ],
    messages,
    tools: TOOLS,
    thinking: { type: 'adaptive' },
    output_config: { effort: 'medium' },
    context_management: { edits: [{ type: 'clear_thinking_20251015', keep: 'all' }] },
    metadata: { user_id: 'user_0123_account__session_4567' },
    betas: BETAS,
  };
}

function first(f) {
  const asked = `[[think:I read it.]][[tool:Read {"file_path":"/a.txt"}]] ${f.mark}`;
  const reminder = '<system-reminder>Today is Saturday.</system-reminder>';
  const content = [
    { type: 'text', text: reminder },
    { type: 'text', text: asked, ...MARK },
  ];
  return [{ role: 'user', content }];
}

over(BOTH, 'claude_code_turns', async (f) => {
  const options = { query: { beta: 'true' } };
  const stream = f.client.beta.messages.stream(request(f, first(f)), options);
  const message = await stream.finalMessage();
  const [call] = calls(message);
  same([call.name, call.input, message.stop_reason], ['Read', { file_path: '/a.txt' }, 'tool_use']);
  const history = [
    ...first(f),
    { role: 'assistant', content: message.content },
    { role: 'user', content: [{ ...result(call, '1\tthe harbor'), ...MARK }] },
    { role: 'system', content: [{ type: 'text', text: '[[next]][[say:It was changed.]]' }] },
  ];
  const second = f.client.beta.messages.stream(request(f, history), options);
  assert.equal(texts(await second.finalMessage()), 'It was changed.');
  const lines = f.sent();
  assert.equal(lines.length, 2);
  if (f.isPassed) {
    same(
      lines.map((line) => [line.path, line.headers['anthropic-beta']]),
      lines.map(() => ['/v1/messages?beta=true', BETAS.join(',')]),
    );
    assert.equal(f.lastBody().messages[1].content[0].type, 'thinking');
  }
});

over(BOTH, 'claude_code_losses_are_named', async (f) => {
  const { response } = await f.client.beta.messages.create(request(f, first(f))).withResponse();
  const found = dropped(response);
  if (f.isPassed) same(found, []);
  else {
    for (const name of ['context_management', 'cache_control', 'metadata']) {
      assert(
        found.some((one) => one.includes(name)),
        `${name} is not named: ${found}`,
      );
    }
    assert.equal(f.lastBody().reasoning_effort, 'medium');
  }
});

over(BOTH, 'claude_code_counts', async (f) => {
  const counted = await f.client.beta.messages.countTokens({
    model: f.model,
    messages: first(f),
    tools: TOOLS,
    betas: BETAS,
  });
  assert(counted.input_tokens > 5, String(counted.input_tokens));
});
