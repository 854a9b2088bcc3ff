/**
 * The suite `cloudflare-js`: unmodified clients of Cloudflare's APIs against a server of its own.
 *
 *     node suite.mjs [NAME …]     only the flows whose name contains one of the NAMEs
 *
 * `run` starts it inside `server.py`, which starts the server and says in the environment
 * where all is.
 */
import { Flow, FLOWS } from './flows.mjs';
import { ledgerAgreesWithProvider } from './evidence.mjs';


import './flows_run.mjs';
import './flows_v1.mjs';
import './flows_gateway.mjs';
import './flows_universal.mjs';
import './flows_vercel.mjs';

// Flows wait more than they compute: more than the cores, few enough that none times out.
const PARALLEL = 12;
const FLOW_MS = 40_000;

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

/** Runs one flow; whether it passed. */
async function judged({ name, run }) {
  const began = performance.now();
  let problem;
  try {
    await limited(run(new Flow(name)));
  } catch (error) {
    problem = error;
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`${problem ? 'FAIL' : 'ok  '} ${name} (${seconds} s)`);
  if (problem) console.log(`     ${where(problem)}`);
  return !problem;
}

async function main(names) {
  const chosen = FLOWS.filter(
    ({ name }) => !names.length || names.some((part) => name.includes(part)),
  );
  const waiting = [...chosen];
  const began = performance.now();
  let passed = 0;
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      if (await judged(next)) passed += 1;
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  if (await judged({ name: 'ledger_agrees_with_provider', run: ledgerAgreesWithProvider }))
    passed += 1;
  console.log(`${((performance.now() - began) / 1000).toFixed(1)} s`);
  const failed = chosen.length + 1 - passed;
  console.log(`${passed} passed, ${failed} failed`);
  return chosen.length && !failed ? 0 : 1;
}

process.exit(await main(process.argv.slice(2)));
