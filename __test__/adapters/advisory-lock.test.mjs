import { after, describe, test } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"
import advisoryLock, { strToKey, mutexUrl } from "ipc-mutex/advisory-lock"
import Mutex from "ipc-mutex"
import { watchLeaks } from "../support/leaks.mjs"
import { startChild } from "../support/children.mjs"
import { noLeftovers, postgres, waitFor } from "../pgsql/patient.mjs"
import { conString, hearLosses, queued, session, waiters } from "./databases.mjs"

watchLeaks()
const require = createRequire(import.meta.url)
const server = await postgres(after, { password: true, database: "app" })
let count = 0
const freshName = () => `lock ${++count} of ${process.pid}`

/** Mutex objects of one fresh lock, and a session that knows its key. */
function contenders (t, number = 2) {
    const name = freshName()
    const mutexes = Array.from({ length: number }, () => advisoryLock(conString(server))(name))
    return { name, key: strToKey(name), mutexes, sql: session(t, server) }
}

/** Whether a promise has settled after everything that can happen has happened. */
const settled = (promise) => Promise.race([ promise.then(() => true, () => true), new Promise((resolve) => setImmediate(resolve, false)) ])

describe("names", () => {
    test("have the key that the package advisory-lock gives them", () => {
        assert.deepEqual(strToKey("test-lock"), [ -107789403, -1898803861 ])
        assert.deepEqual(strToKey("some-lock-name"), [ 1253560211, -1237456625 ])
    })

    test("may be a pair of integers, which is the key itself", async (t) => {
        const sql = session(t, server)
        for (const key of [ [ 7, -8 ], [ -2147483648, 2147483647 ] ]) {
            const { tryLock, unlock } = advisoryLock(conString(server))(key)
            assert.equal(await tryLock(), true)
            assert.equal(await sql.tryLock(key), false)
            assert.equal(await unlock(), true)
            assert.equal(await sql.tryLock(key), true)
            assert.equal(await sql.unlock(key), true)
        }
    })

    test("of any other kind are refused", () => {
        for (const name of [ undefined, null, 5, [ 1 ], [ 1, 2, 3 ], [ 1, 2 ** 31 ], [ 1.5, 2 ], [ "1", "2" ], {} ])
            assert.throws(() => advisoryLock(conString(server))(name), { name: "TypeError", code: "ERR_INVALID_ARG_TYPE" })
    })

    test("may be any text", async (t) => {
        const sql = session(t, server)
        for (const name of [ "", "a/b?c#d", "täglich ☃", "x".repeat(3000), "\u0001pair:1,2", "100%", "\ud800" ]) {
            const { lock, unlock } = advisoryLock(conString(server))(name)
            await lock()
            assert.equal(await sql.tryLock(strToKey(name)), false, name)
            await unlock()
        }
    })
})

describe("the module", () => {
    test("is the function itself for CommonJS, and its own default", () => {
        const required = require("ipc-mutex/advisory-lock")
        assert.equal(required, advisoryLock)
        assert.equal(required.default, advisoryLock)
        assert.equal(required.strToKey, strToKey)
        assert.equal(typeof require("ipc-mutex/advisory-lock/v2").default, "function")
    })

    test("gives the URL of a Mutex for the same lock", async (t) => {
        const { name, mutexes: [ { tryLock, unlock } ] } = contenders(t, 1)
        const mutex = new Mutex(mutexUrl(conString(server), name))
        assert.equal(mutex.id, encodeURIComponent(name))
        await mutex.open()
        const lock = await mutex.lock()
        assert.equal(typeof lock.token, "bigint")
        assert.equal(await tryLock(), false)
        await mutex.close()
        assert.equal(await tryLock(), true)
        await unlock()
    })
})

