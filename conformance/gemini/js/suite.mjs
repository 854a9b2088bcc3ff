/**
 * The suite `gemini-js`: the unmodified @google/genai SDK against the server that `../start.py`
 * started.
 *
 *     node suite.mjs [NAME …]     only the flows whose name contains one of the NAMEs
 */
import { chosenBy, runAll } from '../../js/common.mjs';
import { Flow } from './flows.mjs';

import './flows_content.mjs';
import './flows_tools.mjs';
import './flows_wire.mjs';

const began = performance.now();
const chosen = chosenBy(process.argv.slice(2));
const passed = await runAll(chosen, (name) => new Flow(name));
console.log(`${((performance.now() - began) / 1000).toFixed(1)} s`);
console.log(`${passed} passed, ${chosen.length - passed} failed`);
process.exit(chosen.length && passed === chosen.length ? 0 : 1);
