// Old processes (1.1.2) and new ones on one Consul lock.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testLegacy, testLegacyCrowd } from "../servers/legacy.mjs"
import { opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { consul } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** A machine that stands still for seconds neither loses a hold nor gives an answer up. */
const start = (t) => consul(t, { params: { ttl: 14, connect_timeout: 30 } })

testLegacy(start)
testLegacyCrowd(start, { rounds: 2, left: /IPC-Mutex-RPM\/foo\/leader/ })

test("an old process that waits never finds the leader key gone", async (t) => {
    const server = await start(t)
    const mutex = await opened(t, server.url("foo", { ttl: 120 })) // which tidies up with its renewals
    const other = legacy(server)
    const lock = await mutex.lock()
    const waiting = other.acquire("foo")
    await waitFor(async () => (await server.admin.sessions()).some(({ Name }) => Name === "IPC-Mutex-RPM/foo/session"), { what: "the old process" })
    await lock.release()
    await mutex.close()
    const leader = async () => (await server.admin.keys()).filter(({ key }) => key === "IPC-Mutex-RPM/foo/leader").length
    assert.equal(await leader(), 1)
    await waiting
    await other.release("foo")
    await other.close()
})