describe("the exclusive lock", () => {
    test("excludes other objects and sessions of plain SQL, and the reverse", async (t) => {
        const { key, mutexes: [ a, b ], sql } = contenders(t)
        assert.equal(await a.tryLock(), true)
        assert.equal(await b.tryLock(), false)
        assert.equal(await sql.tryLock(key), false)
        assert.equal(await a.unlock(), true)
        assert.equal(await sql.tryLock(key), true)
        assert.equal(await a.tryLock(), false)
        assert.equal(await b.tryLock(), false)
        await sql.unlock(key)
        assert.equal(await b.tryLock(), true)
        assert.equal(await b.unlock(), true)
    })

    test("is waited for by lock()", async (t) => {
        const { key, mutexes: [ a, b ], sql } = contenders(t)
        await sql.lock(key)
        const order = []
        const first = a.lock().then(() => order.push("a"))
        await waiters(server, 1)
        const second = b.lock().then(() => order.push("b"))
        await sql.unlock(key)
        await first
        assert.equal(await settled(second), false)
        assert.deepEqual(order, [ "a" ])
        await a.unlock()
        await second
        await b.unlock()
        assert.deepEqual(order, [ "a", "b" ])
    })

    test("is waited for by SQL while an object holds it", async (t) => {
        const { key, mutexes: [ a ], sql } = contenders(t, 1)
        await a.lock()
        const waiting = sql.lock(key)
        await waiters(server, 1)
        await a.unlock()
        await waiting
        assert.equal(await a.tryLock(), false)
        await sql.unlock(key)
    })

    test("can be taken again by the object that holds it, and must be given back as often", async (t) => {
        const { key, mutexes: [ a, b ], sql } = contenders(t)
        await a.lock()
        await a.lock()
        assert.equal(await a.tryLock(), true)
        assert.equal(await a.withLock(() => a.tryLock()), true)
        for (let left = 4; left > 0; left--) {
            assert.equal(await b.tryLock(), false)
            assert.equal(await sql.tryLock(key), false)
            assert.equal(await a.unlock(), true)
        }
        assert.equal(await b.tryLock(), true)
        assert.equal(await b.unlock(), true)
    })

    test("is granted to all calls of one object at once", async (t) => {
        const { key, mutexes: [ a ], sql } = contenders(t, 1)
        await sql.lock(key)
        const calls = Promise.all([ a.lock(), a.lock(), a.withLock(() => "three") ])
        await waiters(server, 1)
        assert.equal(await a.tryLock(), false)
        await sql.unlock(key)
        assert.equal((await calls)[2], "three")
        assert.equal(await a.unlock(), true)
        assert.equal(await sql.tryLock(key), false)
        assert.equal(await a.unlock(), true)
        assert.equal(await a.unlock(), false)
        assert.equal(await sql.tryLock(key), true)
    })

    test("is taken by a try and a wait of one object that come together", async (t) => {
        const { mutexes: [ a, b ] } = contenders(t)
        const [ first, , third ] = await Promise.all([ a.tryLock(), a.lock(), a.tryLock() ])
        assert.equal(first, true)
        assert.equal(third, true)
        for (let left = 3; left > 0; left--) {
            assert.equal(await b.tryLock(), false)
            assert.equal(await a.unlock(), true)
        }
        assert.equal(await b.tryLock(), true)
        await b.unlock()
    })

    test("that is not held is given back without an error and without an effect", async (t) => {
        const { mutexes: [ a, b ] } = contenders(t)
        assert.equal(await a.unlock(), false)
        await b.lock()
        assert.equal(await a.unlock(), false)
        assert.equal(await a.unlockShared(), false)
        assert.equal(await b.unlockShared(), false)
        assert.equal(await a.tryLock(), false)
        assert.equal(await b.unlock(), true)
        assert.equal(await b.unlock(), false)
    })
})

describe("withLock", () => {
    test("runs the function while the lock is held, and resolves to what it resolves to", async (t) => {
        const { key, mutexes: [ { withLock } ], sql } = contenders(t, 1)
        assert.equal(await withLock(async () => {
            assert.equal(await sql.tryLock(key), false)
            return "value"
        }), "value")
        assert.equal(await withLock(() => 5), 5)
        assert.equal(await withLock(), undefined)
        assert.equal(await sql.tryLock(key), true)
    })

    test("gives the lock back when the function throws, and rejects with what it threw", async (t) => {
        const { key, mutexes: [ { withLock, withLockShared } ], sql } = contenders(t, 1)
        const failure = new Error("of the function")
        for (const run of [ withLock, withLockShared ]) {
            await assert.rejects(run(() => { throw failure }), failure)
            await assert.rejects(run(() => Promise.reject(failure)), failure)
        }
        assert.equal(await sql.tryLock(key), true)
    })

    test("waits until the lock is free", async (t) => {
        const { key, mutexes: [ a ], sql } = contenders(t, 1)
        await sql.lock(key)
        let inside = false
        const running = a.withLock(() => { inside = true })
        await waiters(server, 1)
        assert.equal(inside, false)
        await sql.unlock(key)
        await running
        assert.equal(inside, true)
    })

    test("never lets two in", async (t) => {
        const { mutexes } = contenders(t, 12)
        let inside = 0
        await Promise.all(mutexes.map(({ withLock }) => withLock(async () => {
            assert.equal(++inside, 1)
            await new Promise((resolve) => setImmediate(resolve))
            inside--
        })))
    })
})

