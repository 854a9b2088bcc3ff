/**
 * A server of one's own that can be killed and started again: the other end of `restartable.py`.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const OPEN = new Set();

/** Where a server is, as the environment that a `Flow` reads. */
function environment({ url, admin_key, provider_log, effects, keys }) {
  const secrets = Object.entries(keys).map(([name, key]) => [
    `HOLDFAST_KEY_${name.toUpperCase()}`,
    key,
  ]);
  return {
    HOLDFAST_URL: url,
    HOLDFAST_ADMIN_KEY: admin_key,
    HOLDFAST_PROVIDER_LOG: provider_log,
    HOLDFAST_EFFECTS: effects,
    ...Object.fromEntries(secrets),
  };
}

/**
 * Starts one: `env` says where it is, `kill()` is SIGKILL, `start()` starts it anew and gives its
 * new `env`.
 */
export async function restartable() {
  const script = fileURLToPath(new URL('restartable.py', import.meta.url));
  const child = spawn('python3', [script], { stdio: ['pipe', 'pipe', 'inherit'] });
  OPEN.add(child);
  child.once('exit', () => OPEN.delete(child));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    assert(!done, 'the server that is to be killed did not start');
    return JSON.parse(value);
  };
  const tell = (word) => {
    child.stdin.write(`${word}\n`);
    return answer();
  };
  const env = environment(await answer());
  return { env, kill: () => tell('kill'), start: async () => environment(await tell('start')) };
}

/** Stops all that `restartable` started, and waits for their end. */
export async function closeAll() {
  const ends = [...OPEN].map((child) => new Promise((resolve) => child.once('exit', resolve)));
  for (const child of OPEN) child.stdin.end();
  await Promise.all(ends);
}
