// Waiting in the express lane: locks that go from process to process without the addon's thread, and what may come in between.
import assert from "node:assert/strict"
import { Socket } from "node:net"
import { test } from "node:test"
import { contender, ended, freed, opened, pending } from "../support/contenders.mjs"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { lanedThread } from "./laned-thread.mjs"
import { PATIENCE, byLane, lines, warm, ways } from "./lane.mjs"

watchLeaks()

const PROGRAM = new URL("./laned.mjs", import.meta.url)

/**
 * A server with two clients in this process that know nothing of each other: `far`, which reaches it through a proxy and is in the
 * lane, and `near`, which has the lock.
 */
async function behind (t, params = {}) {
    const server = await redis(t)
    const proxy = await startProxy(server, t)
    const far = await opened(t, server.url("foo", params, proxy.port))
    await warm(far)
    const near = await opened(t, server.url("foo", params))
    await near.acquire()
    return { server, proxy, far, near }
}

/** For each who waits whether that is in the lane: then its place names the channel of one of the lane's connections. */
async function places (server) {
    const found = await server.admin.command("HVALS", "{foo/lock.IPC-Mutex-rpm}:info")
    return found.map((place) => place.includes(" IPC-Mutex-rpm:ipc-mutex:"))
}

/** Resolves when somebody waits: with what `places` gives. */
async function waits (server) {
    return await waitFor(async () => {
        const found = await places(server)
        return found.length > 0 && found
    }, { what: "somebody who waits", every: 1 })
}

/** Resolves when somebody waits who asked just now: whether that was seen in the lane. Only what is old by then may have left it. */
async function waitsInLane (server) {
    const begun = performance.now()
    const isSeen = (await waits(server)).includes(true)
    assert.ok(isSeen || performance.now() - begun >= PATIENCE)
    return isSeen
}

/** Holds what the lane writes back, from `begin()` to `end()`. */
function delayed (t) {
    const { write } = Socket.prototype
    t.after(() => { Socket.prototype.write = write })
    const kept = []
    return {
        begin () {
            Socket.prototype.write = function (data, encoding, ...rest) {
                if (encoding !== "latin1")
                    return write.call(this, data, encoding, ...rest)
                kept.push({ socket: this, data })
                return true
            }
        },
        held: () => kept.map(({ data }) => data).join(""),
        end () {
            Socket.prototype.write = write
            for (const { socket, data } of kept.splice(0))
                socket.write(data, "latin1")
        }
    }
}

async function over (server, ...mutexes) {
    for (const mutex of mutexes)
        await mutex.close()
    await noLeftovers(server, { timeout: 40_000 })
}

test("processes that take turns hand the lock over in the lane, in order and with growing tokens", async (t) => {
    const server = await redis(t)
    const url = server.url("foo")
    const mutex = await opened(t, url)
    await warm(mutex)
    const other = await contender(t, url)
    let token = 0n
    for (let turn = 0; turn < 20; turn++) {
        const mine = await mutex.lock()
        assert.ok(mine.token > token)
        await other.send({ do: "lock" })
        await pending(mutex, 1)
        const queued = mutex.lock()
        await pending(mutex, 2)
        await mine.release()
        const theirs = await other.message("held")
        assert.ok(BigInt(theirs.token) > mine.token)
        await freed(other)
        const again = await queued
        assert.ok(again.token > BigInt(theirs.token))
        token = again.token
        await again.release()
    }
    // Whoever asks behind its own process's hold does not, and takes that with it.
    assert.ok(ways.includes("lane"))
    await byLane(async () => {
        await other.send({ do: "lock" })
        await other.message("held")
        const queued = mutex.lock()
        const isSeen = await waitsInLane(server)
        await freed(other)
        await (await queued).release()
        return isSeen
    }, { times: 10 })
    await ended(other)
    await over(server, mutex)
})

test("who waits long goes on waiting elsewhere, at the same place", async (t) => {
    const { server, far, near } = await behind(t)
    ways.length = 0
    const first = far.lock()
    assert.deepEqual(ways, [ "lane" ])
    await waitFor(async () => (await places(server)).join() === "false", { what: "the runtime to take over" })
    const second = near.lock()
    await pending(near, 2)
    await near.release()
    await (await first).release()
    await (await second).release()
    await over(server, far, near)
})

test("a question that comes late, after that of the runtime which took over, does not take the grant with it", async (t) => {
    // The runtime's own renewals, which would find the grant, are far away.
    const { server, far, near } = await behind(t, { ttl: 90 })
    const late = delayed(t)
    for (let round = 0, isLate = false; !isLate; round++) {
        assert.ok(round < 50)
        // The lane asks for a place in the queue at once if it has found the lock taken a moment ago.
        const queued = far.lock()
        await waits(server)
        await near.release()
        await (await queued).release()
        await near.acquire()
        late.begin()
        const asked = far.lock()
        const taken = far.query() // for which the runtime takes over
        await waits(server)
        await taken
        assert.deepEqual(await places(server), [ false ])
        isLate = late.held().includes("IPC-Mutex-rpm:ipc-mutex:")
        const before = await server.admin.commandCounts()
        late.end()
        if (isLate)
            await waitFor(async () => (await server.admin.commandCounts()).evalsha > before.evalsha, { what: "the late question to come" })
        assert.deepEqual(await places(server), [ false ])
        await near.release()
        await (await asked).release()
        await warm(far)
        await near.acquire()
    }
    await near.release()
    await over(server, far, near)
})

