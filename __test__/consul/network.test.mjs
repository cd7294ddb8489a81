// What a cut, silent or lying network does to locks on Consul, whose shortest time to live is 10 seconds. A little longer
// than that, because a machine that stands still for half of it loses holds rightly.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testNetwork } from "../servers/network.mjs"
import { opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { consul } from "../support/servers.mjs"

watchLeaks()

testNetwork(consul, { ttl: 12 })

test("close() has cleared everything away when it resolves, also where each answer takes more than a second", async (t) => {
    const server = await consul(t)
    const proxy = await startProxy(server, t)
    const mutex = await opened(t, server.url("foo", { ttl: 120, connect_timeout: 60 }, proxy.port)) // nothing runs out by itself
    await (await mutex.lock()).release()
    proxy.delay(600)
    await mutex.close()
    assert.deepEqual(await server.admin.traces(), [])
})
