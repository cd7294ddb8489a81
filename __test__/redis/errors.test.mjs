// Errors of Redis servers: each with its code, host and port, in time, and without secrets.
import assert from "node:assert/strict"
import { createServer } from "node:net"
import { createServer as createWeb } from "node:http"
import { execFile } from "node:child_process"
import { createRequire } from "node:module"
import { test } from "node:test"
import { inspect, promisify } from "node:util"
import { LockManager, Mutex } from "../../index.mjs"
import { pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { redis, tlsFiles } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** Opens and takes the lock of `url`, which must fail with `code`, naming `port` and telling nothing of `secrets`. */
async function fails (url, code, port, secrets = []) {
    const mutex = new Mutex(url)
    const start = performance.now()
    let error
    try {
        await mutex.open()
        await mutex.lock({ timeout: 60_000 })
        assert.fail("no error")
    }
    catch (caught) {
        error = caught
    }
    finally {
        await mutex.close().catch(() => {})
    }
    const shown = `${inspect(error, { depth: 9 })} ${error.stack} ${JSON.stringify(error)} ${error.message} ${error.cause?.message ?? error.cause}`
    assert.equal(error.code, code, shown)
    assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`))
    for (const secret of secrets)
        assert.ok(!shown.includes(secret), shown)
    assert.ok(performance.now() - start < 30_000)
    return error
}

async function listening (t, server) {
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
    const sockets = new Set()
    server.on("connection", (socket) => {
        sockets.add(socket)
        socket.on("error", () => {}) // a client may leave by a reset
    })
    t.after(() => new Promise((resolve) => {
        server.close(resolve)
        for (const socket of sockets)
            socket.destroy()
    }))
    return server.address().port
}

test("nobody listens there", async (t) => {
    const server = await redis(t)
    await server.stop()
    const error = await fails(server.url("foo"), "ERR_CONNECT", server.port)
    assert.ok(error.cause)
})

test("somebody listens there and says nothing", async (t) => {
    const port = await listening(t, createServer(() => {}))
    await fails(`rpm+redis://x:silent-secret@127.0.0.1:${port}/foo?connect_timeout=0.5`, "ERR_CONNECT", port, [ "silent-secret" ])
})

test("what listens there is a web server", async (t) => {
    const port = await listening(t, createWeb((_, response) => response.end("hello")))
    await fails(`rpm+redis://x:web-secret@127.0.0.1:${port}/foo`, "ERR_SERVER", port, [ "web-secret" ])
})

test("no password, a wrong password, a wrong user, and the right one", async (t) => {
    const server = await redis(t, { password: "right-secret" })
    await fails(server.url("foo", {}, { password: undefined, user: undefined }), "ERR_AUTH", server.port)
    await fails(server.url("foo", {}, { password: "wrong-secret" }), "ERR_AUTH", server.port, [ "wrong-secret" ])
    await fails(server.url("foo", { user: "nobody" }), "ERR_AUTH", server.port, [ "right-secret" ])
    const mutex = new Mutex(server.url("foo"))
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
})

test("an ACL user is named by the option user, and lacks what it was not given", async (t) => {
    const server = await redis(t, { user: "alice", password: "right-secret" })
    const mutex = new Mutex(server.url("foo"))
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
    await server.admin.command("ACL", "SETUSER", "bob", "on", ">bob-secret", "~foo/*", "+@all", "-@scripting")
    await fails(server.url("foo", { user: "bob" }, { password: "bob-secret" }), "ERR_AUTH", server.port, [ "bob-secret" ])
})

