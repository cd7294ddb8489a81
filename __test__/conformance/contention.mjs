// Histories under contention: no overlap, no lost grant, growing tokens.
import { test } from "node:test"
import assert from "node:assert/strict"
import { Worker } from "node:worker_threads"
import { startChild } from "../support/children.mjs"
import { check, History } from "../support/history.mjs"
import { ended, freshId, main, opened } from "./world.mjs"

const script = new URL("./contender.mjs", import.meta.url)

/** Hundreds of holds one after the other, on a disk that may be slow. */
const PATIENT = { timeout: 400_000 }

/** One contender in a process or thread of its own, which calls `inside` when it has the lock for the first time; resolves to its history. */
async function contender (t, world, options, inside) {
    if (world.processes) {
        const child = await startChild(t, script, [ JSON.stringify(options) ])
        await child.message("inside", PATIENT)
        inside()
        const { history, end } = await child.message("history", PATIENT)
        ended(end)
        await child.success(PATIENT)
        return History.from(history)
    }
    const worker = new Worker(script, { workerData: options })
    t.after(() => worker.terminate())
    return await new Promise((resolve, reject) => {
        worker.on("message", (message) => message.name === "history" ? resolve(History.from(message.history)) : inside())
        worker.once("error", reject)
        worker.once("exit", (code) => reject(new Error(`a thread has ended with code ${code} and without its history`)))
    })
}

export function contention (world) {
    const rounds = world.model === "rpm" ? 60 : 400
    const run = (t, options, url = world.url(freshId()), inside = () => {}) => Promise.all([ 0, 1, 2 ].map((number) =>
        contender(t, world, { main, url, owner: `p${number}`, rounds, objects: 3, ...options }, inside)))

    test("exclusive holds of several threads or processes never overlap", async (t) => {
        const seen = check(await run(t, {}), { order: "none", tokens: true })
        assert.equal(seen.grants, 9 * rounds)
    })

    test("shared and exclusive holds never overlap, and shared ones do", async (t) => {
        const url = world.url(freshId())
        const mutex = await opened(t, url)
        const history = new History()
        // All begin with a shared hold, and this one lasts until one of those has begun: so there are two at a time, however slow the server is.
        history.ask(mutex.id, "first", { mode: "shared" })
        const first = await mutex.lock({ shared: true })
        history.grant(mutex.id, "first", { token: first.token })
        let released
        const leave = () => {
            if (released === undefined) {
                history.release(mutex.id, "first")
                released = first.release()
            }
        }
        const histories = await run(t, { sharedEvery: 2 }, url, leave)
        await released
        const seen = check([ history, ...histories ], { order: "none", tokens: true })
        assert.equal(seen.grants, 9 * rounds + 1)
        assert.ok(seen.readers > 1)
    })

    test("waiters that give up in between disturb nobody", async (t) => {
        const seen = check(await run(t, { sharedEvery: 3, cancelEvery: 2 }), { order: "none", tokens: true })
        assert.equal(seen.grants + seen.cancelled, 9 * rounds)
    })
}
