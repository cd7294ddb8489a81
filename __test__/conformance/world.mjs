// What the conformance suite needs to know of a model, and what its tests do again and again.
import { createRequire } from "node:module"
import { waitFor } from "../support/waiting.mjs"

const require = createRequire(import.meta.url)
const Package = require("../../index.js")
export const { MutexError } = Package
/** The package's main file, for child programs. */
export const main = require.resolve("../../index.js")

let count = 0

/**
 * One model under test.
 *
 * @typedef {object} World
 * @property {string} name as in the titles of the tests
 * @property {"spm" | "mpm" | "lpm" | "rpm"} model
 * @property {(id: string, params?: object) => string} url
 * @property {boolean} [processes] whether other processes reach the same locks
 * @property {string[]} [unknown] what `query()` cannot know of a holder: names of members of LockInfo
 * @property {(timeout: number) => Promise<void>} [clean] fails if anything is left so many milliseconds after all mutexes are closed
 */

/** For the URLs of a server, so that no machine is too slow: a hold outlives a halt of many seconds, and so does a question. */
export const PATIENT = Object.freeze({ ttl: 30, connect_timeout: 30 })

/** The end of a mutex or a process that takes so many milliseconds may have been cut short by the addon; what is left then ends with its lease. */
export const LONGEST_END = 800
let hurried = false

/** Notes how long an end has taken. */
export function ended (milliseconds) {
    hurried ||= milliseconds >= LONGEST_END
}

/** The mutex as users have it, but for the note of how long its end takes. */
export class Mutex extends Package {
    async close () {
        const begun = performance.now()
        try {
            return await super.close()
        }
        finally {
            ended(performance.now() - begun)
        }
    }
}

/** What `noLeftovers` may wait for: less than the rest of any lease, unless a lease had to do the clearing away. Consul takes up to two. */
export function patience () {
    const timeout = hurried ? 90_000 : 14_000
    hurried = false
    return timeout
}

/** An id that no other test uses. */
export function freshId (prefix = "c") {
    return `${prefix}-${process.pid}-${++count}`
}

/** An open mutex that is closed with the test. */
export async function opened (t, url, options) {
    const mutex = new Mutex(url, options)
    await mutex.open()
    t.after(() => mutex[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]())
    return mutex
}

/** Two open mutexes of one fresh lock. */
export async function two (t, world, params) {
    const url = world.url(freshId(), params)
    return [ await opened(t, url), await opened(t, url) ]
}

/** How long a server may need to clear away what nobody wants any more, in milliseconds: less than the rest of a lease, which would hide it. */
const CLEARING = 15_000

/** Resolves when so many wait for the lock, as anybody can see. */
export async function waiting (mutex, number) {
    await waitFor(async () => (await mutex.query()).pending.length === number,
        { timeout: number === 0 ? CLEARING : 60_000, what: `${number} waiting for ${mutex.id}` })
}

/** Resolves when nobody holds the lock and nobody waits for it, as anybody can see. */
export async function idle (mutex) {
    await waitFor(async () => {
        const { held, pending } = await mutex.query()
        return held.length + pending.length === 0
    }, { timeout: CLEARING, what: `nobody at ${mutex.id}` })
}

/**
 * Takes the lock without waiting for another holder. A call that gave up ends when the server has no trace of it, but a busy server
 * is waited for only a second: the trace may be there a little longer.
 */
export async function takeOver (mutex) {
    await waitFor(() => mutex.tryAcquire(), { timeout: CLEARING, what: `${mutex.id} to be free` })
}

/** A promise and whether it has settled so far. */
export function watch (promise) {
    const watched = { settled: false, promise }
    const over = () => { watched.settled = true }
    promise.then(over, over)
    return watched
}

/** What a promise is rejected with; fails if it is not. */
export async function rejection (promise) {
    try {
        await promise
    }
    catch (error) {
        return error
    }
    throw new Error("expected a rejection")
}
