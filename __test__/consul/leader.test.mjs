// A leader that was stopped and goes on: it answers renewals from its own list of sessions for a moment, though another was elected.
import assert from "node:assert/strict"
import { setTimeout as sleep } from "node:timers/promises"
import { test } from "node:test"
import { opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { startFront } from "./front.mjs"

watchLeaks()

/** Consul's shortest. */
const TTL = 10
/** As many clients, each with a session of its own that is renewed at its own times, are as many tries. */
const CLIENTS = 6

/** A mutex that is open, also where the servers still settle who leads. */
const openedSoon = (t, url) => waitFor(() => opened(t, url), { timeout: 60_000, what: "open()" })

test("nobody believes in a hold that a leader of yesterday has renewed, once another is let in", async (t) => {
    // A server that is stopped stays a member: without it and one more, there would be no majority.
    const config = { autopilot: { cleanup_dead_servers: false } }
    const server = await consul(t, { nodes: 3, config, params: { ttl: TTL, connect_timeout: 30 } })
    for (const [ pause, window ] of [ [ 1.3, 300 ], [ 1.6, 700 ] ]) {
        const old = await waitFor(async () => {
            for (const node of server.nodes)
                if (await node.leads())
                    return node
            return undefined
        }, { what: "a leader", timeout: 60_000 })
        const other = server.nodes.find((node) => node !== old)
        const clients = await Promise.all(Array.from({ length: CLIENTS }, async (_, at) => {
            await sleep(at * TTL * 500 / CLIENTS)
            // Whoever names another connect_timeout has another session.
            const far = await openedSoon(t, server.url(`foo${at}`, { connect_timeout: 30 + at }, old.port))
            const near = await openedSoon(t, server.url(`foo${at}`, {}, other.port))
            const lock = await far.lock()
            const waiting = near.lock()
            await pending(near, 1)
            return { far, near, lock, waiting: waiting.then((next) => ({ next, believed: !lock.signal.aborted })) }
        }))
        try {
            await old.pause()
            await sleep(TTL * 1000 * pause)
            await old.resume()
            await sleep(window)
            await old.pause()
            for (const { lock, waiting, near } of clients) {
                const { next, believed } = await waiting
                assert.equal(believed, false, "two believe")
                assert.ok(next.token > lock.token)
                await next.release()
                await near.close()
            }
        }
        finally {
            await old.resume()
        }
        for (const { far } of clients)
            await far.close()
    }
})

test("renewals that are answered while the leader changes do not count, exclusive or shared, and the next one counts", async (t) => {
    const server = await consul(t, { params: { ttl: TTL, connect_timeout: 30 } })
    let [ lies, told ] = [ 0, 0 ]
    const port = await startFront(t, server, ({ url }, reply) => {
        if (url === "/v1/status/leader" && lies > 0) {
            lies--
            reply.body = JSON.stringify(`127.0.0.1:${++told}`)
        }
    })
    for (const shared of [ false, true ]) {
        const mutex = await opened(t, server.url(`foo-${shared}`, { connect_timeout: shared ? 31 : 30 }, port))
        const lock = await mutex.lock({ shared })
        lies = 1 // which is no harm: it is renewed again at once
        const start = performance.now()
        await waitFor(() => lock.signal.aborted || performance.now() - start > 1500 * TTL, { timeout: 60_000 })
        assert.equal(lies, 0)
        assert.equal(lock.signal.aborted, false)
        lies = Infinity
        await waitFor(() => lock.signal.aborted, { timeout: 3000 * TTL, what: "the end of belief" })
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        lies = 0
        await (await mutex.lock({ shared })).release()
        await mutex.close()
    }
})
