// A cluster of three nodes, and what a cut network does.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testGoodbye, testNetwork } from "../servers/network.mjs"
import { contender, ended, freed, opened, pending } from "../support/contenders.mjs"
import { History, check } from "../support/history.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

testNetwork(etcd, { ttl: 8 })
testGoodbye(etcd, 1500)

/** The lease and the patience of a client must outlive an election on a machine that stands still for seconds. */
const cluster = (t) => etcd(t, { nodes: 3, params: { ttl: 20, connect_timeout: 20 } })

test("a hold and a waiter survive the death of any one node of three, and tokens grow", async (t) => {
    const server = await cluster(t)
    const url = server.url("foo")
    const mutex = await opened(t, url)
    const child = await contender(t, url)
    let last = 0n
    for (const node of server.nodes) {
        const lock = await mutex.lock()
        assert.ok(lock.token > last)
        await child.send({ do: "lock" })
        await pending(mutex, 1)
        await node.kill()
        await pending(mutex, 1)
        assert.equal(lock.signal.aborted, false)
        await lock.release()
        const { token } = await child.message("held", { timeout: 60_000 })
        assert.ok(token > lock.token)
        last = token
        await freed(child)
        await node.start()
    }
    await ended(child)
    await mutex.close()
    await noLeftovers(server, { timeout: 60_000 }) // a lease whose end came too late for close() runs out by itself
})

/** The node that leads the cluster, once there is one. */
async function leader (server) {
    return await waitFor(async () => {
        for (const node of server.nodes)
            if (await node.leads())
                return node
        return undefined
    }, { what: "a leader", timeout: 60_000 })
}

/** The ways in which a leader goes in good order. What comes back is to be called when the cluster shall be whole again. */
const WAYS = {
    "hands its office to another": async (server) => {
        // Fails where the leader has just lost its office without being told to.
        await waitFor(async () => {
            const before = await leader(server)
            const other = server.nodes.find((node) => node !== before)
            const { header } = await server.admin.at(other.port).call("/v3/maintenance/status", {})
            await server.admin.at(before.port).call("/v3/maintenance/transfer-leadership", { targetID: header.member_id })
            return true
        }, { what: "a leader to hand its office over", timeout: 60_000 })
        return () => {}
    },
    "is told to stop": async (server) => {
        const node = await leader(server)
        await node.stop()
        return () => node.start()
    }
}

test("a hold and those who wait survive a leader that goes in good order", async (t) => {
    const server = await cluster(t)
    const url = server.url("foo")
    const mutex = await opened(t, url)
    const children = [ await contender(t, url), await contender(t, url) ]
    let last = 0n
    for (const way of [ ...Object.values(WAYS), ...Object.values(WAYS) ]) {
        const lock = await mutex.lock()
        assert.ok(lock.token > last)
        last = lock.token
        for (const [ index, child ] of children.entries()) {
            await child.send({ do: "lock" })
            await pending(mutex, index + 1)
        }
        const back = await way(server)
        await pending(mutex, 2)
        assert.equal(lock.signal.aborted, false)
        assert.ok(children.every((child) => !child.has("held")))
        await lock.release()
        for (const child of children) {
            const { token } = await child.message("held", { timeout: 60_000 })
            assert.ok(token > last)
            last = token
            assert.ok(children.every((other) => other === child || !other.has("held")))
            await freed(child)
        }
        await back()
    }
    for (const child of children)
        await ended(child)
    await mutex.close()
    await noLeftovers(server, { timeout: 60_000 }) // a lease whose end came too late for close() runs out by itself
})

test("a crowd goes on, and nobody is granted twice, while leaders go in good order", async (t) => {
    const server = await cluster(t)
    const url = server.url("foo")
    const mutex = await opened(t, url)
    const children = await Promise.all([ 1, 2, 3 ].map(() => contender(t, url, "loop")))
    const own = new History()
    const turn = async () => {
        own.ask("foo", "own")
        const lock = await mutex.lock({ timeout: 60_000 })
        own.grant("foo", "own", { token: lock.token })
        own.release("foo", "own")
        await lock.release()
    }
    for (const way of [ ...Object.values(WAYS), ...Object.values(WAYS) ]) {
        await turn()
        const back = await way(server)
        await turn()
        await turn()
        await back()
    }
    await turn()
    const histories = [ own ]
    for (const child of children) {
        await child.send("stop")
        histories.push(History.from((await child.message("history", { timeout: 60_000 })).history))
        await child.success()
    }
    const { grants, lost } = check(histories, { order: "none", tokens: true })
    assert.equal(lost, 0)
    assert.ok(grants > own.length / 3, `${grants} grants`)
    await mutex.close()
    await noLeftovers(server, { timeout: 60_000 }) // a lease whose end came too late for close() runs out by itself
})
