// What cannot be used is refused at once, with a code, host and port, and without a secret.
// time limit: 600 s
import { test } from "node:test"
import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { createServer } from "node:net"
import { createServer as createWebServer } from "node:http"
import { inspect } from "node:util"
import { userInfo } from "node:os"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { returnPort, takePort } from "../support/ports.mjs"
import { startProxy } from "../support/proxy.mjs"
import { Mutex, MutexError, freshId, opened, rejection } from "../conformance/world.mjs"
import { noLeftovers, pgbouncer, postgres, took, waitFor } from "./patient.mjs"

watchLeaks()
for (const name of Object.keys(process.env).filter((each) => each.startsWith("PG")))
    delete process.env[name]

/** What URLs say that do not come from a server: as those of patient.mjs. */
const PATIENT = "connect_timeout=30"

/** The error of `open()`, checked for what is true of all of them. */
async function refusal (url, { port, secrets = [], within = 20_000 } = {}) {
    const mutex = new Mutex(url)
    const refused = rejection(mutex.open())
    const time = await took(refused)
    const error = await refused
    assert.ok(time < within, `refused in time, not after ${time} ms`)
    assert.ok(error instanceof MutexError, inspect(error))
    if (port)
        assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`))
    for (const secret of secrets)
        assert.ok(!`${inspect(error)} ${JSON.stringify(error)} ${inspect(mutex)}`.includes(secret), "a secret shows")
    return error
}

/** What the server has written about what it did. */
const logOf = (server) => readFile(join(server.folder, "log"), "utf8")

test("a server that is not there, or does not answer, is ERR_CONNECT within connect_timeout", async (t) => {
    const port = await takePort()
    t.after(() => returnPort(port))
    assert.equal((await refusal(`rpm+pgsql://u:secret@127.0.0.1:${port}/db/foo?${PATIENT}`, { port, secrets: [ "secret" ] })).code, "ERR_CONNECT")
    const silent = createServer((socket) => socket.on("error", () => {}).resume())
    await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve))
    t.after(() => silent.close())
    silent.unref()
    const there = silent.address().port
    const error = await refusal(`rpm+pgsql://u:secret@127.0.0.1:${there}/db/foo?connect_timeout=0.5`, { port: there, within: 3000 })
    assert.equal(error.code, "ERR_CONNECT")
})

test("something else than PostgreSQL is ERR_SERVER", async (t) => {
    const web = createWebServer((request, response) => response.end("hello"))
    await new Promise((resolve) => web.listen(0, "127.0.0.1", resolve))
    t.after(() => web.close())
    const { port } = web.address()
    assert.equal((await refusal(`rpm+pgsql://127.0.0.1:${port}/foo?${PATIENT}`, { port })).code, "ERR_SERVER")
    assert.equal((await refusal(`rpm+pgsql://127.0.0.1:${port}/foo?tls=insecure&${PATIENT}`, { port })).code, "ERR_SERVER")
})

for (const auth of [ "scram", "md5", "password" ])
    test(`the password is sent by ${auth}; a wrong or missing one is ERR_AUTH and is not told`, async (t) => {
        const server = await postgres(t, { password: "se%cr/et", auth })
        const mutex = await opened(t, server.url("foo"))
        await mutex.acquire()
        await mutex.release()
        const { port } = server
        const secrets = [ "wrong-word" ]
        assert.equal((await refusal(server.url("foo", {}, { password: "wrong-word" }), { port, secrets })).code, "ERR_AUTH")
        assert.equal((await refusal(server.url("foo", {}, { password: undefined }), { port })).code, "ERR_AUTH")
    })

test("without a user in the URL it is PGUSER, with PGPASSWORD, and then the user of the process", async (t) => {
    const server = await postgres(t, { password: true })
    t.after(() => {
        delete process.env.PGUSER
        delete process.env.PGPASSWORD
    })
    const url = server.url("foo", {}, { user: undefined, password: undefined })
    process.env.PGPASSWORD = server.password
    const error = await refusal(url, { port: server.port, secrets: [ server.password ] })
    assert.equal(error.code, "ERR_AUTH")
    assert.match(inspect(error.cause), new RegExp(`"${userInfo().username}"`))
    process.env.PGUSER = server.user
    await (await opened(t, url)).close()
})

