// Worker threads: one lock for the whole process, and nothing left of a thread that ends, however it ends.
import { test } from "node:test"
import assert from "node:assert/strict"
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import { freshId, main, opened, waiting } from "../conformance/world.mjs"
import { check, History } from "../support/history.mjs"
import { watchLeaks } from "../support/leaks.mjs"

watchLeaks()
const script = new URL("./thread.mjs", import.meta.url)

/** How many threads are killed among those that contend, at least. */
const KILLS = 3

function start (t, options) {
    const worker = new Worker(script, { workerData: { main, ...options } })
    t.after(() => worker.terminate())
    return worker
}

/** What a thread says and how it ends: its messages and its error come on two ports, in either order, and both before its exit. */
function heard (worker) {
    const messages = [], errors = []
    worker.on("message", (message) => messages.push(message))
    worker.on("error", (error) => errors.push(error.message))
    const exited = new Promise((resolve) => worker.once("exit", resolve))
    const said = new Promise((resolve) => worker.once("message", resolve))
    return { messages, errors, exited, spoken: Promise.race([ said, exited ]) }
}

for (const end of [ "holding", "spinning", "returning", "throwing", "exiting" ])
    test(`a thread that ends while ${end} frees what it held`, async (t) => {
        const id = freshId("thread")
        const mutex = await opened(t, `spm:${id}`)
        const worker = start(t, { ids: [ id ], owner: end, end })
        const { messages, errors, exited, spoken } = heard(worker)
        await spoken
        const granted = mutex.acquire()
        if (end === "holding" || end === "spinning") {
            await waiting(mutex, 1)
            await worker.terminate()
        }
        await Promise.all([ granted, exited ])
        await mutex.release()
        assert.deepEqual(await mutex.query(), { held: [], pending: [] })
        assert.deepEqual([ messages, errors ], [ [ "ready" ], end === "throwing" ? [ "on purpose" ] : [] ])
    })

test("a thread that is terminated while waiting leaves the queue", async (t) => {
    const id = freshId("thread")
    const mutex = await opened(t, `spm:${id}`)
    await mutex.acquire()
    const worker = start(t, { ids: [ id ], owner: "x", end: "waiting" })
    const { messages, spoken } = heard(worker)
    // It is in the queue a moment before it says so.
    await Promise.all([ spoken, waiting(mutex, 2) ])
    const behind = mutex.acquire()
    await waiting(mutex, 3)
    await worker.terminate()
    await waiting(mutex, 1)
    await mutex.release()
    await behind
    await mutex.release()
    assert.deepEqual(messages, [ "ready" ])
})

test("200,000 grants over objects and threads, with threads that are killed in between, never overlap", async (t) => {
    const ids = Array.from({ length: 3 }, () => freshId("many"))
    // Those who contend go on until so many were killed.
    const kills = new Int32Array(new SharedArrayBuffer(4))
    let over = false
    // Victims hold or wait and are terminated, again and again, until the others have finished.
    const kill = async () => {
        while (!over) {
            const victim = start(t, { ids: [ ids[kills[0] % ids.length] ], owner: "victim", end: kills[0] % 2 === 0 ? "holding" : "waiting" })
            await once(victim, "message")
            await victim.terminate()
            Atomics.add(kills, 0, 1)
        }
    }
    const contend = async (_, number) => {
        const worker = start(t, { ids, owner: `t${number}`, rounds: 50_000, until: { kills, least: KILLS } })
        // both at once: a thread that ends tells its last message and its end in one go
        const [ [ history ] ] = await Promise.all([ once(worker, "message"), once(worker, "exit") ])
        return History.from(history)
    }
    const killing = kill()
    const contending = Promise.all(Array.from({ length: 4 }, contend)).finally(() => { over = true })
    const [ histories ] = await Promise.all([ contending, killing ])
    assert.ok(kills[0] >= KILLS)
    const seen = check(histories, { order: "none", tokens: true })
    assert.equal(seen.grants, seen.asks)
    assert.ok(seen.grants >= 200_000)
})
