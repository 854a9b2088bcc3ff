/**
 * Runs the flows of the Anthropic SDK for JavaScript against the server that `../suite.py` started.
 *
 *     node main.mjs [NAME …]     only the flows whose name contains one of the NAMEs
 */
import { chosenBy, runAll } from '../../js/common.mjs';
import { Flow } from './flows.mjs';

import './flows_messages.mjs';
import './flows_tools.mjs';
import './flows_thinking.mjs';
import './flows_wire.mjs';
import './flows_errors.mjs';
import './flows_agents.mjs';
import './flows_local.mjs';

const chosen = chosenBy(process.argv.slice(2));
const passed = await runAll(chosen, (name) => new Flow(name));
console.log(`${passed} passed, ${chosen.length - passed} failed`);
process.exit(chosen.length && passed === chosen.length ? 0 : 1);
