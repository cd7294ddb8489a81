// What tests of the express lane need: to see which way calls go, and a mutex whose calls go by the lane.
import { createRequire } from "node:module"
import { waitFor } from "../support/waiting.mjs"

const native = createRequire(import.meta.url)("../../lib/native.js")

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

/** Uses the lock until a whole pair goes by the lane. */
export async function warm (mutex) {
    await waitFor(async () => {
        ways.length = 0
        await mutex.acquire()
        await mutex.release()
        return ways.every((way) => way === "lane")
    }, { what: "a pair by the express lane", every: 5 })
    ways.length = 0
}

/** The connections of the lane, as the server sees them. */
export async function lines (server) {
    return (await server.admin.clients()).filter(({ name }) => /^ipc-mutex:\w+:\d+$/.test(name))
}
