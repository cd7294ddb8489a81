// Waiting for a lock of a server: order, what it costs, and what cancelling leaves behind. The same on every server that
// keeps a queue; each calls this with what is its own.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { contender, ended, freed, holder, opened, pending } from "../support/contenders.mjs"
import { noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

/** A machine that is slow, or stands still for a moment, shall cost no hold and fail no call. */
const PATIENT = { ttl: 60, connect_timeout: 60 }

/**
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 * @param {object} [server] `timeouts`: how many different timeouts, from 0 ms on, cross with grants
 */
export function testWaiting (start, { timeouts = 5 } = {}) {
    test("a thousand mutexes of one process, contended ones among them, use at most three connections", async (t) => {
        const server = await start(t)
        const mutexes = Array.from({ length: 1000 }, (_, n) => new Mutex(server.url(`lock-${n % 990}`, PATIENT)))
        await Promise.all(mutexes.map((mutex) => mutex.open()))
        const waits = mutexes.map((mutex) => mutex.lock())
        const locks = await Promise.all(waits.slice(0, 990))
        let connections
        await waitFor(async () => (connections = await server.connections()) <= 3, { what: () => `three connections, not ${connections}` })
        await Promise.all(locks.map((lock) => lock.release()))
        await Promise.all(waits.slice(990).map(async (wait) => (await wait).release()))
        await Promise.all(mutexes.map((mutex) => mutex.close()))
        await noLeftovers(server)
    })

    test("a waiter that gives up is gone from the server at once, and those behind it move up", async (t) => {
        const server = await start(t)
        const url = server.url("foo", PATIENT)
        const child = await holder(t, url)
        const mutex = await opened(t, url)
        await assert.rejects(mutex.lock({ timeout: 300 }), { code: "ERR_TIMEOUT" })
        await pending(mutex, 0)
        const controller = new AbortController()
        const quitting = mutex.lock({ signal: controller.signal })
        const staying = mutex.lock()
        await pending(mutex, 2)
        controller.abort(new Error("enough"))
        await assert.rejects(quitting, { message: "enough" })
        await pending(mutex, 1)
        await freed(child)
        await (await staying).release()
        await ended(child)
        await mutex.close()
        await noLeftovers(server)
    })

    test("grants that cross with timeouts are given back: nobody is locked out by a waiter that has left", async (t) => {
        const server = await start(t)
        const url = server.url("foo", PATIENT)
        const child = await contender(t, url, "loop")
        const mutex = await opened(t, url)
        let last = 0n
        for (let n = 0; n < 200; n++)
            try {
                const lock = await mutex.lock({ timeout: n % timeouts })
                assert.ok(lock.token > last)
                last = lock.token
                await lock.release()
            }
            catch (error) {
                assert.equal(error.code, "ERR_TIMEOUT")
            }
        const lock = await mutex.lock()
        assert.ok(lock.token > last)
        await lock.release()
        await child.send("stop")
        await child.message("history")
        await child.success()
        await mutex.close()
        await noLeftovers(server)
    })

    test("a waiting writer holds back later readers of other processes, and readers enter together", async (t) => {
        const server = await start(t)
        const url = server.url("foo", PATIENT)
        const mutex = await opened(t, url)
        const first = await mutex.lock({ shared: true })
        const children = []
        for (const [ index, shared ] of [ false, true, true ].entries()) {
            const child = await contender(t, url)
            children.push(child)
            await child.send({ do: "lock", shared })
            await pending(mutex, index + 1)
        }
        assert.equal(await mutex.tryAcquire({ shared: true }), false)
        const { held, pending: waiting } = await mutex.query()
        assert.deepEqual(held.map(({ mode, pid }) => [ mode, pid ]), [ [ "shared", process.pid ] ])
        assert.deepEqual(waiting.map(({ mode, pid, label }) => [ mode, pid, label ]), children.map((child, index) =>
            [ index === 0 ? "exclusive" : "shared", child.pid, `contender ${child.pid}` ]))
        await first.release()
        await children[0].message("held")
        assert.ok(!children[1].has("held") && !children[2].has("held"))
        await freed(children[0])
        await Promise.all([ children[1].message("held"), children[2].message("held") ])
        for (const child of children.slice(1))
            await freed(child)
        for (const child of children)
            await ended(child)
        await mutex.close()
        await noLeftovers(server)
    })
}

/**
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 * @param {(server: object) => Promise<number>} requests how many requests of clients the server has counted
 * @param {number} ttl seconds: so many that no renewals come into the count
 */
export function testCrowd (start, requests, ttl) {
    test("30 waiting processes get the lock in order, and a hand-over costs the same whether 10 or 30 wait", async (t) => {
        const server = await start(t)
        const url = server.url("foo", { ...PATIENT, ttl })
        const mutex = await opened(t, url)
        const lock = await mutex.lock()
        const children = await Promise.all(Array.from({ length: 30 }, () => contender(t, url)))
        for (const [ index, child ] of children.entries()) {
            await child.send({ do: "lock" })
            await pending(mutex, index + 1)
        }
        const each = []
        let before = await requests(server)
        await lock.release()
        let last = lock.token
        for (const child of children) {
            const { token } = await child.message("held")
            assert.ok(token > last)
            last = token
            await freed(child)
            const now = await requests(server)
            each.push(now - before)
            before = now
        }
        // What comes once in a while, such as a connection that opens late or a moment left for old processes, is dear and not the hand-over's.
        const costs = [ 0, 10, 20 ].map((at) => each.slice(at, at + 10).sort((a, b) => a - b).slice(0, 7).reduce((sum, cost) => sum + cost))
        const summary = `requests for the cheapest seven of ten hand-overs while 30, 20 and 10 wait: ${costs}, of ${each}`
        t.diagnostic(summary)
        assert.ok(costs[0] > 0 && costs[0] < 1.5 * costs[2], summary)
        for (const child of children)
            await child.send({ do: "close" })
        for (const child of children)
            await child.success()
        await mutex.close()
        await noLeftovers(server)
    })
}
