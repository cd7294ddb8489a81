import { after, test } from "node:test"
import assert from "node:assert/strict"
import advisoryLock, { strToKey } from "ipc-mutex/advisory-lock/v2"
import version1 from "ipc-mutex/advisory-lock"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { signal } from "../support/processes.mjs"
import { noLeftovers, postgres, waitFor } from "../pgsql/patient.mjs"
import { conString, hearLosses, queued, session } from "./databases.mjs"

watchLeaks()
const server = await postgres(after, { password: true, database: "app" })
let count = 0

/** Two mutex objects of one fresh lock, and a session that knows its key. */
function contenders (t) {
    const name = `v2 lock ${++count} of ${process.pid}`
    const [ a, b ] = [ 1, 2 ].map(() => advisoryLock(conString(server))(name))
    return { name, key: strToKey(name), a, b, sql: session(t, server) }
}

test("lock() and tryLock() give the function that unlocks, or undefined", async (t) => {
    const { key, a, b, sql } = contenders(t)
    const unlock = await a.lock()
    assert.equal(typeof unlock, "function")
    assert.equal(await b.tryLock(), undefined)
    assert.equal(await sql.tryLock(key), false)
    assert.equal(await unlock(), undefined)
    const second = await b.tryLock()
    assert.equal(typeof second, "function")
    assert.equal(await a.tryLock(), undefined)
    await second()
    assert.equal(await sql.tryLock(key), true)
    assert.equal(await a.tryLock(), undefined)
})

test("each hold is independent, also within one object", async (t) => {
    const { name, a } = contenders(t)
    const first = await a.lock()
    assert.equal(await a.tryLock(), undefined)
    const waiting = a.lock()
    await queued(server, name, 1)
    await first()
    const second = await waiting
    await assert.rejects(first(), { code: "ERR_NOT_ACQUIRED" })
    assert.equal(await a.tryLock(), undefined, "unlocking twice must not unlock the next hold")
    await second()
    await (await a.tryLock())()
})

test("unlock() gives back the oldest hold, and does nothing where there is none", async (t) => {
    const { key, a, b, sql } = contenders(t)
    await a.unlock()
    const unlock = await b.tryLock()
    await a.unlock()
    assert.equal(await a.tryLock(), undefined)
    await b.unlock()
    assert.equal(await sql.tryLock(key), true)
    await assert.rejects(unlock(), { code: "ERR_NOT_ACQUIRED" })
    assert.equal(await a.tryLock(), undefined)
})

test("a program that only holds a lock stays alive", async (t) => {
    const { name, b } = contenders(t)
    const code = `
        const { default: advisoryLock } = await import(${JSON.stringify(new URL("../../lib/adapters/advisory-lock/v2.mjs", import.meta.url))})
        const unlock = await advisoryLock(process.argv[2])(process.argv[3]).lock()
        process.once("SIGUSR2", unlock)
        process.channel.unref()
        process.send("held")`
    const child = await startChild(t, new URL(`data:text/javascript,${encodeURIComponent(code)}`), [ conString(server), name ])
    await child.message("held")
    assert.equal(await b.tryLock(), undefined)
    signal(child.pid, "SIGUSR2")
    await child.success()
    await (await b.lock())()
})

test("shared holds go together, and exclusive ones wait for them", async (t) => {
    const { key, a, b, sql } = contenders(t)
    const [ one, two ] = [ await a.lockShared(), await a.tryLockShared() ]
    await b.lockShared()
    assert.equal(await b.tryLock(), undefined)
    assert.equal(await sql.tryLock(key), false)
    assert.equal(await sql.tryLockShared(key), true)
    await sql.unlockShared(key)
    await one()
    await two()
    assert.equal(await sql.tryLock(key), false)
    await b.unlockShared()
    assert.equal(await sql.tryLock(key), true)
    assert.equal(await a.tryLockShared(), undefined)
})

test("withLock and withLockShared resolve to what the function resolves to, and unlock whatever happens", async (t) => {
    const { key, a, sql } = contenders(t)
    assert.equal(await a.withLock(async () => await sql.tryLock(key)), false)
    assert.equal(await a.withLockShared(() => "read"), "read")
    const failure = new Error("of the function")
    await assert.rejects(a.withLock(() => { throw failure }), failure)
    assert.equal(await sql.tryLock(key), true)
})

test("the connection's end rejects withLock and the unlock functions, and nothing else", async (t) => {
    const { a, b, key, sql } = contenders(t)
    const heard = hearLosses(t)
    const unlock = await a.lock()
    await server.admin.terminate()
    // Who gives a lock back before he hears of the loss is told that it is free, which is true.
    await waitFor(() => heard.losses === 1, { what: "the loss to be heard of" })
    await assert.rejects(unlock(), { name: "MutexError", code: "ERR_LOCK_LOST" })
    const running = b.withLock(() => server.admin.terminate().then(() => new Promise(() => {})))
    await assert.rejects(running, { code: "ERR_LOCK_LOST" })
    await (await b.lock())()
    assert.equal(await sql.tryLock(key), true)
})

test("objects of both versions exclude each other", async (t) => {
    const { name, a } = contenders(t)
    const { tryLock, unlock } = version1(conString(server))(name)
    const release = await a.lock()
    assert.equal(await tryLock(), false)
    await release()
    assert.equal(await tryLock(), true)
    assert.equal(await a.tryLock(), undefined)
    await unlock()
})

test("nothing is left at the server", async () => {
    await noLeftovers(server)
})
