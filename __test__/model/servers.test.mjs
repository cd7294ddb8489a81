import { test } from "node:test"
import assert from "node:assert/strict"
import { startProxy } from "../support/proxy.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, servers } from "../support/servers.mjs"
import { walk } from "./walk.mjs"

watchLeaks()

/** How every hold is ended at each server, behind the backs of the holders. */
const LOSE = {
    pgsql: (server) => server.admin.terminate(),
    consul: async (server) => {
        for (const session of await server.admin.sessions())
            await server.admin.destroy(session.ID)
    },
    etcd: async (server) => {
        for (const lease of await server.admin.leases())
            // the end of one may have ended another
            await server.admin.revoke(lease).catch((error) => assert.match(error.message, /not found/))
    },
    redis: (server) => server.admin.command("FLUSHALL")
}

for (const [ name, start ] of Object.entries(servers))
    test(`${name}: 2,000 random operations do what the reference says`, async (t) => {
        const server = await start(t, { password: true })
        // Consul would keep a lost lock closed for a moment, of which the reference knows nothing
        const params = name === "consul" ? { lockdelay: 0 } : {}
        const proxy = await startProxy(server, t)
        // All at one go, as the reference sees it: what is ended session by session must not be taken anew in between.
        const lose = async () => {
            proxy.freeze()
            await LOSE[name](server)
            await proxy.pass()
        }
        const counts = await walk({ name, model: "rpm", url: (id) => server.url(id, params, proxy.port), lose }, 2_000)
        for (const [ kind, count ] of Object.entries(counts))
            assert.ok(count > 0, kind)
        await noLeftovers(server, { ignore: /:token$/ })
    })
