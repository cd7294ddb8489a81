// What a program is told while a server is away. The same on every server; each calls this with what is its own.
import assert from "node:assert/strict"
import { once } from "node:events"
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { opened, pending } from "../support/contenders.mjs"
import { startProxy } from "../support/proxy.mjs"
import { noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

/** Long enough that nothing ends by itself, on a machine that stands still for seconds. */
const LONG = 60

/**
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 */
export function testOutages (start) {
    test("a server that does not answer is not told as somebody else's hold, whatever was asked before", async (t) => {
        const server = await start(t)
        const proxy = await startProxy(server, t)
        const url = server.url("foo", { ttl: LONG, connect_timeout: 2 }, proxy.port)
        const [ mutex, other ] = [ await opened(t, url), await opened(t, url) ]
        await (await mutex.lock()).release()
        proxy.blackhole()
        await assert.rejects(mutex.tryLock(), { code: "ERR_CONNECT" })
        await assert.rejects(mutex.lock({ timeout: 100 }), { code: "ERR_TIMEOUT" })
        for (const attempt of [ mutex, other, mutex ])
            await assert.rejects(attempt.tryLock(), { code: "ERR_CONNECT" })
        const waiting = mutex.lock()
        await assert.rejects(other.tryLock(), { code: "ERR_CONNECT" })
        await proxy.pass()
        await (await waiting).release()
        await mutex.close()
        await other.close()
        await noLeftovers(server, { timeout: LONG * 1000 })
    })

    test("a try that comes when the server is back gets the lock that only withdrawn requests of its own are in the way of", async (t) => {
        const server = await start(t)
        const proxy = await startProxy(server, t)
        const url = server.url("foo", { ttl: LONG, connect_timeout: 2 }, proxy.port)
        const [ mutex, near ] = [ await opened(t, url), await opened(t, server.url("foo", { connect_timeout: LONG })) ]
        const lock = await near.lock()
        const abort = new AbortController()
        const waiting = mutex.lock({ signal: abort.signal })
        await pending(near, 1)
        proxy.blackhole()
        abort.abort()
        await assert.rejects(waiting, { name: "AbortError" })
        await assert.rejects(mutex.tryLock(), { code: "ERR_CONNECT" })
        await lock.release()
        await proxy.pass()
        let got
        await waitFor(async () => {
            got = await mutex.tryLock().catch((error) => assert.equal(error.code, "ERR_CONNECT"))
            assert.notEqual(got, null, "nobody else has the lock")
            return got !== undefined
        })
        await got.release()
        await mutex.close()
        await near.close()
        await noLeftovers(server, { timeout: LONG * 1000 })
    })

    test("a wait that ends by timeout while the server is away has the outage as its cause; another one has none", async (t) => {
        const server = await start(t)
        const proxy = await startProxy(server, t)
        const far = await opened(t, server.url("foo", { ttl: LONG, connect_timeout: 2 }, proxy.port))
        const near = await opened(t, server.url("foo", { ttl: LONG, connect_timeout: LONG }))
        const lock = await near.lock()
        await assert.rejects(far.lock({ timeout: 200 }), ({ code, cause }) => code === "ERR_TIMEOUT" && cause === undefined)
        const waiting = far.lock({ timeout: 10_000 })
        waiting.catch(() => {})
        await pending(near, 1)
        const gone = once(far, "disconnect")
        await proxy.refuse()
        proxy.reset()
        await gone
        await assert.rejects(waiting, ({ code, cause }) => code === "ERR_TIMEOUT" && cause?.code === "ERR_CONNECT")
        await proxy.pass()
        await pending(near, 0)
        await lock.release()
        await far.close()
        await near.close()
        await noLeftovers(server, { timeout: LONG * 1000 })
    })

    test("an outage is told by one \"disconnect\" and one \"reconnect\", on each mutex", async (t) => {
        const server = await start(t)
        const proxy = await startProxy(server, t)
        const params = { ttl: LONG, connect_timeout: LONG }
        const near = await opened(t, server.url("foo", params))
        const far = [ await opened(t, server.url("foo", params, proxy.port)), await opened(t, server.url("bar", params, proxy.port)) ]
        const heard = far.map((mutex) => {
            const events = []
            for (const event of [ "disconnect", "reconnect" ])
                mutex.on(event, () => events.push(event))
            return events
        })
        const lock = await near.lock()
        const waiting = far[0].lock()
        await pending(near, 1)
        for (let outage = 1; outage <= 2; outage++) {
            await proxy.refuse()
            proxy.reset()
            await waitFor(() => heard.every((events) => events.length === 2 * outage - 1), { what: () => `disconnect: ${heard}` })
            await proxy.pass()
            await waitFor(() => heard.every((events) => events.length === 2 * outage), { what: () => `reconnect: ${heard}` })
        }
        await pending(near, 1)
        await lock.release()
        await (await waiting).release()
        for (const mutex of [ ...far, near ])
            await mutex.close()
        const outages = [ "disconnect", "reconnect", "disconnect", "reconnect" ]
        assert.deepEqual(heard, [ outages, outages ])
    })

    test("mutexes that open together at a silent server are told together", async (t) => {
        const server = await start(t)
        const proxy = await startProxy(server, t)
        proxy.blackhole()
        const before = performance.now()
        const opening = Array.from({ length: 20 }, (_, n) => new Mutex(server.url(`lock-${n}`, { connect_timeout: 2 }, proxy.port)).open())
        for (const { reason } of await Promise.allSettled(opening))
            assert.equal(reason?.code, "ERR_CONNECT")
        // one after another they would need 40 s
        assert.ok(performance.now() - before < 20_000)
    })
}