test("an ACL user with the documented rights can do everything", async (t) => {
    const server = await redis(t)
    await server.admin.command("ACL", "SETUSER", "lock", "on", ">lock-secret", "~*lock.IPC-Mutex-rpm*", "resetchannels", "&IPC-Mutex-rpm:*",
        "+hello", "+auth", "+client|setname", "+select", "+ping", "+eval", "+evalsha", "+subscribe", "+publish", "+pubsub|numsub",
        "+time", "+get", "+set", "+del", "+exists", "+pttl", "+pexpire", "+zadd", "+zrem", "+zscore", "+zrange", "+zrevrange",
        "+zrangebyscore", "+hget", "+hset", "+hdel", "+scan")
    const url = server.url("foo", { user: "lock" }, { user: "x", password: "lock-secret" })
    const other = server.url("foo")
    const [ a, b ] = [ new Mutex(url), new Mutex(other) ]
    await a.open()
    await b.open()
    const reader = await a.lock({ shared: true })
    const waiting = b.lock()
    await pending(a, 1)
    const locks = new LockManager(url.replace("/foo", "/"))
    assert.deepEqual((await locks.query()).held.map(({ name, mode }) => [ name, mode ]), [ [ "foo", "shared" ] ])
    await locks.close()
    await reader.release()
    const back = a.lock()
    await pending(a, 1)
    await (await waiting).release()
    await (await back).release()
    await a.close()
    await b.close()
})

test("a waiter whose user lacks a permission for a moment goes on waiting", async (t) => {
    const server = await redis(t, { password: true })
    await server.admin.command("ACL", "SETUSER", "lock", "on", ">lock-secret", "~*", "&*", "+@all")
    const [ near, far ] = [ new Mutex(server.url("foo")), new Mutex(server.url("foo", { user: "lock", ttl: 60 }).replace(server.password, "lock-secret")) ]
    await near.open()
    await far.open()
    const lock = await near.lock()
    const waiting = far.lock()
    await pending(near, 1)
    await server.admin.command("ACL", "SETUSER", "lock", "-evalsha", "-eval")
    await server.admin.command("ACL", "LOG", "RESET")
    await server.admin.command("CLIENT", "KILL", "USER", "lock")
    await waitFor(async () => (await server.admin.command("ACL", "LOG")).length > 0, { what: "a refusal" })
    await server.admin.command("ACL", "SETUSER", "lock", "+@all")
    await lock.release()
    await (await waiting).release()
    await near.close()
    await far.close()
})

test("a database that is there, and one that is not", async (t) => {
    const server = await redis(t)
    const mutex = new Mutex(server.url("foo", { db: 3 }))
    await mutex.open()
    await mutex.acquire()
    assert.deepEqual((await server.admin.keys()).map(({ db }) => db), [ 3 ])
    await mutex.release()
    await mutex.close()
    await fails(server.url("foo", { db: 99 }), "ERR_SERVER", server.port)
})

test("a read-only replica", async (t) => {
    const server = await redis(t, { config: [ "replicaof 127.0.0.1 1" ] })
    assert.match((await fails(server.url("foo"), "ERR_SERVER", server.port)).message, /replica/)
})

test("a server that is out of memory refuses new locks, and still lets go of old ones", async (t) => {
    const server = await redis(t)
    const mutex = new Mutex(server.url("foo"))
    await mutex.open()
    const lock = await mutex.lock()
    await server.admin.command("CONFIG", "SET", "maxmemory", "1")
    assert.match((await fails(server.url("bar"), "ERR_SERVER", server.port)).message, /memory/)
    await lock.release()
    await mutex.close()
})

test("a server that is out of memory keeps what is held and awaited", async (t) => {
    const server = await redis(t)
    const at = async (ttl) => {
        const mutex = new Mutex(server.url("foo", { ttl }))
        await mutex.open()
        return mutex
    }
    const [ reader, later, longer, writer ] = [ await at(20), await at(20), await at(90), await at(60) ]
    const locks = [ await reader.lock({ shared: true }), await longer.lock({ shared: true }) ]
    const written = writer.lock()
    await pending(writer, 1)
    const waiting = later.lock({ shared: true })
    await pending(writer, 2)
    await server.admin.command("CONFIG", "SET", "maxmemory", "1")
    // Nobody but the two of ttl 20 renews within this test.
    for (const key of [ "readers", "beats" ]) {
        const times = async () => await server.admin.command("ZRANGE", `{foo/lock.IPC-Mutex-rpm}:${key}`, 0, -1, "WITHSCORES")
        const before = await times()
        await waitFor(async () => (await times()).join() !== before.join(), { what: `${key} to be renewed` })
    }
    await server.admin.command("CONFIG", "SET", "maxmemory", "0")
    for (const lock of locks)
        await lock.release()
    await (await written).release()
    await (await waiting).release()
    for (const mutex of [ reader, later, longer, writer ])
        await mutex.close()
})

