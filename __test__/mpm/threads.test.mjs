// Worker threads: of the primary, of a worker, and of a process without any cluster.
import { test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import { startPrimary } from "./stage.mjs"

watchLeaks()

const waiting = (who, number) => waitFor(async () => (await who.do("query", "m")).pending.length === number, { what: `${number} to wait` })

test("threads of the primary and of workers contend with everybody, and are named by query()", async (t) => {
    const primary = await startPrimary(t)
    const worker = await primary.fork()
    await worker.do("load")
    const all = [ await primary.thread("inner"), await worker.thread("one"), await worker.thread("two"), primary, worker ]
    for (const each of all)
        await each.do("open", "m", "mpm:lock")
    await all[0].do("acquire", "m")
    const { held: [ holder ] } = await all[1].do("query", "m")
    assert.equal(holder.pid, primary.pid)
    assert.ok(holder.thread > 0)
    const order = []
    const rest = all.slice(1)
    for (const [ place, each ] of rest.entries()) {
        each.order("acquire", "m").then(() => order.push(place))
        await waiting(primary, place + 1)
    }
    const { pending } = await all[2].do("query", "m")
    assert.deepEqual(pending.map(({ pid }) => pid), [ worker.pid, worker.pid, primary.pid, worker.pid ])
    assert.ok(pending[0].thread > 0 && pending[1].thread > 0 && pending[0].thread !== pending[1].thread)
    await all[0].do("release", "m")
    for (const [ place, each ] of rest.entries()) {
        await waitFor(() => order.length === place + 1, { what: "the next grant" })
        await each.do("release", "m")
    }
    assert.deepEqual(order, [ 0, 1, 2, 3 ])
})

test("a thread that ends frees what it held and waited for, in the primary and in workers", async (t) => {
    const primary = await startPrimary(t)
    const worker = await primary.fork()
    await worker.do("load")
    await primary.do("open", "m", "mpm:lock")
    for (const home of [ primary, worker ])
        for (const deed of [ "terminate", "exit" ]) {
            const [ holder, waiter ] = [ await home.thread("holder"), await home.thread("waiter") ]
            for (const each of [ holder, waiter ])
                await each.do("open", "m", "mpm:lock")
            await holder.do("acquire", "m")
            waiter.order("acquire", "m")
            await waiting(primary, 1)
            const granted = primary.order("acquire", "m")
            await waiting(primary, 2)
            await home.do("terminate", "waiter")
            await waiting(primary, 1)
            if (deed === "terminate")
                await home.do("terminate", "holder")
            else
                holder.order("exit", 3)
            await granted
            await primary.do("release", "m")
        }
    assert.deepEqual(await primary.do("query", "m"), { held: [], pending: [] })
})

test("a thread of a worker whose main thread loads the package late is served then", async (t) => {
    const primary = await startPrimary(t)
    const worker = await primary.fork()
    const thread = await worker.thread("only")
    await thread.do("load")
    const opening = thread.order("open", "m", "mpm:lock")
    await worker.do("load")
    await opening
    await thread.do("acquire", "m")
    await primary.do("open", "m", "mpm:lock")
    assert.equal(await primary.do("tryAcquire", "m"), false)
})

test("a thread of a worker whose main thread has not loaded the package is told so, with the cure", async (t) => {
    const primary = await startPrimary(t)
    const thread = await (await primary.fork()).thread("only")
    await assert.rejects(thread.do("open", "m", "mpm:lock"), (error) => {
        assert.equal(error.code, "ERR_PRIMARY")
        assert.match(error.message, /main thread of this process.*load ipc-mutex there too/)
        return true
    })
})
