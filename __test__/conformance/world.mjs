// What the conformance suite needs to know of a model, and what its tests do again and again.
import { createRequire } from "node:module"
import { waitFor } from "../support/waiting.mjs"

const require = createRequire(import.meta.url)
export const Mutex = require("../../index.js")
export const { MutexError } = Mutex
/** The package's main file, for child programs. */
export const main = require.resolve("../../index.js")

let count = 0

/**
 * One model under test.
 *
 * @typedef {object} World
 * @property {string} name as in the titles of the tests
 * @property {"spm" | "mpm" | "rpm"} model
 * @property {(id: string, params?: object) => string} url
 * @property {boolean} [processes] whether other processes reach the same locks
 * @property {string[]} [unknown] what `query()` cannot know of a holder: names of members of LockInfo
 * @property {() => Promise<void>} [clean] fails if anything is left once all mutexes are closed
 */

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

/** Resolves when so many wait for the lock, as anybody can see. */
export async function waiting (mutex, number) {
    await waitFor(async () => (await mutex.query()).pending.length === number, { what: `${number} waiting for ${mutex.id}` })
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
