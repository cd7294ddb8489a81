// Unrelated processes that are killed, stopped or lose their folder.
import { test } from "node:test"
import assert from "node:assert/strict"
import { once } from "node:events"
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import Mutex from "../../index.js"

watchLeaks()

const options = { skip: process.platform !== "linux" && "lpm: exists on Linux only" }
const contender = new URL("contender.mjs", import.meta.url).pathname

function place (t) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-lpm-"))
    t.after(() => rmSync(folder, { recursive: true, force: true }))
    return { folder, url: `lpm:crash?dir=${encodeURIComponent(folder)}` }
}

async function opened (t, url, given) {
    const mutex = new Mutex(url, given)
    await mutex.open()
    t.after(() => mutex[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]())
    return mutex
}

test("processes that are killed at any moment never make two holders, an older token or a forgotten waiter", options, async (t) => {
    const { folder, url } = place(t)
    const witness = join(folder, "witness")
    writeFileSync(witness, "")
    const start = () => startChild(t, contender, [ url, witness ])
    const children = [ await start(), await start(), await start() ]
    for (let kill = 0; kill < 12; kill++) {
        const child = children.shift()
        await child.message("on")
        await child.kill("SIGKILL")
        children.push(await start())
    }
    for (const child of children) {
        await child.message("on")
        assert.equal(child.stderr, "")
        assert.equal(child.result, undefined)
        await child.kill("SIGKILL")
    }
    const mutex = await opened(t, url)
    await mutex.acquire()
    await mutex.release()
    assert.deepEqual(await mutex.query(), { held: [], pending: [] })
})

test("the lock of a killed process goes to the first that waits, and query() shows other processes", options, async (t) => {
    const { url } = place(t)
    const holder = await startChild(t, "data:text/javascript," + encodeURIComponent(`
        import Mutex from ${JSON.stringify(new URL("../../index.mjs", import.meta.url).href)}
        const mutex = new Mutex(${JSON.stringify(url)}, { label: "nightly" })
        await mutex.open()
        await mutex.acquire()
        process.send("held")
        setInterval(() => {}, 1e6)`))
    await holder.message("held")
    const one = await opened(t, url), other = await opened(t, url)
    const waiting = one.lock()
    const { held, pending } = await other.query()
    assert.deepEqual([ held[0].pid, held[0].label, held[0].mode, pending[0].pid ], [ holder.pid, "nightly", "exclusive", process.pid ])
    assert.ok(held[0].host !== "" && held[0].since instanceof Date && held[0].token > 0n)
    assert.equal(await other.tryAcquire(), false)
    await holder.kill("SIGKILL")
    const lock = await waiting
    assert.ok(lock.token > held[0].token)
    await lock.release()
})

test("a thread that is terminated frees what it held", options, async (t) => {
    const { url } = place(t)
    const mutex = await opened(t, url)
    const worker = new Worker(`
        const Mutex = require(${JSON.stringify(new URL("../../index.js", import.meta.url).pathname)})
        const mutex = new Mutex(${JSON.stringify(url)})
        mutex.open().then(() => mutex.acquire()).then(() => require("node:worker_threads").parentPort.postMessage("held"))
        setInterval(() => {}, 1e6)`, { eval: true })
    await once(worker, "message")
    const waiting = mutex.acquire()
    await worker.terminate()
    await waiting
    await mutex.release()
})

test("a deleted folder ends all holds, which is told, and the mutex goes on with a new table", options, async (t) => {
    const { folder, url } = place(t)
    const mutex = await opened(t, url)
    const lock = await mutex.lock()
    const lost = once(mutex, "lost")
    // An idle mutex does not keep a process alive.
    const alive = setInterval(() => {}, 1000)
    t.after(() => clearInterval(alive))
    rmSync(folder, { recursive: true })
    mkdirSync(folder)
    const [ error ] = await lost
    assert.equal(error.code, "ERR_LOCK_LOST")
    assert.match(error.message, /"crash"/)
    assert.equal(lock.signal.reason, error)
    await assert.rejects(lock.release(), error)
    const next = await mutex.lock()
    assert.ok(next.token > lock.token)
    await next.release()
})

test("files have the folder's mode and are for nobody else, whatever the umask", options, async (t) => {
    const { folder, url } = place(t)
    chmodSync(folder, 0o770)
    const before = process.umask(0o077)
    try {
        await opened(t, url)
    }
    finally {
        process.umask(before)
    }
    const modes = readdirSync(folder).map((name) => `${name} ${(statSync(join(folder, name)).mode & 0o777).toString(8)}`)
    assert.deepEqual(modes.sort(), [ "gate 660", "table-2 660", "wake-1 660" ])
})

test("a folder that does not exist is an error of open() that names it and the way out", options, async (t) => {
    const { folder } = place(t)
    await assert.rejects(new Mutex(`lpm:a?dir=${folder}/missing`).open(), (error) => {
        assert.equal(error.code, "ERR_SERVER")
        assert.match(error.message, /missing.*\?dir=/)
        return true
    })
})

test("two ids of one folder, and one id of two folders, are different locks", options, async (t) => {
    const first = place(t), second = place(t)
    const mutexes = await Promise.all([ first.url, first.url.replace("crash", "other"), second.url ].map((url) => opened(t, url)))
    for (const mutex of mutexes)
        assert.equal(await mutex.tryAcquire(), true)
    await Promise.all(mutexes.map((mutex) => mutex.release()))
    await waitFor(async () => (await mutexes[0].query()).held.length === 0, { what: "nobody at the lock" })
})
