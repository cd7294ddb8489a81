// Histories under contention: no overlap, no lost grant, growing tokens.
import { test } from "node:test"
import assert from "node:assert/strict"
import { Worker } from "node:worker_threads"
import { startChild } from "../support/children.mjs"
import { check, History } from "../support/history.mjs"
import { freshId, main } from "./world.mjs"

const script = new URL("./contender.mjs", import.meta.url)

/** One contender in a process or thread of its own; resolves to its history. */
async function contender (t, world, options) {
    if (world.processes) {
        const child = await startChild(t, script, [ JSON.stringify(options) ])
        const { history } = await child.message("history", { timeout: 120_000 })
        await child.success()
        return History.from(history)
    }
    const worker = new Worker(script, { workerData: options })
    t.after(() => worker.terminate())
    const history = await new Promise((resolve, reject) => {
        worker.once("message", resolve)
        worker.once("error", reject)
    })
    return History.from(history)
}

export function contention (world) {
    const rounds = world.model === "rpm" ? 60 : 400
    const run = (t, options) => {
        const url = world.url(freshId())
        return Promise.all([ 0, 1, 2 ].map((number) => contender(t, world, { main, url, owner: `p${number}`, rounds, objects: 3, ...options })))
    }

    test("exclusive holds of several threads or processes never overlap", async (t) => {
        const seen = check(await run(t, {}), { order: "none", tokens: true })
        assert.equal(seen.grants, 9 * rounds)
    })

    test("shared and exclusive holds never overlap, and shared ones do", async (t) => {
        const seen = check(await run(t, { sharedEvery: 2 }), { order: "none", tokens: true })
        assert.equal(seen.grants, 9 * rounds)
        assert.ok(seen.readers > 1)
    })

    test("waiters that give up in between disturb nobody", async (t) => {
        const seen = check(await run(t, { sharedEvery: 3, cancelEvery: 2 }), { order: "none", tokens: true })
        assert.equal(seen.grants + seen.cancelled, 9 * rounds)
    })
}