test("an unknown database is ERR_SERVER, a database that may not be entered ERR_AUTH", async (t) => {
    const server = await postgres(t, { password: true, database: "closed" })
    const { port, password } = server
    const unknown = await refusal(server.url("foo", {}, { database: "nowhere" }), { port, secrets: [ password ] })
    assert.equal(unknown.code, "ERR_SERVER")
    assert.match(inspect(unknown.cause), /nowhere/)
    await server.admin.query("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    assert.equal((await refusal(server.url("foo"), { port, secrets: [ password ] })).code, "ERR_AUTH")
})

test("too many connections is ERR_CONNECT, and passes", async (t) => {
    const server = await postgres(t, { password: true })
    await server.admin.query(`ALTER ROLE ${server.user} CONNECTION LIMIT 0`)
    assert.equal((await refusal(server.url("foo"), { port: server.port })).code, "ERR_CONNECT")
    // For another role, for a session that was refused counts as one of its role's until it has ended.
    await server.admin.query(`CREATE ROLE pair LOGIN PASSWORD '${server.password}' CONNECTION LIMIT 2`)
    const holder = await opened(t, server.url("foo", {}, { user: "pair" }))
    await holder.acquire()
    const waiting = await opened(t, server.url("foo", { connect_timeout: 31 }, { user: "pair" }))
    const granted = waiting.acquire()
    await waitFor(async () => (await logOf(server)).includes("too many connections for role \"pair\""), { what: "a third connection to be refused" })
    await holder.release()
    await granted
    await waiting.release()
})

test("a read-only replica is ERR_SERVER", async (t) => {
    const server = await postgres(t, { password: true, standby: true })
    const error = await refusal(server.url("foo"), { port: server.port })
    assert.equal(error.code, "ERR_SERVER")
    assert.match(error.message, /replica/)
})

test("TLS verifies the server: its CA, its dates and its name; a server without TLS is refused", async (t) => {
    const server = await postgres(t, { password: true, tls: true })
    const mutex = await opened(t, server.url("foo"))
    const other = await opened(t, server.url("foo", { connect_timeout: 31 }))
    await mutex.acquire()
    // A cancelled wait ends its connection.
    const abort = new AbortController()
    const cancelled = rejection(other.acquire({ signal: abort.signal }))
    await waitFor(async () => (await mutex.query()).pending.length === 1, { what: "the other to wait" })
    abort.abort(new Error("enough"))
    assert.equal((await cancelled).message, "enough")
    await waitFor(async () => (await mutex.query()).pending.length === 0, { what: "the wait to be over" })
    await waitFor(async () => (await logOf(server)).includes("terminating connection due to administrator command"), { what: "the server to say so" })
    await mutex.release()
    const { port } = server
    const unknown = await refusal(server.url("foo", { ca: server.tlsFiles.unknownCa }), { port, secrets: [ server.password ] })
    assert.equal(unknown.code, "ERR_TLS")
    assert.equal((await refusal(server.url("foo", { ca: undefined }), { port })).code, "ERR_TLS")
    await (await opened(t, server.url("foo", { ca: undefined, tls: "insecure" }))).close()
    for (const tls of [ "expired", "wrong-name" ]) {
        const bad = await postgres(t, { password: true, tls })
        assert.equal((await refusal(bad.url("foo"), { port: bad.port })).code, "ERR_TLS", tls)
    }
    const plain = await postgres(t, { password: true })
    assert.equal((await refusal(plain.url("foo", { tls: "insecure" }), { port: plain.port })).code, "ERR_TLS")
})

test("a server that wants a client certificate gets it, and refuses who has none", async (t) => {
    const server = await postgres(t, { password: true, tls: true, clientCert: true })
    await (await opened(t, server.url("foo"))).close()
    const error = await refusal(server.url("foo", { crt: undefined, key: undefined }), { port: server.port })
    assert.ok([ "ERR_TLS", "ERR_AUTH" ].includes(error.code), error.code)
})

test("a PgBouncer that shares sessions is refused, one that does not is used", async (t) => {
    const server = await postgres(t)
    for (const mode of [ "transaction", "statement" ]) {
        const pooler = await pgbouncer(t, server, { mode })
        for (let again = 0; again < 3; again++) {
            const error = await refusal(pooler.url(freshId()), { port: pooler.port })
            assert.equal(error.code, "ERR_SERVER")
            assert.match(error.message, /pooler/)
        }
    }
    const pooler = await pgbouncer(t, server, { mode: "session" })
    const url = pooler.url("foo")
    const [ a, b ] = [ await opened(t, url), await opened(t, server.url("foo")) ]
    await a.acquire()
    assert.equal(await b.tryAcquire(), false)
    await a.release()
    assert.equal(await b.tryAcquire(), true)
    await b.release()
})

test("a role's own time limits do not end waits or holds", async (t) => {
    const server = await postgres(t, { password: true })
    const limit = 8000 // until a session has changed them, it has no more time than this itself
    // idle_session_timeout came with version 14
    const known = await server.admin.query("SELECT name FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_session_timeout')")
    for (const [ name ] of known)
        await server.admin.query(`ALTER ROLE ${server.user} SET ${name} = ${limit}`)
    const proxy = await startProxy(server, t) // another port: clients of their own
    const [ a, b ] = [ await opened(t, server.url("foo")), await opened(t, server.url("foo", {}, proxy.port)) ]
    const lock = await a.lock()
    const error = await rejection(b.acquire({ timeout: limit + 1000 }))
    assert.equal(error.code, "ERR_TIMEOUT")
    assert.equal(lock.signal.aborted, false)
    await lock.release()
    await a.close()
    await b.close()
    await noLeftovers(server)
})
