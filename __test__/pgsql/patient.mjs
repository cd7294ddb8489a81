// Patience for tests that say what happens and in which order, not how fast: a machine may stand still for seconds, anywhere.
import * as servers from "../support/servers.mjs"
import * as waiting from "../support/waiting.mjs"

/** No session is given up, and no heartbeat sent, before a test is over. Where a test is about either, its URLs say so. */
const PATIENCE = { ttl: 60, connect_timeout: 30 }
/** The longest wait, in milliseconds. */
const LONGEST = 60_000

/** As `postgres` of servers.mjs. */
export const postgres = (t, options) => servers.postgres(t, { ...options, parameters: PATIENCE })
/** As `pgbouncer` of servers.mjs. */
export const pgbouncer = (t, server, options) => servers.pgbouncer(t, server, { ...options, parameters: PATIENCE })
/** As in servers.mjs. */
export const noLeftovers = (server, options) => servers.noLeftovers(server, { timeout: LONGEST, ...options })
/** As in waiting.mjs. */
export const waitFor = (condition, options) => waiting.waitFor(condition, { timeout: LONGEST, ...options })

/** How often `took` looks at the clock, and what counts at most between two looks, in milliseconds. */
const LOOK = 20
const MOST = 100

/** Milliseconds until the promise settled, without those in which this process stood still. Rejects if the promise does. */
export async function took (promise) {
    let sum = 0
    let last = performance.now()
    const look = () => {
        const now = performance.now()
        sum += Math.min(now - last, MOST)
        last = now
    }
    const timer = setInterval(look, LOOK)
    try {
        await promise
    }
    finally {
        clearInterval(timer)
    }
    look()
    return sum
}
