// Processes that stand still: their locks and their places stay theirs.
import { test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { freeze, signal } from "../support/processes.mjs"
import { waitFor } from "../support/waiting.mjs"
import Mutex from "../../index.js"
import { member, onLinux, place } from "./members.mjs"

watchLeaks()

async function opened (t, url) {
    const mutex = new Mutex(url)
    await mutex.open()
    t.after(() => mutex.close())
    return mutex
}

const pending = (mutex, pid) => waitFor(async () => (await mutex.query()).pending.some((one) => one.pid === pid), { what: `${pid} to wait` })

test("a stopped process keeps its lock, and others time out", onLinux, async (t) => {
    const { url } = place(t)
    const mutex = await opened(t, url)
    const holder = await member(t, url)
    await holder.call("open")
    await holder.call("lock")
    await freeze(holder.pid)
    assert.equal(await mutex.tryLock(), null)
    await assert.rejects(mutex.lock({ timeout: 50 }), { code: "ERR_TIMEOUT" })
    const waiting = mutex.lock()
    signal(holder.pid, "SIGCONT")
    assert.deepEqual(await holder.call("release"), { name: "release", result: undefined })
    await (await waiting).release()
})

test("a stopped waiter is granted in its turn, and its death lets in the next", onLinux, async (t) => {
    const { url } = place(t)
    const mutex = await opened(t, url)
    const stopped = await member(t, url), next = await member(t, url)
    await stopped.call("open")
    await next.call("open")
    for (const end of [ "SIGCONT", "SIGKILL" ]) {
        const lock = await mutex.lock()
        const held = await stopped.wait()
        await pending(mutex, stopped.pid)
        const nextHeld = await next.wait()
        await pending(mutex, next.pid)
        await freeze(stopped.pid)
        await lock.release()
        const seen = await mutex.query()
        assert.deepEqual([ seen.held.map(({ pid }) => pid), seen.pending.map(({ pid }) => pid) ], [ [ stopped.pid ], [ next.pid ] ])
        if (end === "SIGKILL")
            await stopped.child.kill("SIGKILL")
        else {
            signal(stopped.pid, "SIGCONT")
            await held()
            await stopped.call("release")
        }
        await nextHeld()
        await next.call("release")
    }
})
