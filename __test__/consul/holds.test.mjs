// Holds on Consul: what keeps them, what ends them, and who is told. Consul's shortest time to live is 10 seconds, so
// these tests run side by side, each with a lock of its own.
import assert from "node:assert/strict"
import { test } from "node:test"
import { holds, testRestart } from "../servers/holds.mjs"
import { holder, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

/** A little longer than that, because a machine that stands still for half of it loses holds rightly. */
const TTL = 12_000

watchLeaks()

test("holds on Consul", { concurrency: true }, async (t) => {
    const server = await consul(t, { params: { ttl: TTL / 1000, connect_timeout: 30 } })
    await Promise.all([
        ...Object.entries(holds(TTL / 1000)).map(([ name, body ], index) => t.test(name, (t) => body(t, server.url(`common-${index}`)))),
        t.test("a killed reader is cleaned up, and the others go on reading until they leave", async (t) => {
            const url = server.url("reader")
            const child = await holder(t, url, { shared: true }) // it came first, and made the readers' session
            const mutex = await opened(t, url)
            const reader = await mutex.lock({ shared: true })
            const waiting = mutex.lock()
            await pending(mutex, 1)
            await child.kill("SIGKILL")
            await waitFor(async () => (await mutex.query()).held.length === 1, { timeout: TTL * 4, what: "one reader is gone" })
            assert.equal(reader.signal.aborted, false)
            assert.equal(await (await opened(t, url)).tryAcquire(), false)
            await reader.release()
            await (await waiting).release()
            await mutex.close()
        }),
        t.test("a holder whose session is destroyed is told at once, and its process goes on with a new one", async (t) => {
            // Mutexes with the same options share their sessions, and the tests beside this one must keep theirs. The next
            // renewal would come after 20 s.
            const mutex = await opened(t, server.url("destroyed", { ttl: 40 }))
            const lock = await mutex.lock()
            const { session } = (await server.admin.keys()).find(({ key }) => key === "IPC-Mutex-RPM/destroyed/leader")
            await server.admin.destroy(session)
            await waitFor(() => lock.signal.aborted, { timeout: 15_000, what: "the loss to be told" })
            assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
            await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
            const next = await mutex.lock()
            assert.ok(next.token > lock.token)
            await next.release()
        }),
        t.test("a holder whose leader key is deleted is told, and the next one follows", async (t) => {
            const mutex = await opened(t, server.url("deleted"))
            const lock = await mutex.lock()
            await server.admin.remove("IPC-Mutex-RPM/deleted/leader")
            await waitFor(() => lock.signal.aborted, { timeout: 2 * TTL, what: "the loss to be told" })
            assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
            const next = await mutex.lock()
            await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
            assert.ok(next.token > lock.token)
            await next.release()
        })
    ])
    await noLeftovers(server, { timeout: 100_000 }) // what the killed ones left runs out by itself
})

testRestart((t) => consul(t, { params: { ttl: 60, connect_timeout: 30 } })) // no matter how long Consul takes to be back
