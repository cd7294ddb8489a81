// Worker threads: what one thread has, all see; what a thread had that ends, is free; a lock can be stolen from another thread.
import { after, test } from "node:test"
import assert from "node:assert/strict"
import diagnostics from "node:diagnostics_channel"
import { Worker } from "node:worker_threads"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import { LockManager, fresh, manager, opened, rejection, watch } from "./world.mjs"

watchLeaks()
const program = new URL("./thread.mjs", import.meta.url)

function machine () {
    if (process.platform !== "linux")
        return []
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
    after(() => rmSync(folder, { recursive: true }))
    return [ `lpm:?dir=${encodeURIComponent(folder)}` ]
}

/** A thread that does what it is told, see thread.mjs. */
async function thread (t, url) {
    const worker = new Worker(program, { workerData: { url } })
    t.after(() => worker.terminate())
    worker.said = []
    worker.on("message", (message) => worker.said.push(message))
    worker.told = (message) => waitFor(() => worker.said.includes(message), { what: `"${message}" of a thread that said ${worker.said}` })
    await worker.told("ready")
    return worker
}

for (const url of [ "spm:", "mpm:", ...machine() ]) {
    const world = { url: () => url }

    test(`${url.slice(0, 4)} a lock of one thread excludes the others, and query shows all threads`, async (t) => {
        const locks = manager(t, world)
        const name = `${fresh()} x`
        const worker = await thread(t, url)
        worker.postMessage([ "hold", name ])
        await worker.told("held")
        assert.equal(await locks.request(name, { ifAvailable: true }, (lock) => lock), null)
        const { held } = await locks.query()
        const ours = held.filter((lock) => lock.name === name)
        assert.deepEqual(ours.map(({ mode, thread: number, pid }) => [ mode, number, pid ]), [ [ "exclusive", worker.threadId, process.pid ] ])
        const waiting = locks.request(name, () => "mine")
        worker.postMessage([ "wait", name ])
        await waitFor(async () => (await locks.query()).pending.filter((lock) => lock.name === name).length === 2)
        const { pending } = await locks.query()
        assert.equal(new Set(pending.filter((lock) => lock.name === name).map(({ clientId }) => clientId)).size, 2)
        worker.postMessage([ "release" ])
        assert.equal(await waiting, "mine")
        await worker.told("granted")
    })

    test(`${url.slice(0, 4)} a thread that ends frees its lock, and leaves the queue`, async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const [ holder, waiter ] = [ await thread(t, url), await thread(t, url) ]
        holder.postMessage([ "hold", name ])
        await holder.told("held")
        waiter.postMessage([ "wait", name ])
        await waitFor(async () => (await locks.query()).pending.some((lock) => lock.name === name))
        const ours = locks.request(name, () => "mine")
        await waiter.terminate()
        await holder.terminate()
        assert.equal(await ours, "mine")
        assert.ok((await locks.query()).held.every((lock) => lock.name !== name))
    })
}

test("spm: a lock is stolen from another thread, which hears of it", async (t) => {
    const locks = manager(t, { url: () => "spm:" })
    const name = fresh()
    const worker = await thread(t, "spm:")
    for (const how of [ "hold", "acquire" ]) {
        worker.said.length = 0
        worker.postMessage([ how, name ])
        await worker.told("held")
        await locks.request(name, { steal: true }, async (lock) => {
            assert.equal(lock.mode, "exclusive")
            await worker.told("lost ERR_LOCK_LOST")
        })
        if (how === "acquire") {
            worker.postMessage([ "free" ])
            await worker.told("not freed: ERR_LOCK_LOST")
        }
    }
    await locks.request(name, { ifAvailable: true }, (lock) => assert.notEqual(lock, null))
})

/** Lets a thread do something to a lock while this one stands still, so that it does not hear of it. */
function unheard (worker, ...told) {
    const done = new Int32Array(new SharedArrayBuffer(4))
    worker.postMessage([ ...told, done ])
    assert.notEqual(Atomics.wait(done, 0, 0, 60_000), "timed-out")
}

/** Lets this thread hear all that another one has done: its next grant comes behind that. */
async function hear (worker, locks) {
    const name = fresh()
    unheard(worker, "rob", name)
    const waiting = locks.lock(name)
    unheard(worker, "giveBack")
    await (await waiting).release()
}

for (const [ how, again, hearing = () => {} ] of [
    [ "at once", (mutex) => mutex.acquire() ],
    [ "at once, and hears of it then", (mutex) => mutex.acquire(), hear ],
    [ "with options", (mutex) => mutex.acquire({ timeout: 60_000 }) ],
    [ "with options, and hears of it then", (mutex) => mutex.acquire({ timeout: 60_000 }), hear ],
    [ "at once, and is listened to from then on", (mutex) => mutex.acquire().then(() => { mutex.on("lost", () => {}) }) ],
    [ "with options, and is listened to from then on", (mutex) => mutex.acquire({ timeout: 60_000 }).then(() => { mutex.on("lost", () => {}) }) ]
])
    test(`spm: a mutex that has not heard of a theft yet acquires again ${how}: the first release() is that of what was stolen`, async (t) => {
        const name = fresh()
        const locks = manager(t, { url: () => "spm:" })
        const mutex = await opened(t, `spm:${name}`)
        const worker = await thread(t, "spm:")
        await mutex.acquire()
        const waiting = [ mutex.acquire(), mutex.acquire() ]
        unheard(worker, "rob", name)
        unheard(worker, "giveBack")
        const another = again(mutex)
        await Promise.race([ another, ...waiting ])
        await hearing(worker, locks)
        assert.equal((await rejection(mutex.release())).code, "ERR_LOCK_LOST")
        for (const served of [ 1, 2, 3 ]) {
            await waitFor(async () => (await mutex.query()).pending.length === 3 - served)
            assert.equal(await locks.tryLock(name), null)
            await mutex.release()
        }
        await Promise.all([ another, ...waiting ])
        await (await locks.tryLock(name)).release()
    })

