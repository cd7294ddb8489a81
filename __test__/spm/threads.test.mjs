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

function start (t, options) {
    const worker = new Worker(script, { workerData: { main, ...options } })
    t.after(() => worker.terminate())
    return worker
}

for (const end of [ "holding", "spinning", "returning", "throwing", "exiting" ])
    test(`a thread that ends while ${end} frees what it held`, async (t) => {
        const id = freshId("thread")
        const mutex = await opened(t, `spm:${id}`)
        const worker = start(t, { ids: [ id ], owner: end, end })
        worker.on("error", (error) => assert.equal(error.message, "on purpose"))
        const exit = once(worker, "exit").catch(() => {})
        await once(worker, "message")
        const granted = mutex.acquire()
        if (end === "holding" || end === "spinning") {
            await waiting(mutex, 1)
            await worker.terminate()
        }
        await Promise.all([ granted, exit ])
        await mutex.release()
        assert.deepEqual(await mutex.query(), { held: [], pending: [] })
    })

test("a thread that is terminated while waiting leaves the queue", async (t) => {
    const id = freshId("thread")
    const mutex = await opened(t, `spm:${id}`)
    await mutex.acquire()
    const worker = start(t, { ids: [ id ], owner: "x", end: "waiting" })
    const messages = []
    worker.on("message", (message) => messages.push(message))
    await waiting(mutex, 2)
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
    const histories = []
    let over = false
    // Victims hold or wait and are terminated, again and again, until the others have finished.
    const kill = async () => {
        let kills = 0
        for (; !over; kills++) {
            const victim = start(t, { ids: [ ids[kills % ids.length] ], owner: "victim", end: kills % 2 === 0 ? "holding" : "waiting" })
            await once(victim, "message")
            await victim.terminate()
        }
        return kills
    }
    const killing = kill()
    await Promise.all(Array.from({ length: 4 }, async (_, number) => {
        const worker = start(t, { ids, owner: `t${number}`, rounds: 50_000 })
        // both at once: a thread that ends tells its last message and its end in one go
        const [ [ history ] ] = await Promise.all([ once(worker, "message"), once(worker, "exit") ])
        histories.push(History.from(history))
    }))
    over = true
    assert.ok(await killing > 2)
    const seen = check(histories, { order: "none", tokens: true })
    assert.equal(seen.grants, 200_000)
})
