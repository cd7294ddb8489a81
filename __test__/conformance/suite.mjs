// ONE suite for every model: what a user may rely on, whatever the URL says.
import { after, describe } from "node:test"
import { contract } from "./contract.mjs"
import { early } from "./early.mjs"
import { handles } from "./handles.mjs"
import { cancel } from "./cancel.mjs"
import { signals } from "./signals.mjs"
import { closing } from "./closing.mjs"
import { shared } from "./shared.mjs"
import { tokens } from "./tokens.mjs"
import { query } from "./query.mjs"
import { events } from "./events.mjs"
import { listeners } from "./listeners.mjs"
import { deadlocks } from "./deadlocks.mjs"
import { loss } from "./loss.mjs"
import { lifecycle } from "./lifecycle.mjs"
import { contention } from "./contention.mjs"
import { patience } from "./world.mjs"

const SUBJECTS = { contract, early, handles, cancel, signals, closing, shared, tokens, query, events, listeners, deadlocks, loss, lifecycle, contention }

/**
 * Declares the tests of every subject for one model.
 * @param {import("./world.mjs").World} world
 */
export function conformance (world) {
    for (const [ subject, declare ] of Object.entries(SUBJECTS))
        describe(`${world.name}: ${subject}`, () => {
            declare(world)
            after(() => world.clean?.(patience()))
        })
}
