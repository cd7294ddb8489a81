// A Redis that is a node of a Redis Cluster: there a script may only use keys of one slot.
import assert from "node:assert/strict"
import { test } from "node:test"
import { contender, ended, freed, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { returnPort, takePort } from "../support/ports.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** A node of a cluster, without slots. */
async function node (t) {
    const bus = await takePort()
    t.after(() => returnPort(bus))
    const server = await redis(t, { config: [ "cluster-enabled yes", `cluster-port ${bus}` ] })
    return Object.assign(server, { bus })
}

const own = (server, first, last) => server.admin.command("CLUSTER", "ADDSLOTSRANGE", String(first), String(last))

const works = (server) => waitFor(async () => /cluster_state:ok/.test(await server.admin.command("CLUSTER", "INFO")), { what: "the cluster to be up", timeout: 60_000 })

test("all keys of a lock are in one slot, whatever is asked for", async (t) => {
    const server = await node(t)
    await own(server, 0, 16383)
    await works(server)
    const url = server.url("foo")
    const mutex = await opened(t, url)
    await mutex.acquire()
    await mutex.release()

    const reader = await mutex.lock({ shared: true })
    const other = await contender(t, url)
    await other.send({ do: "lock" })
    await pending(mutex, 1)
    const slots = new Set()
    for (const { key } of await server.admin.keys())
        slots.add(await server.admin.command("CLUSTER", "KEYSLOT", key))
    assert.equal(slots.size, 1)

    await reader.release()
    await other.message("held")
    const next = mutex.lock()
    await pending(mutex, 1)
    await freed(other)
    const lock = await next
    assert.equal(typeof lock.token, "bigint")
    await lock.release()
    await ended(other)
    await mutex.close()
    await noLeftovers(server)
})

test("a lock whose slot is on another node is an error that says so", async (t) => {
    const [ one, other ] = [ await node(t), await node(t) ]
    const slot = await one.admin.command("CLUSTER", "KEYSLOT", "foo/lock.IPC-Mutex-rpm")
    await own(one, 0, slot - 1)
    await own(one, slot + 1, 16383)
    await own(other, slot, slot)
    await one.admin.command("CLUSTER", "MEET", "127.0.0.1", String(other.port), String(other.bus))
    await works(one)
    const mutex = await opened(t, one.url("foo"))
    await assert.rejects(mutex.acquire(), (error) => {
        assert.equal(error.code, "ERR_SERVER")
        assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${one.port}.*slot is on another node`))
        return true
    })
})