describe("shared locks", () => {
    test("go together, and keep exclusive ones out until the last is given back", async (t) => {
        const { name, key, mutexes: [ a, b, c ], sql } = contenders(t, 3)
        await a.lockShared()
        assert.equal(await b.tryLockShared(), true)
        assert.equal(await sql.tryLockShared(key), true)
        assert.equal(await sql.tryLock(key), false)
        await sql.unlockShared(key)
        assert.equal(await c.tryLock(), false)
        const exclusive = c.lock()
        await queued(server, name, 1)
        assert.equal(await a.unlockShared(), true)
        assert.equal(await settled(exclusive), false)
        assert.equal(await b.unlockShared(), true)
        await exclusive
        assert.equal(await sql.tryLockShared(key), false)
        assert.equal(await a.tryLockShared(), false)
        await c.unlock()
    })

    test("wait together while the exclusive one is held", async (t) => {
        const { name, key, mutexes: [ a, b ], sql } = contenders(t)
        await sql.lock(key)
        assert.equal(await a.tryLockShared(), false)
        const waiting = [ a.lockShared(), b.withLockShared(() => "read") ]
        await queued(server, name, 2)
        await waiters(server, 1)
        await sql.unlock(key)
        const [ , read ] = await Promise.all(waiting)
        assert.equal(read, "read")
        assert.equal(await sql.tryLock(key), false)
        assert.equal(await a.unlockShared(), true)
        assert.equal(await sql.tryLock(key), true)
    })

    test("are counted, and are not given back by unlock()", async (t) => {
        const { key, mutexes: [ a ], sql } = contenders(t, 1)
        await a.lockShared()
        await a.lockShared()
        assert.equal(await a.unlock(), false)
        assert.equal(await a.unlockShared(), true)
        assert.equal(await sql.tryLock(key), false)
        assert.equal(await a.unlockShared(), true)
        assert.equal(await a.unlockShared(), false)
        assert.equal(await sql.tryLock(key), true)
    })

    test("are granted to the object that holds the exclusive one", async (t) => {
        const { key, mutexes: [ a ], sql } = contenders(t, 1)
        assert.equal(await a.withLock(() => a.withLockShared(() => "inner")), "inner")
        await a.lock()
        assert.equal(await a.tryLockShared(), true)
        assert.equal(await a.unlock(), true)
        assert.equal(await a.unlock(), false)
        assert.equal(await sql.tryLock(key), false)
        assert.equal(await a.unlockShared(), true)
        assert.equal(await a.unlockShared(), false)
        assert.equal(await sql.tryLock(key), true)
    })

    test("of an object itself make its exclusive call wait", async (t) => {
        const { name, mutexes: [ a, b ] } = contenders(t)
        await a.lockShared()
        assert.equal(await a.tryLock(), false)
        const exclusive = a.lock()
        await queued(server, name, 1)
        await a.unlockShared()
        await exclusive
        assert.equal(await b.tryLockShared(), false)
        await a.unlock()
    })
})

