// Many locks of one process at once on etcd, which travel together and are judged one by one.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { base64, etcd, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

const COUNT = 100
/** So long that a machine which stands still for seconds neither loses a hold nor sends anything twice. */
const params = { ttl: 30, connect_timeout: 30 }
/** A lease whose end came too late for close() runs out by itself. */
const IN_TIME = { timeout: 60_000 }
const ids = Array.from({ length: COUNT }, (_, at) => `foo${at}`)

async function openAll (server, params, where) {
    const mutexes = ids.map((id) => new Mutex(server.url(id, params, where)))
    await Promise.all(mutexes.map((mutex) => mutex.open()))
    // The first one opens the session.
    await (await mutexes[0].lock()).release()
    return mutexes
}

const lockAll = (mutexes) => Promise.all(mutexes.map((mutex) => mutex.lock()))
const releaseAll = (locks) => Promise.all(locks.map((lock) => lock.release()))
const closeAll = (mutexes) => Promise.all(mutexes.map((mutex) => mutex.close()))

test("many locks at once are written together, and each has a token that grows", async (t) => {
    const server = await etcd(t, { params })
    const mutexes = await openAll(server)
    let last = mutexes.map(() => 0n)
    const revisions = []
    for (let round = 0; round < 10; round++) {
        const locks = await lockAll(mutexes)
        revisions.push(new Set((await server.admin.keys()).map(({ modRevision }) => modRevision)).size)
        const tokens = locks.map(({ token }) => BigInt(token))
        assert.ok(tokens.every((token, at) => token > last[at]), `${tokens} after ${last}`)
        last = tokens
        await releaseAll(locks)
        assert.deepEqual(await server.admin.keys(), [])
    }
    // A thread that asks so slowly that the other one has each request sent before it hears of the next is no fault.
    assert.ok(Math.min(...revisions) <= COUNT / 4, `revisions in each round: ${revisions}`)
    await closeAll(mutexes)
    await noLeftovers(server, IN_TIME)
})

test("a server that takes few operations in one transaction", async (t) => {
    const server = await etcd(t, { config: [ "--max-txn-ops", "12" ], params })
    const mutexes = await openAll(server)
    for (let round = 0; round < 5; round++)
        await releaseAll(await lockAll(mutexes))
    await closeAll(mutexes)
    await noLeftovers(server, IN_TIME)
})

test("a user's rights count for each lock by itself", async (t) => {
    const server = await etcd(t, { password: "right-secret", params })
    const { admin } = server
    await admin.call("/v3/auth/role/add", { name: "few" })
    const perm = { permType: "READWRITE", key: base64("IPC-Mutex-RPM-foo0-"), range_end: base64("IPC-Mutex-RPM-foo0.") }
    await admin.call("/v3/auth/role/grant", { name: "few", perm })
    await admin.call("/v3/auth/user/add", { name: "bob", password: "bob-secret" })
    await admin.call("/v3/auth/user/grant", { user: "bob", role: "few" })
    const mutexes = await openAll(server, {}, { user: "bob", password: "bob-secret" })
    const [ first, ...others ] = await Promise.allSettled(mutexes.map((mutex) => mutex.lock()))
    await first.value.release()
    for (const { reason } of others)
        assert.equal(reason?.code, "ERR_AUTH")
    await closeAll(mutexes)
    assert.deepEqual(await admin.keys(), [])
})

test("a full database refuses new locks and lets go of those that are held", async (t) => {
    const server = await etcd(t, { config: [ "--quota-backend-bytes", "100000" ], params })
    const mutexes = await openAll(server)
    const locks = await lockAll(mutexes.slice(0, COUNT / 2))
    let refused
    for (let at = 0; refused === undefined; at++) {
        assert.ok(at < 10_000, "100 MB fit into 100 kB")
        await server.admin.put(`fill${at}`, "x".repeat(10_000)).catch((error) => { refused = error })
    }
    const rest = mutexes.slice(COUNT / 2)
    for (const { reason } of await Promise.allSettled([ ...rest.map((mutex) => mutex.lock()), releaseAll(locks) ]).then((all) => all.slice(0, -1)))
        assert.match(`${reason?.code} ${reason?.message}`, /ERR_SERVER.* full/)
    assert.deepEqual((await server.admin.keys()).filter(({ key }) => key.startsWith("IPC-Mutex")), [])
    await closeAll(mutexes)
})

test("a lease that ended between the turns is replaced for all", async (t) => {
    const server = await etcd(t, { params })
    const mutexes = await openAll(server)
    const kept = await lockAll(mutexes.slice(0, COUNT / 2))
    const [ lease ] = await server.admin.leases()
    await server.admin.revoke(lease)
    // Releases of what is gone and requests that carry the lease, in one turn.
    const [ , locks ] = await Promise.all([ Promise.allSettled(kept.map((lock) => lock.release())), lockAll(mutexes.slice(COUNT / 2)) ])
    assert.ok((await server.admin.keys()).every((key) => key.lease !== lease))
    assert.equal((await server.admin.keys()).length, COUNT / 2)
    await releaseAll(locks)
    await closeAll(mutexes)
    await noLeftovers(server, IN_TIME)
})

for (const lost of [ "asked for", "released" ])
    test(`many locks are ${lost} once and for all, though their common answer is lost`, async (t) => {
        const server = await etcd(t, { params })
        const proxy = await startProxy(server, t)
        const mutexes = await openAll(server, {}, proxy.port)
        const held = async () => (await server.admin.keys()).length
        const asking = lost === "asked for"
        const before = asking ? undefined : await lockAll(mutexes)
        proxy.dropReplies()
        const answered = asking ? lockAll(mutexes) : releaseAll(before)
        const wanted = asking ? COUNT : 0
        await waitFor(async () => await held() === wanted, { timeout: 20_000, what: `${wanted} to be held at the server` })
        await proxy.pass()
        const locks = await answered
        assert.equal(await held(), wanted)
        if (asking) {
            assert.ok(locks.every(({ signal }) => !signal.aborted))
            await releaseAll(locks)
            const { held: left } = await mutexes[COUNT - 1].query()
            assert.deepEqual(left, [])
            await releaseAll(await lockAll(mutexes))
        }
        await closeAll(mutexes)
        await noLeftovers(server, IN_TIME)
    })
