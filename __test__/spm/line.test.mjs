import { test } from "node:test"
import assert from "node:assert/strict"
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import { Mutex, freshId, main, opened, rejection } from "../conformance/world.mjs"
import { watchLeaks } from "../support/leaks.mjs"

watchLeaks()

/** A thread that opens the lock, says "open", and does what it is told: "query", "acquire", "release". */
async function thread (t, id) {
    const worker = new Worker(`
        const { parentPort, workerData } = require("node:worker_threads")
        const Mutex = require(workerData.main)
        const mutex = new Mutex("spm:" + workerData.id)
        mutex.open().then(() => parentPort.postMessage("open"))
        parentPort.on("message", async (method) => parentPort.postMessage({ [method]: await mutex[method]() }))
    `, { eval: true, workerData: { main, id } })
    t.after(() => worker.terminate())
    await once(worker, "message")
    return worker
}

test("waiters of the holder's own object, of another object and again of the first are let in in the order in which they came", async (t) => {
    const url = `spm:${freshId()}`
    const [ one, other ] = [ await opened(t, url), await opened(t, url) ]
    const order = []
    const enter = async (mutex, name) => {
        await mutex.acquire()
        order.push(name)
        await null
        await mutex.release()
    }
    await one.acquire()
    const all = [ enter(one, "a"), enter(one, "b"), enter(other, "c"), enter(one, "d"), enter(other, "e"), enter(one, "f") ]
    await one.release()
    await Promise.all(all)
    assert.deepEqual(order, [ "a", "b", "c", "d", "e", "f" ])
    assert.equal(await other.tryAcquire(), true)
    await other.release()
})

test("calls with options, that may be withdrawn, keep their places among the others", async (t) => {
    const mutex = await opened(t, `spm:${freshId()}`)
    const order = []
    await mutex.acquire()
    const first = mutex.acquire().then(() => { order.push(1) })
    const shared = mutex.lock({ shared: true }).then((lock) => {
        order.push(2)
        return lock
    })
    const late = rejection(mutex.acquire({ timeout: 1 }))
    const last = mutex.acquire().then(() => { order.push(3) })
    assert.equal(await mutex.tryAcquire(), false)
    assert.equal((await late).code, "ERR_TIMEOUT")
    await mutex.release()
    await first
    assert.deepEqual(order, [ 1 ])
    await mutex.release()
    const lock = await shared
    assert.deepEqual(order, [ 1, 2 ])
    await lock.release()
    await last
    assert.deepEqual(order, [ 1, 2, 3 ])
    await mutex.release()
})

test("another thread sees those who wait for their own object's release, and gets the lock after them", async (t) => {
    const id = freshId()
    const mutex = await opened(t, `spm:${id}`, { label: "line" })
    const worker = await thread(t, id)
    await mutex.acquire()
    const waiting = [ mutex.acquire(), mutex.acquire() ]
    const queried = once(worker, "message")
    worker.postMessage("query")
    const [ { query } ] = await queried
    assert.deepEqual(query.pending.map(({ mode, label }) => [ mode, label ]), [ [ "exclusive", "line" ], [ "exclusive", "line" ] ])
    const granted = once(worker, "message")
    worker.postMessage("acquire")
    let theirs = false
    granted.then(() => { theirs = true })
    while ((await mutex.query()).pending.length < 3)
        await new Promise(setImmediate)
    for (const wait of waiting) {
        await mutex.release()
        await wait
        assert.equal(theirs, false)
    }
    await mutex.release()
    await granted
    assert.deepEqual((await mutex.query()).pending, [])
    const released = once(worker, "message")
    worker.postMessage("release")
    await released
})

test("close() rejects those who wait for their own object's release, and the lock is free", async (t) => {
    const url = `spm:${freshId()}`
    const other = await opened(t, url)
    const mutex = new Mutex(url)
    await mutex.open()
    await mutex.acquire()
    const waiting = [ rejection(mutex.acquire()), rejection(mutex.acquire()) ]
    await mutex.close()
    for (const error of await Promise.all(waiting))
        assert.equal(error.code, "ERR_CLOSED")
    assert.equal(await other.tryAcquire(), true)
    assert.deepEqual((await other.query()).pending, [])
    await other.release()
})

test("a thread that ends leaves its line to nobody", async (t) => {
    const id = freshId()
    const worker = await thread(t, id)
    for (let count = 0; count < 3; count++)
        worker.postMessage("acquire")
    await once(worker, "message")
    const mutex = await opened(t, `spm:${id}`)
    while ((await mutex.query()).pending.length < 2)
        await new Promise(setImmediate)
    const mine = mutex.acquire()
    await worker.terminate()
    await mine
    assert.deepEqual((await mutex.query()).pending, [])
    await mutex.release()
})