test("a waiter whose connection breaks, or whose grant is lost with it, gets the lock all the same", async (t) => {
    const { server, proxy, far, near } = await behind(t)
    for (const loses of [ "the connection", "the grant" ])
        for (let isSeen = false; !isSeen;) {
            const asked = far.lock()
            isSeen = await waitsInLane(server)
            const later = near.lock()
            const { lost } = proxy.bytes
            if (loses === "the grant")
                proxy.dropReplies()
            else
                for (const { id } of await lines(server))
                    await server.admin.command("CLIENT", "KILL", "ID", id)
            await near.release()
            if (loses === "the grant") {
                await waitFor(() => proxy.bytes.lost > lost, { what: "the grant to vanish" })
                await proxy.pass()
            }
            // While nobody can tell the first of the line, the second may get in before it.
            await Promise.all([ asked, later ].map(async (each) => (await each).release()))
            await warm(far)
            await near.acquire()
        }
    await near.release()
    await over(server, far, near)
})

test("JavaScript that computes while it waits is granted the lock all the same, and keeps it", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 60 }))
    // Another client of the server, in the eyes of this process.
    const thread = lanedThread(t, server.url("foo", { ttl: 8 }), "blocked", { ms: 10_000, isTold: true })
    // It can warm up only while the lock is free.
    await thread.message("warm")
    await mutex.acquire()
    thread.send("ask")
    assert.deepEqual((await thread.message("ready")).ways, [ "lane" ])
    await pending(mutex, 1)
    await mutex.release()
    await waitFor(async () => (await mutex.query()).held.length === 1)
    const waiting = mutex.lock()
    await pending(mutex, 1)
    assert.equal((await thread.message("spun")).aborted, false)
    thread.send("release")
    await (await waiting).release()
    await over(server, mutex)
})

for (const end of [ "a worker thread that is terminated", "a worker thread that exits", "a process that exits" ])
    test(`${end} while it waits in the lane leaves no place behind`, async (t) => {
        const server = await redis(t)
        const url = server.url("foo", { ttl: 90 })
        const near = await opened(t, server.url("foo", { ttl: 60 })) // another client of the server, in the eyes of this process
        const isThread = end.startsWith("a worker")
        for (let isSeen = false; !isSeen;) {
            const program = isThread ? lanedThread(t, url, "waiting") : await startChild(t, PROGRAM, [ url, "waiting" ])
            await program.message("warm")
            await near.acquire()
            await program.send("ask")
            assert.deepEqual((await program.message("ready")).ways, [ "lane" ])
            isSeen = (await waits(server)).includes(true)
            const begun = performance.now()
            if (end.endsWith("terminated"))
                await program.terminate()
            else {
                await program.send("end")
                await (isThread ? program.ended : program.success())
            }
            await pending(near, 0)
            assert.ok(performance.now() - begun < 50_000, "long before its time at the server is over")
            await near.release()
        }
        await over(server, near)
    })

test("a wait is withdrawn exactly, also while the lock is being handed over", async (t) => {
    const { server, far, near } = await behind(t, { ttl: 90 })
    let granted = 0
    for (let round = 0; round < 60; round++) {
        const controller = new AbortController()
        const asked = far.lock({ signal: controller.signal })
        if (round % 3 !== 0)
            await waits(server)
        const released = near.release()
        for (let turn = 0; turn < round % 20; turn++)
            await new Promise((resolve) => setImmediate(resolve))
        controller.abort()
        const lock = await asked.catch(() => undefined)
        await released
        if (lock !== undefined) {
            granted++
            await lock.release()
        }
        await near.acquire({ timeout: 30_000 })
        await pending(near, 0)
    }
    t.diagnostic(`${granted} of 60 were granted first`)
    await near.release()
    await over(server, far, near)
})

test("who may not subscribe in the lane waits elsewhere", async (t) => {
    const server = await redis(t, { password: true })
    await server.admin.command("ACL", "SETUSER", "lock", "on", ">lock-secret", "~*lock.IPC-Mutex-rpm*", "+@all")
    const { href } = new URL(server.url("foo", { user: "lock" }))
    const url = href.replace(server.password, "lock-secret")
    // The name of the connections is known only when they are there; so all of the process's channel but not those of the lane.
    const mutex = await opened(t, url)
    await warm(mutex)
    const [ { name } ] = await lines(server)
    await server.admin.command("ACL", "SETUSER", "lock", "resetchannels", `&IPC-Mutex-rpm:${name.split(":")[1]}:*`)
    await mutex.close()
    await mutex.open()
    await warm(mutex)
    const near = await opened(t, server.url("foo"))
    await near.acquire()
    const asked = mutex.lock()
    await pending(near, 1)
    assert.deepEqual(await places(server), [ false ])
    await near.release()
    await (await asked).release()
    await over(server, mutex, near)
})
