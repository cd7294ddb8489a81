// Users, roles and tokens of etcd that change while locks are held, waited for and given back.
import assert from "node:assert/strict"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { test } from "node:test"
import { opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { base64, etcd, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** So long that a machine which stands still for seconds loses no hold. */
const params = { ttl: 8, connect_timeout: 30 }
const certs = fileURLToPath(new URL("../support/certs", import.meta.url))
const JWT = `jwt,pub-key=${join(certs, "server.pem")},priv-key=${join(certs, "server-key.pem")},sign-method=ES256,ttl=10m`

const keysOf = (id) => ({ key: base64(`IPC-Mutex-RPM-${id}-`), range_end: base64(`IPC-Mutex-RPM-${id}.`) })
const SECRET = "bob-secret"
const AS_BOB = { user: "bob", password: SECRET }

/** A server with user bob, and his rights on locks of these names to give and to take away. */
async function withBob (t, ...ids) {
    const server = await etcd(t, { password: true, params })
    const { admin } = server
    const grant = (id) => admin.call("/v3/auth/role/grant", { name: "few", perm: { permType: "READWRITE", ...keysOf(id) } })
    const revoke = (id) => admin.call("/v3/auth/role/revoke", { role: "few", ...keysOf(id) })
    await admin.call("/v3/auth/role/add", { name: "few" })
    await admin.call("/v3/auth/user/add", { name: "bob", password: SECRET })
    await admin.call("/v3/auth/user/grant", { user: "bob", role: "few" })
    for (const id of ids)
        await grant(id)
    return { server, grant, revoke }
}

for (const [ kind, config ] of [ [ "signed", [ "--auth-token", JWT ] ], [ "simple", [] ] ])
    test(`changes of users and roles are nobody's concern, with ${kind} tokens`, async (t) => {
        const server = await etcd(t, { password: true, config, params })
        const url = server.url("foo")
        const holder = await opened(t, url)
        const waiter = await opened(t, server.url("foo", { connect_timeout: 31 }))
        const idle = await opened(t, server.url("bar"))
        const lock = await holder.lock()
        const waiting = waiter.lock()
        await pending(holder, 1)
        const { admin } = server
        for (const name of [ "one", "two", "three" ]) {
            await admin.call("/v3/auth/role/add", { name })
            await admin.call("/v3/auth/user/add", { name, password: "x" })
            await admin.call("/v3/auth/user/grant", { user: name, role: name })
            await (await idle.lock()).release()
            assert.equal(await holder.tryAcquire(), false)
        }
        // Longer than a lease: it is renewed with the new token as well.
        const end = performance.now() + 1500 * params.ttl
        await waitFor(() => lock.signal.aborted || performance.now() > end, { timeout: 60_000 })
        assert.equal(lock.signal.aborted, false)
        await lock.release()
        await (await waiting).release()
        for (const mutex of [ holder, waiter, idle ])
            await mutex.close()
        await noLeftovers(server, { timeout: 60_000 })
    })

test("a lock that is given back while its user has no right to do so is free when the right is back", async (t) => {
    const { server, grant, revoke } = await withBob(t, "foo")
    for (const shared of [ false, true ]) {
        // A release is tried for so long before it is told.
        const mutex = await opened(t, server.url("foo", { connect_timeout: 10 }, AS_BOB))
        const other = await opened(t, server.url("foo"))
        const lock = await mutex.lock({ shared })
        const waiting = other.lock()
        await pending(other, 1)
        await revoke("foo")
        await assert.rejects(lock.release(), { code: "ERR_AUTH" })
        await grant("foo")
        await (await waiting).release()
        await (await mutex.lock({ shared })).release()
        await mutex.close()
        await other.close()
    }
    await noLeftovers(server, { timeout: 60_000 })
})

test("a waiter that was refused for want of rights leaves no place in the queue when they are back", async (t) => {
    const { server, grant, revoke } = await withBob(t, "foo")
    for (const shared of [ false, true ]) {
        const mutex = await opened(t, server.url("foo", {}, AS_BOB))
        const other = await opened(t, server.url("foo"))
        const lock = await other.lock()
        const waiting = assert.rejects(mutex.lock({ shared }), { code: "ERR_AUTH" })
        await pending(other, 1)
        await revoke("foo")
        await server.admin.remove("IPC-Mutex-RPM-foo-lock") // wakes it
        await waiting
        assert.equal((await other.query()).pending.length, 1)
        await grant("foo")
        await pending(other, 0)
        await lock.release().catch(() => {})
        await (await other.lock()).release()
        await mutex.close()
        await other.close()
    }
    await noLeftovers(server, { timeout: 60_000 })
})

test("rights on one lock that are taken away cost no other lock, and in the end that one", async (t) => {
    const { server, revoke } = await withBob(t, "good", "bad", "fine")
    const [ good, bad, fine ] = await Promise.all([ "good", "bad", "fine" ].map((id) => opened(t, server.url(id, {}, AS_BOB))))
    const locks = [ await good.lock(), await fine.lock({ shared: true }) ]
    const lost = await bad.lock()
    await revoke("bad")
    await waitFor(() => lost.signal.aborted, { timeout: 60_000, what: "the hold that cannot be proven to be lost" })
    const end = performance.now() + 1000 * params.ttl
    await waitFor(() => performance.now() > end || locks.some(({ signal }) => signal.aborted), { timeout: 60_000 })
    for (const lock of locks) {
        assert.equal(lock.signal.aborted, false)
        await lock.release()
    }
    for (const mutex of [ good, bad, fine ])
        await mutex.close()
})
