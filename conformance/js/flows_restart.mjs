/**
 * What a client sees of `kill -9`: one server of its own is killed while it answers four of them,
 * and starts again.
 *
 * A model call that the kill cut is asked again; what it had said before is closed as incomplete
 * and stays in the event log only; a finished tool call is not repeated; and a client that sends
 * its POST again gets its own turn.
 */
import assert from 'node:assert/strict';
import { checkEvents } from './events.mjs';
import { all, eventually, Flow, flow, MODEL, plain, same, words } from './flows.mjs';
import { restartable } from './restartable.mjs';

const NOTES = { type: 'mcp', server_label: 'notes' };
const WORDS = 30;
const SLOWLY = `[[delay_ms=40]] [[words:${WORDS}]]`;
// So many pieces of the answer must have come before the kill; far fewer than there are.
const SEEN = 4;
// The POST in the foreground lasts for longer than all that happens before the kill.
const POST_WORDS = 60;
const TURNS = 4;

/**
 * Reads a stream until it breaks: its events, when there are enough of them, and the error that it
 * ended in.
 */
function read(stream) {
  const events = [];
  const enough = Promise.withResolvers();
  const broken = (async () => {
    try {
      for await (const event of stream) {
        events.push(event);
        if (events.filter(({ type }) => type === 'response.output_text.delta').length >= SEEN)
          enough.resolve();
      }
    } catch (error) {
      return error;
    } finally {
      enough.resolve();
    }
    return undefined;
  })();
  return { events, broken, enough: enough.promise };
}

/**
 * A POST in the foreground; its client, with the SDK's own retries, finds the server at its new
 * address.
 */
function postAcrossTheKill(f, newUrl) {
  let posts = 0;
  const following = async (url, init) => {
    posts += 1;
    return fetch(posts === 1 ? url : String(url).replace(f.url, await newUrl), init);
  };
  const client = f.with({ maxRetries: 2, fetch: following });
  const input = `[[delay_ms=60]] [[words:${POST_WORDS}]] ${f.mark}`;
  const answer = client.responses.create({ model: MODEL, input });
  return { ended: Promise.allSettled([answer]), posts: () => posts };
}

/** Four turns are cut by one kill; what the flows below look at. */
async function incident() {
  const server = await restartable();
  const on = (env) => (name) => new Flow(`restart_${name}`, env);
  const before = on(server.env);
  const newUrl = Promise.withResolvers();
  const turns = { post: postAcrossTheKill(before('post'), newUrl.promise) };
  const body = { background: true, stream: true };
  turns.raw = read(await before('raw').respond(SLOWLY, body));
  turns.helper = read(before('helper').streamed(SLOWLY, { background: true }));
  const add = `[[tool:add_note {"text":"${before('tool').mark}"}]][[next]]`;
  turns.tool = read(await before('tool').respond(add + SLOWLY, { ...body, tools: [NOTES] }));
  await Promise.all([turns.raw.enough, turns.helper.enough, turns.tool.enough]);
  await eventually(
    'the POST is taken',
    async () => (await before('post').api('GET', 'sessions')).data.length >= TURNS,
  );
  await server.kill();
  const env = await server.start();
  newUrl.resolve(env.HOLDFAST_URL);
  return { turns, after: on(env) };
}

let once;

/** Registers a flow that looks at what the kill left of the turn with that name. */
function restartFlow(name, run) {
  flow(`restart_${name}`, async () => {
    once ??= incident();
    const { turns, after } = await once;
    await run(after(name), turns[name]);
  });
}

/**
 * The provider's lines of a turn whose last model call was cut and asked again: same Call, another
 * attempt.
 */
function askedAgain(lines) {
  const [cut, whole] = lines.slice(-2);
  same([cut?.finished, whole?.finished], [false, true], 'the cut attempt and the whole one');
  assert.equal(whole.call_id, cut.call_id, 'it is the same Call');
  assert.notEqual(whole.attempt_id, cut.attempt_id, 'and another attempt');
}

restartFlow('raw', async (f, { events: head, broken }) => {
  assert(await broken, 'a cut stream ended as if it were whole');
  const { id } = head[0].response;
  const starting_after = head.at(-1).sequence_number;
  const tail = await all(await f.client.responses.retrieve(id, { stream: true, starting_after }));
  assert.equal(tail[0].sequence_number, starting_after + 1, 'the first event after the cut');
  const final = checkEvents([...head, ...tail]);
  same([final.status, final.output.length], ['completed', 1]);
  assert.equal(final.output[0].content[0].text, words(WORDS));
  assert.equal(f.sent().length, 2);
  askedAgain(f.sent());
});

restartFlow('helper', async (f, { events: head, broken }) => {
  assert(await broken, 'a cut stream ended as if it were whole');
  const starting_after = head.at(-1).sequence_number;
  const stream = f.client.responses.stream({ response_id: head[0].response.id, starting_after });
  const tail = await all(stream);
  const final = await stream.finalResponse();
  same([final.status, final.output_text], ['completed', words(WORDS)]);
  checkEvents(plain([...head, ...tail]));
  const closed = tail.filter(
    ({ type, item }) => type === 'response.output_item.done' && item.status === 'incomplete',
  );
  assert.equal(closed.length, 1, 'what the cut call had said is closed as incomplete');
});

restartFlow('tool', async (f, { events: head }) => {
  const done = await f.finished(head[0].response.id);
  same(
    done.output.map((item) => item.type),
    ['mcp_list_tools', 'mcp_call', 'message'],
  );
  assert.equal(done.output_text, words(WORDS));
  assert.equal(f.effects().length, 1, 'the finished tool call is not repeated');
  same(
    f.sent().map((line) => line.finished),
    [true, false, true],
    'nor is the finished model call',
  );
  askedAgain(f.sent());
});

restartFlow('post', async (f, { ended, posts }) => {
  const [{ value: response, reason }] = await ended;
  assert(response, `the POST ended in ${reason}`);
  same([response.status, response.output_text], ['completed', words(POST_WORDS)]);
  assert(posts() >= 2, 'the SDK sent it again');
  assert.equal(f.sent().length, 2);
  askedAgain(f.sent());
});
