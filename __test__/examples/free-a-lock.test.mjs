// The commands of docs/observability.md by which an operator frees a lock do that: the holder is told, and a waiter gets the lock.
import assert from "node:assert/strict"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { hostname } from "node:os"
import { test } from "node:test"
import Mutex from "../../index.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul, etcd, postgres, redis } from "../support/servers.mjs"

watchLeaks()

const page = readFileSync(new URL("../../docs/observability.md", import.meta.url), "utf8")

/** The command of the table for a server, with what the reader fills in. */
function command (server, values) {
    const [ , text ] = page.match(new RegExp(`^\\| ${server} \\| \`([^\`]+)\``, "m"))
    return text.replace(/<(\w+)>/g, (_, name) => values[name])
}

const SERVERS = {
    Redis: { start: redis, run: ({ admin }, id) => admin.command(...command("Redis", { id }).split(" ")) },
    PostgreSQL: { start: postgres, run: ({ admin }) => admin.query(command("PostgreSQL", { host: hostname(), pid: process.pid })) },
    Consul: {
        start: consul,
        async run ({ admin }, id) {
            const key = page.match(/that locks `([^`]+)`/)[1].replace("<id>", id)
            const [ { Session: session } ] = await admin.call("GET", `/v1/kv/${key}`)
            await admin.call(...command("Consul", { session }).split(" "))
        }
    },
    etcd: { start: etcd, run: ({ admin }, id) => admin.remove(command("etcd", { id }).split(" ")[1]) }
}

for (const [ name, { start, run } ] of Object.entries(SERVERS))
    test(`${name}: the command ends the hold, and the next one gets the lock`, async (t) => {
        const server = await start(t)
        const mutex = new Mutex(server.url("stuck", { connect_timeout: 30 }))
        t.after(() => mutex.close())
        await mutex.open()
        const lock = await mutex.lock()
        const lost = once(lock.signal, "abort")
        const waiting = mutex.lock()
        await run(server, "stuck")
        await lost
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        const next = await waiting
        assert.ok(next.token > lock.token)
        await next.release()
        await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
    })
