/**
 * Background responses: polled, streamed, picked up again where the client lost them, cancelled.
 */
import assert from 'node:assert/strict';
import { BadRequestError, NotFoundError } from 'openai';
import { checkEvents } from './events.mjs';
import { all, eventually, flow, plain, raises, same, some, take, words } from './flows.mjs';

const OPEN = ['queued', 'in_progress'];

/**
 * A background response whose stream its client left after `count` events: [its id, the events].
 */
async function left(stream, count) {
  const iterator = stream[Symbol.asyncIterator]();
  const events = await take(iterator, count);
  await iterator.return();
  return [events[0].response.id, events];
}

flow('background_poll', async (f) => {
  const response = await f.respond('[[delay_ms=20]] in the background', { background: true });
  assert(OPEN.includes(response.status), response.status);
  assert.equal(response.background, true);
  const done = await f.finished(response.id);
  same([done.status, done.output_text], ['completed', `You said: in the background ${f.mark}`]);
  assert.equal(done.usage.output_tokens, 6);
  assert.equal(f.sent().length, 1);
});

flow('background_survives_its_client', async (f) => {
  const stream = await f.respond('[[delay_ms=30]] [[words:30]]', {
    background: true,
    stream: true,
  });
  const [id] = await left(stream, 1);
  assert.equal((await f.finished(id)).output_text, words(30));
  same(
    f.sent().map((line) => line.finished),
    [true],
  );
});

flow('background_stream', async (f) => {
  const events = await all(await f.respond('streamed', { background: true, stream: true }));
  const final = checkEvents(events);
  same([final.status, final.background], ['completed', true]);
  assert.equal(final.output[0].content[0].text, `You said: streamed ${f.mark}`);
});

flow('background_resume_raw', async (f) => {
  const stream = await f.respond('[[delay_ms=30]] [[words:30]]', {
    background: true,
    stream: true,
  });
  const [id, head] = await left(stream, 9);
  const starting_after = head.at(-1).sequence_number;
  const resume = async () =>
    all(await f.client.responses.retrieve(id, { stream: true, starting_after }));
  const tail = await resume();
  assert.equal(tail[0].sequence_number, starting_after + 1, 'the first event after the cut');
  assert.equal(checkEvents([...head, ...tail]).output[0].content[0].text, words(30));
  same(await resume(), tail, 'the same tail, asked for again');
  assert.equal(f.sent().length, 1);
});

flow('background_resume_helper', async (f) => {
  const [id, head] = await left(
    f.streamed('[[delay_ms=30]] [[words:20]]', { background: true }),
    7,
  );
  const starting_after = head.at(-1).sequence_number;
  const stream = f.client.responses.stream({ response_id: id, starting_after });
  const tail = await all(stream);
  assert.equal(tail[0].sequence_number, starting_after + 1);
  const final = await stream.finalResponse();
  same([final.output_text, final.status], [words(20), 'completed']);
  checkEvents(plain([...head, ...tail]));
});

flow('background_helper_joins_late', async (f) => {
  const { id } = await f.respond('[[delay_ms=20]] [[words:20]]', { background: true });
  const stream = f.client.responses.stream({ response_id: id });
  const events = await all(stream);
  assert.equal(events[0].type, 'response.created');
  assert.equal((await stream.finalResponse()).output_text, words(20));
});

flow('background_log_after_the_end', async (f) => {
  const { id } = await f.respond('kept', { background: true });
  await f.finished(id);
  const read = async (query) =>
    all(await f.client.responses.retrieve(id, { stream: true, ...query }));
  const whole = await read({});
  checkEvents(whole);
  same(await read({ starting_after: whole[3].sequence_number }), whole.slice(4));
  same(await read({ starting_after: whole.at(-1).sequence_number }), []);
});

flow('background_two_readers', async (f) => {
  const { id } = await f.respond('[[delay_ms=20]] [[words:25]]', { background: true });
  const read = async () => all(await f.client.responses.retrieve(id, { stream: true }));
  const [one, two] = await Promise.all([read(), read()]);
  same(one, two);
  assert.equal(checkEvents(one).output[0].content[0].text, words(25));
});

flow('background_chain', async (f) => {
  const first = await f.respond('start of a chain', { background: true });
  await f.finished(first.id);
  const second = await f.respond('[[echo:messages]]', {
    previous_response_id: first.id,
    background: true,
  });
  const seen = JSON.parse((await f.finished(second.id)).output_text);
  same(seen[1], ['assistant', `You said: start of a chain ${f.mark}`]);
});

flow('background_cancel', async (f) => {
  const stream = await f.respond('[[delay_ms=100]] [[words:200]]', {
    background: true,
    stream: true,
  });
  const iterator = stream[Symbol.asyncIterator]();
  const events = await take(iterator, 6);
  const { id } = events[0].response;
  assert.equal((await f.client.responses.cancel(id)).status, 'cancelled');
  assert.equal((await f.client.responses.cancel(id)).status, 'cancelled', 'cancelled again');
  for (let next = await iterator.next(); !next.done; next = await iterator.next())
    events.push(next.value);
  const final = checkEvents(events);
  same([events.at(-1).type, final.status], ['response.incomplete', 'cancelled']);
  assert.equal((await f.client.responses.retrieve(id)).status, 'cancelled');
  const [line] = await eventually('the provider sees the cut', () => some(f.sent()));
  assert.equal(line.finished, false);
});

flow('background_cancel_seen_by_the_helper', async (f) => {
  const stream = f.streamed('[[delay_ms=100]] [[words:200]]', { background: true });
  let id;
  let asked;
  stream.once('response.created', (event) => (id = event.response.id));
  stream.once('response.output_text.delta', () => (asked = f.client.responses.cancel(id)));
  const final = await stream.finalResponse();
  same([final.status, (await asked).status], ['cancelled', 'cancelled']);
});

flow('background_cancel_finished', async (f) => {
  const { id } = await f.respond('too late', { background: true });
  const { output_text: text, ...done } = await f.finished(id);
  assert.equal(text, `You said: too late ${f.mark}`);
  same(await f.client.responses.cancel(id), done, 'a finished response stays as it ended');
  await raises(NotFoundError, f.client.responses.cancel('resp_nothing'));
});

flow('background_failure', async (f) => {
  const { id } = await f.respond('[[fault:status=500]]', { background: true });
  const failed = await f.finished(id);
  assert.equal(failed.status, 'failed');
  assert(failed.error.code && failed.error.message, JSON.stringify(failed.error));
  const stream = f.client.responses.stream({ response_id: id });
  const events = await all(stream);
  assert.equal(events.at(-1).type, 'response.failed');
  assert.equal((await stream.finalResponse()).status, 'failed');
  checkEvents(plain(events));
});

flow('background_delete', async (f) => {
  const { id } = await f.respond('gone soon', { background: true });
  await f.finished(id);
  await f.client.responses.delete(id);
  await raises(NotFoundError, f.client.responses.retrieve(id, { stream: true }));
  await raises(NotFoundError, f.client.responses.stream({ response_id: id }).finalResponse());
});

flow('background_new_turn_meanwhile', async (f) => {
  const { id } = await f.respond('[[delay_ms=100]] [[words:20]]', { background: true });
  const error = await raises(BadRequestError, f.respond('too early', { previous_response_id: id }));
  assert(error.code && error.error.message, JSON.stringify(error.error));
  assert.equal((await f.client.responses.cancel(id)).status, 'cancelled');
});
