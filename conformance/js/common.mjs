/** What the JavaScript suites share: the registry of flows, the run, and words to judge with. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

export const FLOWS = [];
// How long `eventually` waits for something that another process does on its own, and how often it
// looks.
const EVENTUALLY_MS = 10_000;
const LOOK_EVERY_MS = 20;
// Flows wait more than they compute: more than the cores, few enough that none times out.
const PARALLEL = 12;
const FLOW_MS = 40_000;

/** Registers a flow. */
export function flow(name, run) {
  assert(!FLOWS.some((other) => other.name === name), `two flows are called ${name}`);
  FLOWS.push({ name, run });
}

/** A word that no other flow says, and that no other flow's word contains. */
export function markOf(name) {
  return `m${name.replaceAll('_', '')}q`;
}

/** The whole lines of a JSONL file that another process may be writing at this moment. */
export function jsonLines(path) {
  let data;
  try {
    data = readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw error;
  }
  const whole = data.slice(0, data.lastIndexOf('\n') + 1);
  return whole
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/**
 * Asks again until `check` gives something truthy, and returns that; fails with `what` if it never
 * does.
 */
export async function eventually(what, check) {
  const deadline = Date.now() + EVENTUALLY_MS;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert(Date.now() < deadline, `waited ${EVENTUALLY_MS / 1000} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** The list, or nothing if it is empty: for `eventually`. */
export function some(list) {
  return list.length ? list : undefined;
}

/** The error of that class that `promise` ends in; anything else fails the flow. */
export async function raises(kind, promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new assert.AssertionError({
    message: `expected ${kind.name}, got ${JSON.stringify(value)?.slice(0, 300)}`,
  });
}

/** Deep equality of what JSON can say: fields that are `undefined` do not count. */
export function same(found, expected, what) {
  assert.deepEqual(
    plain(found),
    plain(expected),
    what && `${what}: ${show(found)} is not ${show(expected)}`,
  );
}

export function plain(value) {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value));
}

function show(value) {
  return (JSON.stringify(value) ?? String(value)).slice(0, 400);
}

/** All that an async iterable gives. */
export async function all(iterable) {
  const found = [];
  for await (const value of iterable) found.push(value);
  return found;
}

/** The first `count` things that an iterator gives; the iterator stays usable. */
export async function take(iterator, count) {
  const found = [];
  while (found.length < count) {
    const { value, done } = await iterator.next();
    assert(!done, `it ended after ${found.length} of ${count}`);
    found.push(value);
  }
  return found;
}

/** A decimal string of dollars as nanodollars, exactly. */
export function nanodollars(text) {
  const match = /^(\d+)(?:\.(\d{1,9})0*)?$/.exec(text);
  assert(match, `not an amount of dollars: ${text}`);
  return BigInt(match[1]) * 1_000_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** The fields of the comment line that ends a stream: `: holdfast-cost=…; holdfast-attempts=…`. */
export function commentFields(comment) {
  return Object.fromEntries(comment.split(';').map((part) => part.trim().split('=', 2)));
}

/** `word1 word2 … wordN`, as the provider answers `[[words:N]]`. */
export function words(count) {
  return Array.from({ length: count }, (_, index) => `word${index + 1}`).join(' ');
}

/** The flows whose names contain one of these, or all. */
export function chosenBy(names) {
  return FLOWS.filter(({ name }) => !names.length || names.some((part) => name.includes(part)));
}

/** Runs flows beside each other; how many passed. */
export async function runAll(flows, given) {
  const waiting = [...flows];
  let passed = 0;
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      if (await judged(next, given)) passed += 1;
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  return passed;
}

/** The flow's own line, and what was wrong, in one line. */
function where(error) {
  const frame = /(flows_\w+\.mjs:\d+)/.exec(error.stack ?? '')?.[1] ?? '?';
  const text = String(error.message || '(no text)')
    .replaceAll(/\s+/g, ' ')
    .slice(0, 700);
  return `${error.constructor?.name}: ${text}  [${frame}]`;
}

async function limited(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${FLOW_MS / 1000} s`)), FLOW_MS);
  });
  try {
    await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs one flow with what `given(its name)` makes for it; whether it passed. */
export async function judged({ name, run }, given) {
  const began = performance.now();
  let problem;
  try {
    await limited(run(given(name)));
  } catch (error) {
    problem = error;
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`${problem ? 'FAIL' : 'ok  '} ${name} (${seconds} s)`);
  if (problem) console.log(`     ${where(problem)}`);
  return !problem;
}
