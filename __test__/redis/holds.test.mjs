// Holds on Redis: what keeps them, what ends them, and who is told.
import assert from "node:assert/strict"
import { test } from "node:test"
import { fastest } from "../servers/fastest.mjs"
import { testHolds, testRestart } from "../servers/holds.mjs"
import { contender, ended, freed, holder, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

testHolds(redis, 8)
testRestart((t) => redis(t, { persistent: true, config: [ "appendfsync always" ] }))

test("readers of a killed process are cleaned up like any holder", async (t) => {
    const server = await redis(t)
    const child = await holder(t, server.url("foo", { ttl: 2 }), { shared: true })
    const mutex = await opened(t, server.url("foo", { ttl: 60 }))
    const reader = await mutex.lock({ shared: true })
    const waiting = mutex.lock()
    await pending(mutex, 1)
    await child.kill("SIGKILL")
    await reader.release()
    const lock = await waiting
    assert.equal((await mutex.query()).held.length, 1)
    await lock.release()
    await mutex.close()
    await noLeftovers(server)
})

test("a killed waiter is skipped", async (t) => {
    const server = await redis(t)
    const url = server.url("foo", { ttl: 12 })
    const mutex = await opened(t, url)
    const lock = await mutex.lock()
    const dead = await contender(t, url)
    await dead.send({ do: "lock" })
    await pending(mutex, 1)
    const [ place ] = await server.admin.command("HVALS", "{foo/lock.IPC-Mutex-rpm}:info")
    const [ instance ] = /\b[0-9a-f]{32}\b/.exec(place)
    const alive = await contender(t, url)
    await alive.send({ do: "lock" })
    await pending(mutex, 2)
    await dead.kill("SIGKILL")
    await waitFor(async () => (await server.admin.command("PUBSUB", "CHANNELS", `*${instance}*`)).length === 0, { what: "the server to notice" })
    const beats = await server.admin.command("ZRANGE", "{foo/lock.IPC-Mutex-rpm}:beats", 0, -1, "WITHSCORES")
    const end = Number(beats[beats.findIndex((owner) => owner.startsWith(instance)) + 1])
    await lock.release()
    const { token } = await alive.message("held")
    // A token is the moment of the grant by the server's clock, in microseconds.
    assert.ok(Number(token) / 1000 < end, "without waiting for the dead one's time to run out")
    await freed(alive)
    await ended(alive)
    await mutex.close()
    await noLeftovers(server, { timeout: 60_000 }) // the dead waiter's place runs out by itself
})

test("a dead waiter keeps nobody from a lock that is free for them", async (t) => {
    const server = await redis(t)
    const url = (ttl) => server.url("foo", { ttl })
    const mutex = await opened(t, url(90))
    const other = await opened(t, url(60)) // another client of the server, in the eyes of this process
    for (const shared of [ false, true ]) {
        const lock = await mutex.lock({ shared })
        const dead = await contender(t, url(90))
        await dead.send({ do: "lock" })
        await pending(mutex, 1)
        const waiter = (await server.admin.command("HVALS", "{foo/lock.IPC-Mutex-rpm}:info")).join()
        await dead.kill("SIGKILL")
        await waitFor(async () => !(await server.admin.command("PUBSUB", "CHANNELS", "*")).some((name) => waiter.includes(name)),
            { what: "the server to notice" })
        if (!shared)
            await lock.release()
        const tried = await other.tryLock({ shared })
        assert.ok(tried, shared ? "beside readers" : "free")
        await tried.release()
        const waited = await other.lock({ shared, timeout: 45_000 })
        await waited.release()
        if (shared)
            await lock.release()
        await server.admin.command("DEL", "{foo/lock.IPC-Mutex-rpm}:queue", "{foo/lock.IPC-Mutex-rpm}:beats", "{foo/lock.IPC-Mutex-rpm}:info")
    }
    await mutex.close()
    await other.close()
})

test("a reader whose connection comes back goes in beside others at once", async (t) => {
    const server = await redis(t)
    const proxy = await startProxy(server, t)
    const far = await opened(t, server.url("foo", { ttl: 240 }, proxy.port))
    const [ writer, reader ] = [ await opened(t, server.url("foo", { ttl: 120 })), await opened(t, server.url("foo", { ttl: 60 })) ]
    const written = await writer.lock()
    const waiting = far.lock({ shared: true })
    await pending(writer, 1)
    await proxy.refuse()
    proxy.reset()
    await waitFor(async () => (await server.admin.command("PUBSUB", "CHANNELS", "IPC-Mutex-rpm:*")).every((name) => name.includes("ipc-mutex:")),
        { what: "the server to notice" })
    await written.release()
    const read = await reader.lock({ shared: true })
    assert.equal((await reader.query()).held.length, 1, "no other connection of this process hears in its place")
    const begun = performance.now()
    await proxy.pass()
    const lock = await waiting
    assert.ok(performance.now() - begun < 18_000, "before anybody renews")
    await lock.release()
    await read.release()
    for (const mutex of [ far, writer, reader ])
        await mutex.close()
    await noLeftovers(server)
})

test("that the server refuses one lock keeps nobody from hearing that another is lost", async (t) => {
    const server = await redis(t)
    const [ foo, bar ] = [ await opened(t, server.url("foo", { ttl: 12 })), await opened(t, server.url("bar", { ttl: 12 })) ]
    const [ lock, other ] = [ await foo.lock(), await bar.lock() ]
    await server.admin.command("SET", "{bar/lock.IPC-Mutex-rpm}:queue", "something else")
    await server.admin.command("DEL", "foo/lock.IPC-Mutex-rpm")
    await waitFor(() => lock.signal.aborted, { timeout: 60_000 })
    assert.match(lock.signal.reason.message, /no longer has/)
    await server.admin.command("DEL", "{bar/lock.IPC-Mutex-rpm}:queue")
    await other.release().catch(({ code }) => assert.equal(code, "ERR_LOCK_LOST")) // where the machine stood still
    await foo.close()
    await bar.close()
})

test("a holder is told when its key is deleted, and does not free what others took since", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 3 }))
    const lock = await mutex.lock()
    await server.admin.command("DEL", "foo/lock.IPC-Mutex-rpm")
    await server.admin.command("SET", "foo/lock.IPC-Mutex-rpm", "1700000000000", "PX", 60_000)
    await waitFor(() => lock.signal.aborted)
    assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
    await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
    assert.equal(await server.admin.command("GET", "foo/lock.IPC-Mutex-rpm"), "1700000000000")
})

test("a server that restarts without its data is noticed by the holder within a second, and a waiter goes on waiting", async (t) => {
    const server = await redis(t)
    const url = server.url("foo", { ttl: 60 })
    const mutex = await opened(t, url)
    const child = await contender(t, url)
    const took = await fastest(2000, async () => {
        const lock = await mutex.lock()
        await child.send({ do: "lock" })
        await pending(mutex, 1)
        await server.kill()
        await server.start()
        const back = performance.now()
        await waitFor(() => lock.signal.aborted)
        const told = performance.now()
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        const { token } = await child.message("held")
        assert.ok(token > lock.token, "tokens grow though the counter is gone")
        await freed(child)
        return told - back
    })
    assert.ok(took < 2000, `${took} ms`)
})

test("max_hold ends a hold as lost", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { max_hold: 0.3 }))
    const lock = await mutex.lock()
    await waitFor(() => lock.signal.aborted)
    assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
    const next = await opened(t, server.url("foo"))
    await (await next.lock()).release()
})