describe("a connection that ends", () => {
    test("rejects withLock at once, and the next call works again", async (t) => {
        const { key, mutexes: [ a ], sql } = contenders(t, 1)
        let release
        const running = a.withLock(() => new Promise((_, reject) => { release = reject }))
        // The server has granted it a moment before the function runs; cut in between, the call would only go on waiting.
        await waitFor(() => release, { what: "the function to run" })
        // Listening before it happens: the loss may be heard sooner than the answer to who caused it.
        const rejected = assert.rejects(running, { name: "MutexError", code: "ERR_LOCK_LOST" })
        await server.admin.terminate((await server.admin.locks()).map(({ pid }) => pid))
        await rejected
        release(new Error("too late to be heard"))
        // Told once: the next call finds the lock free, or not cleared away yet.
        await waitFor(() => a.tryLock(), { what: "the lost hold to be cleared away" })
        assert.equal(await sql.tryLock(key), false)
        assert.equal(await a.unlock(), true)
    })

    test("rejects the unlock() of what it held, once", async (t) => {
        for (const [ lock, unlock ] of [ [ "lock", "unlock" ], [ "lockShared", "unlockShared" ] ]) {
            const { mutexes: [ a, b ] } = contenders(t)
            const heard = hearLosses(t)
            await a[lock]()
            await a[lock]()
            await server.admin.terminate()
            await waitFor(() => heard.losses === 1, { what: "the loss to be heard of" })
            await assert.rejects(a[unlock](), { code: "ERR_LOCK_LOST" })
            assert.equal(await a[unlock](), false)
            await waitFor(() => b.tryLock(), { what: "the lost hold to be cleared away" })
            await b.unlock()
        }
    })

    test("of one call of advisoryLock is that of all its objects, and client.end() gives everything back", async (t) => {
        const create = advisoryLock(conString(server))
        const [ one, same, other ] = [ create(t.name), create(t.name), advisoryLock(conString(server))(t.name) ]
        await one.lock()
        assert.equal(await same.tryLock(), true, "the session has it already")
        assert.equal(await other.tryLock(), false)
        assert.equal(await same.unlock(), true)
        assert.equal(await other.tryLock(), false)
        await create.client.end()
        assert.equal(await other.tryLock(), true)
        await other.unlock()
        assert.equal(await one.unlock(), false)
    })

    test("lets a waiting call wait on", async (t) => {
        const { key, mutexes: [ a ], sql } = contenders(t, 1)
        await sql.lock(key)
        const waiting = a.lock()
        await waiters(server, 1)
        await server.admin.terminate((await server.admin.locks()).filter(({ granted }) => !granted).map(({ pid }) => pid))
        await waiters(server, 1)
        await sql.unlock(key)
        await waiting
        await a.unlock()
    })

    test("that cannot be made rejects every call with a reason that names the server and no secret", async () => {
        const gone = advisoryLock("postgres://me:hunter2@127.0.0.1:1/app")("x")
        for (const call of [ "lock", "tryLock", "withLock", "lockShared", "tryLockShared", "withLockShared" ])
            await assert.rejects(gone[call](() => {}), (error) => {
                assert.equal(error.code, "ERR_CONNECT")
                assert.match(error.message, /127\.0\.0\.1:1/)
                assert.doesNotMatch(`${error.stack}${error.cause}`, /hunter2/)
                return true
            })
        await assert.rejects(advisoryLock(conString(server).replace(server.password, "wrong-secret"))("x").lock(), (error) => {
            assert.equal(error.code, "ERR_AUTH")
            assert.doesNotMatch(`${error.stack}${error.cause}`, /wrong-secret/)
            return true
        })
    })
})

describe("resources", () => {
    test("25 locks one after the other leave no connection behind", async () => {
        const name = freshName()
        for (let i = 0; i < 25; i++)
            assert.equal(await advisoryLock(conString(server))(name).withLock(() => i), i)
        await noLeftovers(server)
    })

    test("a hundred objects at once need few connections and leave none", async () => {
        await Promise.all(Array.from({ length: 100 }, async () => {
            const { lock, unlock } = advisoryLock(conString(server))(freshName())
            await lock()
            await unlock()
        }))
        const open = await server.connections()
        assert.ok(open <= 9, `${open} connections`)
        await noLeftovers(server)
    })

    test("an idle object does not keep the process alive, nor does a held lock, which ends with the process", async (t) => {
        const { name, key, sql } = contenders(t)
        const program = `
            import advisoryLock from ${JSON.stringify(new URL("../../lib/adapters/advisory-lock/index.mjs", import.meta.url).href)}
            const mutex = advisoryLock(process.argv[2])(process.argv[3])
            await mutex.withLock(() => {})
            if (process.argv[4])
                await mutex.lock()
            process.disconnect()`
        for (const hold of [ "", "hold" ]) {
            const child = await startChild(t, new URL(`data:text/javascript,${encodeURIComponent(program)}`), [ conString(server), name, hold ])
            await child.success()
            // The server notices the end of a connection a moment after the process has ended.
            await waitFor(() => sql.tryLock(key), { what: "the lock to be free" })
            await sql.unlock(key)
        }
    })
})

test("nothing is left at the server", async () => {
    await noLeftovers(server)
})
