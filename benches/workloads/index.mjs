// What an agent can be asked to do. Every workload gets `{ client, contender, target }` and its own arguments.
export { burst, waiters } from "./local.mjs"
export { records } from "./names.mjs"
export { threads } from "./threads.mjs"
export { workers } from "./cluster.mjs"
export { pairs, many, crowd } from "./remote.mjs"
export { acquire, release, prime } from "./steps.mjs"
export { thousand } from "./thousand.mjs"
export { blockWhileHolding } from "./blocked.mjs"
