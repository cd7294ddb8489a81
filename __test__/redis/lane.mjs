// What tests of the express lane need: to see which way calls go, and a mutex whose calls go by the lane.
import assert from "node:assert/strict"
import { createRequire } from "node:module"
import { waitFor } from "../support/waiting.mjs"

const native = createRequire(import.meta.url)("../../lib/native.js")

/** What is younger than this (milliseconds) stays in the lane, with a ttl of 8 s or more; what is older the runtime may take over. */
export const PATIENCE = 500

/** Which way the calls of this thread went, oldest first: "lane", "runtime", or "no line" for the runtime because there is no connection. */
export const ways = []

for (const name of [ "remoteRequest", "remoteRelease" ]) {
    const call = native[name]
    native[name] = (...args) => {
        const way = call(...args)
        ways.push(way === undefined ? "runtime" : way === 1 ? "no line" : "lane")
        return way
    }
}

/** Uses the lock until a whole pair goes by the lane, and nothing of it has become old there. */
export async function warm (mutex) {
    await waitFor(async () => {
        ways.length = 0
        const begun = performance.now()
        await mutex.acquire()
        await mutex.release()
        return ways.every((way) => way === "lane") && performance.now() - begun < PATIENCE
    }, { what: "a pair by the express lane", every: 5, timeout: 60_000 })
    ways.length = 0
}

/**
 * Does `round` until it went by the lane so many `times`, with all calls in it. A round that took so long that the runtime may have taken
 * something over does not count; any other must go by the lane.
 *
 * @param {() => Promise<boolean | void>} round gives false if it was not in the lane all the time
 */
export async function byLane (round, { times = 1 } = {}) {
    const end = performance.now() + 60_000
    for (let done = 0; done < times;) {
        ways.length = 0
        const begun = performance.now()
        const stayed = await round()
        const now = performance.now()
        if (stayed !== false && ways.every((way) => way === "lane"))
            done++
        else
            assert.ok(now - begun >= PATIENCE && now < end, `a round of ${now - begun} ms that went by ${ways}`)
    }
}

/** The connections of the lane, as the server sees them. */
export async function lines (server) {
    return (await server.admin.clients()).filter(({ name }) => /^ipc-mutex:\w+:\d+$/.test(name))
}