test("a server that cannot write its disk", async (t) => {
    const server = await redis(t)
    await server.admin.command("CONFIG", "SET", "min-replicas-to-write", "1")
    await fails(server.url("foo"), "ERR_SERVER", server.port)
})

test("TLS: NODE_EXTRA_CA_CERTS adds to the system's roots, and a file that cannot be used changes nothing", async (t) => {
    const server = await redis(t, { tls: true, password: true })
    const program = `const { Mutex } = require(${JSON.stringify(createRequire(import.meta.url).resolve("../../index.js"))})
        const mutex = new Mutex(process.env.MUTEX_URL)
        mutex.open().then(() => mutex.close()).then(() => "open", (error) => error.code).then(console.log)`
    const outcome = async (extra) => {
        const env = { ...process.env, NODE_EXTRA_CA_CERTS: extra, MUTEX_URL: server.url("foo", { ca: undefined, tls: true }) }
        return (await promisify(execFile)(process.execPath, [ "-e", program ], { env })).stdout.trim()
    }
    assert.equal(await outcome(tlsFiles.ca), "open")
    assert.equal(await outcome(tlsFiles.unknownCa), "ERR_TLS")
    assert.equal(await outcome("/nowhere/ca.pem"), "ERR_TLS")
})

test("TLS: verified against ca; an unknown CA, an expired certificate, a wrong name and a missing file are told apart", async (t) => {
    const server = await redis(t, { tls: true, password: true })
    const mutex = new Mutex(server.url("foo"))
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
    const refused = async (of, params, pattern) => assert.match((await fails(of.url("foo", params), "ERR_TLS", of.port, [ of.password ])).message, pattern)
    await refused(server, { ca: tlsFiles.unknownCa }, /unknown CA/)
    await refused(await redis(t, { tls: "expired", password: true }), {}, /expired/)
    await refused(await redis(t, { tls: "wrong-name", password: true }), {}, /another host name/)
    const lax = new Mutex(server.url("foo", { tls: "insecure", ca: undefined }))
    await lax.open()
    await lax.close()
    const broken = new Mutex(server.url("foo", { ca: "/nowhere/ca.pem" }))
    await assert.rejects(broken.open(), (error) => error.code === "ERR_TLS" && error.message.includes("/nowhere/ca.pem"))
    const plain = await redis(t)
    // Redis waits for the end of what it takes for a command, which looks like a dead network
    const silent = await fails(`${plain.url("foo")}?tls=true&ca=${encodeURIComponent(tlsFiles.ca)}&connect_timeout=3`, "ERR_CONNECT", plain.port)
    assert.match(silent.message, /TLS/)
})

test("TLS: a server that wants a client certificate gets it", async (t) => {
    const server = await redis(t, { tls: true, clientCert: true })
    const mutex = new Mutex(server.url("foo"))
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
    await fails(server.url("foo", { crt: undefined, key: undefined }), "ERR_TLS", server.port)
})

test("a Unix socket in place of the host", async (t) => {
    const server = await redis(t, { password: true })
    const mutex = new Mutex(`rpm+redis://x:${server.password}@${encodeURIComponent(`${server.folder}/s`)}/foo`)
    await mutex.open()
    await (await mutex.lock()).release()
    assert.deepEqual(await mutex.query(), { held: [], pending: [] })
    await mutex.close()
    const nowhere = new Mutex(`rpm+redis://${encodeURIComponent(`${server.folder}/nowhere`)}/foo`)
    await assert.rejects(nowhere.open(), (error) => error.code === "ERR_CONNECT" && error.message.includes(`${server.folder}/nowhere`))
})

test("a user before the colon, which is ignored, is named when the server refuses", async (t) => {
    const server = await redis(t, { password: true })
    const mutex = new Mutex(`rpm+redis://app:wrong-hunter2@127.0.0.1:${server.port}/foo`)
    await assert.rejects(mutex.open(), (error) => error.code === "ERR_AUTH" && /write user=<name> in the query/.test(error.message))
})
