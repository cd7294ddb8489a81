// Locks that nobody else wants, which are taken and given back in memory that the primary lends; and what happens at the border.
import { test, describe } from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { tmpdir } from "node:os"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import { signal } from "../support/processes.mjs"
import { startPrimary } from "./stage.mjs"

watchLeaks()

/** Memory is lent on Linux only. */
const options = { skip: process.platform !== "linux" && "no memory is lent here" }

/** A primary with some workers that have opened `mpm:lock` as "m". */
async function stage (t, count, settings) {
    const primary = await startPrimary(t, settings)
    const workers = await Promise.all(Array.from({ length: count }, () => primary.fork()))
    for (const each of workers)
        await each.do("open", "m", "mpm:lock")
    return [ primary, ...workers ]
}

const waiting = (who, number) => waitFor(async () => (await who.do("query", "m")).pending.length === number, { what: `${number} to wait` })

describe("where memory is lent", options, () => {
    test("a lock that nobody else wants costs no message, in a worker and in its threads", async (t) => {
        const [ , worker ] = await stage(t, 1)
        assert.equal(await worker.do("pairs", "m", 1000), 0)
        const thread = await worker.thread("t")
        await thread.do("open", "m", "mpm:lock")
        await thread.do("acquire", "m")
        assert.equal(await worker.do("tryAcquire", "m"), false)
        await thread.do("release", "m")
        // The thread's word of it goes to the primary by another way than its answer. Whoever asks the primary makes it look.
        assert.deepEqual(await worker.do("query", "m"), { held: [], pending: [] })
        assert.equal(await worker.do("pairs", "m", 1000), 0)
    })

    test("after others have waited, it costs no message again", async (t) => {
        const [ , one, other ] = await stage(t, 2)
        await one.do("acquire", "m")
        const granted = other.order("acquire", "m")
        await waiting(one, 1)
        await one.do("release", "m")
        await granted
        await other.do("release", "m")
        await waitFor(async () => (await one.do("query", "m")).held.length === 0, { what: "the lock to be free" })
        assert.equal(await other.do("pairs", "m", 1000), 0)
    })

    test("a hold that needed no message is seen by query() like any other", async (t) => {
        const before = Date.now() - 2000
        const [ primary, worker ] = await stage(t, 1)
        await worker.do("open", "labelled", "mpm:lock", { label: "the label" })
        await worker.do("acquire", "labelled")
        await primary.do("open", "m", "mpm:lock")
        const { held: [ { pid, thread, mode, label, since } ], pending } = await primary.do("query", "m")
        assert.deepEqual([ pid, thread, mode, label, pending ], [ worker.pid, 0, "exclusive", "the label", [] ])
        assert.ok(Date.parse(since) >= before && Date.parse(since) <= Date.now() + 2000, since)
        // And when somebody waits for it, too.
        primary.order("acquire", "m")
        await waiting(worker, 1)
        const later = await worker.do("query", "m")
        assert.deepEqual([ later.held[0].pid, later.held[0].since, later.held[0].label ], [ worker.pid, since, "the label" ])
    })

    test("a worker that is killed while it holds without a message frees the lock", async (t) => {
        const [ primary, holder, other ] = await stage(t, 2)
        await holder.do("acquire", "m")
        signal(holder.pid, "SIGKILL")
        await other.do("acquire", "m")
        assert.deepEqual((await other.do("query", "m")).held.map(({ pid }) => pid), [ other.pid ])
        await other.do("release", "m")
        assert.equal(await other.do("pairs", "m", 100), 0)
        assert.ok(primary)
    })

    test("what is given back is free for everybody who asks, before the primary has heard of it", async (t) => {
        const [ , holder, other, third ] = await stage(t, 3)
        for (const ask of [ () => other.do("tryAcquire", "m"), () => other.do("acquire", "m").then(() => true) ]) {
            await holder.do("acquire", "m")
            // Now the hold is in the table.
            assert.equal(await third.do("tryAcquire", "m"), false)
            await holder.do("releaseUntold", "m")
            assert.equal(await ask(), true)
            await other.do("release", "m")
        }
        await holder.do("acquire", "m")
        assert.equal(await third.do("tryAcquire", "m"), false)
        await holder.do("releaseUntold", "m")
        assert.deepEqual(await third.do("query", "m"), { held: [], pending: [] })
    })

    test("who waits is let in although the holder computes on behind its release", async (t) => {
        const folder = mkdtempSync(join(tmpdir(), "mpm-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const enough = join(folder, "enough")
        const [ , holder, waiter ] = await stage(t, 2)
        await holder.do("acquire", "m")
        const granted = waiter.order("acquire", "m")
        await waiting(holder, 1)
        let computing = true
        const computed = holder.order("releaseAndBlock", "m", enough).then(() => { computing = false })
        await granted
        assert.equal(computing, true)
        writeFileSync(enough, "")
        await computed
    })
})

describe("without lent memory", () => {
    test("everything goes by messages", async (t) => {
        const [ primary, worker, other ] = await stage(t, 2, { env: { IPC_MUTEX_LENDING: "off" } })
        assert.ok(await worker.do("pairs", "m", 100) >= 200)
        await primary.do("open", "m", "mpm:lock")
        await worker.do("acquire", "m")
        const order = []
        const rest = [ other, primary ]
        for (const [ place, each ] of rest.entries()) {
            each.order("acquire", "m").then(() => order.push(place))
            await waiting(primary, place + 1)
        }
        await worker.do("release", "m")
        for (const [ place, each ] of rest.entries()) {
            await waitFor(() => order.length === place + 1, { what: "the next grant" })
            await each.do("release", "m")
        }
        assert.deepEqual(await worker.do("query", "m"), { held: [], pending: [] })
    })
})

test("requests of one turn are granted in their order, whichever way each of them goes", async (t) => {
    const [ , worker ] = await stage(t, 1)
    await worker.do("open", "n", "mpm:lock")
    const ways = [ [ "lock", "m" ], [ "acquire", "n" ], [ "acquire", "m" ], [ "lock", "n" ], [ "acquire", "m" ], [ "acquire", "n" ] ]
    for (let from = 0; from < ways.length; from++) {
        const turned = [ ...ways.slice(from), ...ways.slice(0, from) ]
        assert.deepEqual(await worker.do("rush", turned), [ 0, 1, 2, 3, 4, 5 ])
    }
})
