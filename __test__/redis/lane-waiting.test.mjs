// Waiting in the express lane: locks that go from process to process without the addon's thread, and what may come in between.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Worker } from "node:worker_threads"
import { once } from "node:events"
import { contender, ended, freed, opened, pending } from "../support/contenders.mjs"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { lines, warm, ways } from "./lane.mjs"

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

/** How many wait in the lane: their places name its connections' channels. */
async function laned (server) {
    const places = await server.admin.command("HVALS", "{foo/lock.IPC-Mutex-rpm}:info")
    return places.filter((place) => place.includes(" IPC-Mutex-rpm:ipc-mutex:")).length
}

async function over (server, ...mutexes) {
    for (const mutex of mutexes)
        await mutex.close()
    await noLeftovers(server, { timeout: 15_000 })
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
    ways.length = 0
    for (let turn = 0; turn < 10; turn++) {
        await other.send({ do: "lock" })
        await other.message("held")
        const queued = mutex.lock()
        await waitFor(() => laned(server), { every: 1 })
        await freed(other)
        await (await queued).release()
    }
    assert.deepEqual(new Set(ways), new Set([ "lane" ]))
    await ended(other)
    await over(server, mutex)
})

test("who waits long goes on waiting elsewhere, at the same place", async (t) => {
    const { server, far, near } = await behind(t)
    const first = far.lock()
    await waitFor(() => laned(server), { every: 1 })
    await waitFor(async () => await laned(server) === 0, { what: "the runtime to take over" })
    const second = near.lock()
    await pending(near, 2)
    await near.release()
    await (await first).release()
    await (await second).release()
    await over(server, far, near)
})

test("a waiter whose connection breaks, or whose grant is lost with it, gets the lock all the same", async (t) => {
    const { server, proxy, far, near } = await behind(t)
    for (const loses of [ "the connection", "the grant" ]) {
        const asked = far.lock()
        await waitFor(() => laned(server), { every: 1 })
        const later = near.lock()
        if (loses === "the grant")
            proxy.dropReplies()
        else
            for (const { id } of await lines(server))
                await server.admin.command("CLIENT", "KILL", "ID", id)
        await near.release()
        if (loses === "the grant")
            await proxy.pass()
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
    const mutex = await opened(t, server.url("foo", { ttl: 1 }))
    await warm(mutex)
    await mutex.acquire()
    // Another client of the server, in the eyes of this process.
    const thread = new Worker(PROGRAM, { workerData: { url: server.url("foo", { ttl: 1.1 }), act: "blocked", ms: 3000 } })
    t.after(() => thread.terminate())
    const message = async () => (await once(thread, "message"))[0]
    // It can warm up only once the lock is free.
    await mutex.release()
    await message()
    await waitFor(async () => (await mutex.query()).held.length === 1)
    const waiting = mutex.lock()
    await pending(mutex, 1)
    assert.equal((await message()).aborted, false)
    thread.postMessage("release")
    await (await waiting).release()
    await over(server, mutex)
})

for (const end of [ "a worker thread that is terminated", "a worker thread that exits", "a process that exits" ])
    test(`${end} while it waits in the lane leaves no place behind`, async (t) => {
        const server = await redis(t)
        const url = server.url("foo")
        const near = await opened(t, server.url("foo", { ttl: 9 })) // another client of the server, in the eyes of this process
        const isThread = end.startsWith("a worker")
        const program = isThread ? new Worker(PROGRAM, { workerData: { url, act: "waiting" } }) : await startChild(t, PROGRAM, [ url, "waiting" ])
        if (isThread)
            t.after(() => program.terminate())
        const message = async (name) => (isThread ? (await once(program, "message"))[0] : program.message(name))
        const tell = (what) => (isThread ? program.postMessage(what) : program.send(what))
        await message("warm")
        await near.acquire()
        await tell("ask")
        assert.deepEqual((await message("ready")).ways, [ "lane" ])
        await waitFor(() => laned(server), { every: 1 })
        const begun = performance.now()
        if (end.endsWith("terminated"))
            await program.terminate()
        else {
            await tell("end")
            await (isThread ? once(program, "exit") : program.success())
        }
        await pending(near, 0)
        assert.ok(performance.now() - begun < 5000, "long before its time at the server is over")
        await near.release()
        await over(server, near)
    })

test("a wait is withdrawn exactly, also while the lock is being handed over", async (t) => {
    const { server, far, near } = await behind(t)
    let granted = 0
    for (let round = 0; round < 60; round++) {
        const controller = new AbortController()
        const asked = far.lock({ signal: controller.signal })
        if (round % 3 !== 0)
            await waitFor(() => laned(server), { every: 1 })
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
        await near.acquire({ timeout: 5000 })
        assert.equal((await near.query()).pending.length, 0)
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
    await server.admin.command("ACL", "SETUSER", "lock", "resetchannels", `&IPC-Mutex-rpm:${name.split(":")[1]}`)
    await mutex.close()
    await mutex.open()
    await warm(mutex)
    const near = await opened(t, server.url("foo"))
    await near.acquire()
    const asked = mutex.lock()
    await pending(near, 1)
    assert.equal(await laned(server), 0)
    await near.release()
    await (await asked).release()
    await over(server, mutex, near)
})