test("spm: such a mutex that was handed what was stolen while somebody traced, who has stopped since", async (t) => {
    const name = fresh()
    const locks = manager(t, { url: () => "spm:" })
    const mutex = await opened(t, `spm:${name}`)
    const worker = await thread(t, "spm:")
    const listener = () => {}
    await mutex.acquire()
    diagnostics.subscribe("tracing:ipc-mutex:acquire:start", listener)
    const handed = mutex.acquire()
    diagnostics.unsubscribe("tracing:ipc-mutex:acquire:start", listener)
    await mutex.release()
    await handed
    unheard(worker, "rob", name)
    unheard(worker, "giveBack")
    await mutex.acquire()
    assert.equal((await rejection(mutex.release())).code, "ERR_LOCK_LOST")
    assert.equal(await locks.tryLock(name), null)
    await mutex.release()
    await (await locks.tryLock(name)).release()
})

for (const observed of [ false, true ])
    test(`spm: release() of a theft that has not been heard of lets nobody in beside the thief${observed ? ", with a listener" : ""}`, async (t) => {
        const name = fresh()
        const mutex = await opened(t, `spm:${name}`)
        const worker = await thread(t, "spm:")
        await mutex.acquire()
        if (observed)
            mutex.on("lost", () => {})
        const calls = [ watch(mutex.acquire()), watch(mutex.acquire()) ]
        await mutex.release()
        await calls[0].promise
        unheard(worker, "rob", name)
        await assert.rejects(mutex.release(), { code: "ERR_LOCK_LOST" })
        assert.deepEqual((await mutex.query()).held.map((lock) => lock.thread), [ worker.threadId ])
        assert.equal(calls[1].settled, false)
        unheard(worker, "giveBack")
        await calls[1].promise
        await mutex.release()
    })

test("spm: a holder that reads its signal sees a theft that it has not heard of", async (t) => {
    const name = fresh()
    const locks = manager(t, { url: () => "spm:" })
    const worker = await thread(t, "spm:")
    const lock = await locks.lock(name)
    unheard(worker, "rob", name)
    assert.equal(lock.signal.aborted, true)
    assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
})

for (const call of [ "acquire", "lock" ])
    test(`spm: ${call}() rejects if the lock is stolen before the caller goes on`, async (t) => {
        const name = fresh()
        const mutex = await opened(t, `spm:${name}`)
        const worker = await thread(t, "spm:")
        await mutex.acquire()
        mutex.on("acquire", () => unheard(worker, "rob", name))
        const waiting = rejection(mutex[call]())
        await mutex.release()
        assert.equal((await waiting).code, "ERR_LOCK_LOST")
        await assert.rejects(mutex.release(), { code: "ERR_NOT_ACQUIRED" })
    })

test("spm: close() of a mutex whose waiters were moved by a theft, and the first of them was granted meanwhile, frees the lock", async (t) => {
    const name = fresh()
    const locks = manager(t, { url: () => "spm:" })
    // Else the thread would give back everything behind its last mutex.
    await locks.open()
    const mutex = await opened(t, `spm:${name}`)
    const worker = await thread(t, "spm:")
    await mutex.acquire()
    const waiting = [ mutex.acquire(), mutex.acquire(), mutex.acquire() ].map(rejection)
    unheard(worker, "rob", name)
    await waitFor(async () => (await mutex.query()).pending.length === 3)
    unheard(worker, "giveBack")
    await mutex.close()
    for (const each of waiting)
        assert.equal((await each).code, "ERR_CLOSED")
    const lock = await locks.tryLock(name)
    assert.notEqual(lock, null)
    await lock.release()
})

test("spm: threads that steal from each other hundreds of times leave nothing behind", async (t) => {
    const name = fresh()
    const workers = await Promise.all([ 1, 2, 3 ].map(() => thread(t, "spm:")))
    for (const worker of workers)
        worker.postMessage([ "steal", name, 300 ])
    const locks = new LockManager("spm:")
    t.after(() => locks.close())
    await Promise.all(workers.map((worker) => worker.told("stolen")))
    // Nothing is left: the fast path is open again, for everybody.
    const lock = await locks.tryLock(name)
    assert.notEqual(lock, null)
    await lock.release()
    assert.ok(!(await locks.query()).held.some((one) => one.name === name))
    await Promise.all(workers.map((worker) => {
        worker.postMessage([ "end" ])
        return once(worker, "exit")
    }))
})
