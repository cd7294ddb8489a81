// Bounded waiting for something that can be observed.
import { setTimeout as sleep } from "node:timers/promises"

/**
 * Polls `condition` until it gives something truthy, and resolves with that.
 *
 * A condition that throws counts as not yet fulfilled; its last error is the `cause` of the failure. The last poll begins when the time is
 * over: what has happened by then is seen, also after a moment in which the whole machine stood still.
 *
 * @param {() => unknown} condition may be asynchronous
 * @param {object} [options]
 * @param {number} [options.timeout] milliseconds until it fails, 30,000 by default
 * @param {number} [options.every] milliseconds between two polls, 20 by default
 * @param {string | (() => string)} [options.what] what is waited for, for the message
 * @param {() => boolean | string} [options.hopeless] when truthy (or a reason), waiting ends at once
 */
export async function waitFor (condition, { timeout = 30_000, every = 20, what = "a condition", hopeless } = {}) {
    const deadline = performance.now() + timeout
    let cause
    for (;;) {
        const last = performance.now() >= deadline
        try {
            cause = undefined
            const result = await condition()
            if (result)
                return result
        }
        catch (error) {
            cause = error
        }
        const reason = hopeless?.()
        if (reason || last) {
            const wanted = typeof what === "function" ? what() : what
            throw new Error(`waited for ${wanted}: ${reason ? (reason === true ? "hopeless" : reason) : `not within ${timeout} ms`}`, { cause })
        }
        await sleep(every)
    }
}
