// A leader that was stopped and goes on: it answers renewals from its own table of leases for a moment, though another was elected.
import assert from "node:assert/strict"
import { setTimeout as sleep } from "node:timers/promises"
import { test } from "node:test"
import { opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** So long that an election is short beside it, and that all renewals on their way when the leader goes on were sent after it. */
const TTL = 20
const PAUSE = 12_000
/** As many clients, each with a session and connections of its own, are as many tries. */
const CLIENTS = 16

test("nobody believes in a hold that a leader of yesterday has renewed, once another is let in", async (t) => {
    const server = await etcd(t, { nodes: 3, params: { ttl: TTL, connect_timeout: 30 } })
    const old = await waitFor(async () => {
        for (const node of server.nodes)
            if (await node.leads())
                return node
        return undefined
    }, { what: "a leader", timeout: 60_000 })
    const others = server.nodes.filter((node) => node !== old).map(({ port }) => port)
    const clients = await Promise.all(Array.from({ length: CLIENTS }, async (_, at) => {
        // Whoever names another connect_timeout has another session.
        const far = await opened(t, server.url(`foo${at}`, { connect_timeout: 30 + at }, old.port))
        const near = await opened(t, server.url(`foo${at}`, {}, { port: others }))
        const lock = await far.lock({ shared: at % 2 === 1 })
        const waiting = near.lock()
        await pending(near, 1)
        return { far, near, lock, waiting: waiting.then((next) => ({ next, believed: !lock.signal.aborted })) }
    }))
    await old.pause()
    await sleep(PAUSE)
    await old.resume()
    await sleep(500) // it answers what has come meanwhile
    await old.pause()
    for (const { lock, waiting, near } of clients) {
        const { next, believed } = await waiting
        assert.equal(believed, false, "two believe")
        assert.ok(next.token > lock.token)
        await next.release()
        await near.close()
    }
    await old.resume()
    for (const { far } of clients)
        await far.close()
})
