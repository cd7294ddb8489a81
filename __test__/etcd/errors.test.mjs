// Errors of etcd servers: each with its code, host and port, in time, and without secrets.
import assert from "node:assert/strict"
import { createServer } from "node:net"
import { inspect } from "node:util"
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { base64, etcd, redis, tlsFiles } from "../support/servers.mjs"

watchLeaks()

/** What is answered fails for the answer, also on a machine that stands still for seconds. */
const PATIENT = { connect_timeout: 30 }

/** Opens and takes the lock of `url`, which must fail with `code`, naming `port` and telling nothing of `secrets`. */
async function fails (url, code, port, secrets = []) {
    const mutex = new Mutex(url)
    const start = performance.now()
    let error, took
    try {
        await mutex.open()
        await mutex.lock({ timeout: 60_000 })
        assert.fail("no error")
    }
    catch (caught) {
        error = caught
        // Where rights are missing, close() tries to clear away until its time is over.
        took = performance.now() - start
    }
    finally {
        await mutex.close().catch(() => {})
    }
    const shown = `${inspect(error, { depth: 9 })} ${error.stack} ${JSON.stringify(error)} ${error.cause?.message ?? error.cause}`
    assert.equal(error.code, code, shown)
    assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`))
    for (const secret of secrets)
        assert.ok(!shown.includes(secret), shown)
    assert.ok(took < 20_000, "no answer was waited for to the end")
    return error
}

async function works (url) {
    const mutex = new Mutex(url)
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
}

test("nobody listens there, or somebody who says nothing", async (t) => {
    const server = await etcd(t, { params: PATIENT })
    await server.stop()
    await fails(server.url("foo"), "ERR_CONNECT", server.port)
    const silent = createServer(() => {})
    await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve))
    const sockets = new Set()
    silent.on("connection", (socket) => sockets.add(socket))
    const { port } = silent.address()
    const error = await fails(`rpm+etcd://u:silent-secret@127.0.0.1:${port}/foo?connect_timeout=0.5`, "ERR_CONNECT", port, [ "silent-secret" ])
    assert.match(error.message, /^etcd at .* did not answer within /, "the etcd part itself says what was missing")
    sockets.forEach((socket) => socket.destroy())
    await new Promise((resolve) => silent.close(resolve))
})

test("what listens there is a Redis", async (t) => {
    const server = await redis(t)
    await fails(`rpm+etcd://127.0.0.1:${server.port}/foo?connect_timeout=30`, "ERR_SERVER", server.port)
})

test("no user, a wrong password, a missing right, and the right ones", async (t) => {
    const server = await etcd(t, { password: "right-secret", params: PATIENT })
    await fails(server.url("foo", {}, { password: undefined, user: undefined }), "ERR_AUTH", server.port)
    await fails(server.url("foo", {}, { password: "wrong-secret" }), "ERR_AUTH", server.port, [ "wrong-secret" ])
    await works(server.url("foo"))
    const { admin } = server
    const perm = { permType: "READWRITE", key: base64("IPC-Mutex-RPM-foo-"), range_end: base64("IPC-Mutex-RPM-foo.") }
    await admin.call("/v3/auth/role/add", { name: "foo" })
    await admin.call("/v3/auth/role/grant", { name: "foo", perm })
    await admin.call("/v3/auth/user/add", { name: "bob", password: "bob-secret" })
    await admin.call("/v3/auth/user/grant", { user: "bob", role: "foo" })
    await works(server.url("foo", {}, { user: "bob", password: "bob-secret" }))
    await fails(server.url("bar", {}, { user: "bob", password: "bob-secret" }), "ERR_AUTH", server.port, [ "bob-secret" ])
})

test("a full database refuses new locks", async (t) => {
    const server = await etcd(t, { config: [ "--quota-backend-bytes", "100000" ], params: PATIENT })
    // The server looks at what its database has on disk, where what is put arrives up to a tenth of a second later.
    let refused
    for (let at = 0; refused === undefined; at++) {
        assert.ok(at < 10_000, "100 MB fit into 100 kB")
        await server.admin.put(`fill${at}`, "x".repeat(10_000)).catch((error) => { refused = error })
    }
    assert.match(refused.message, /space exceeded/)
    assert.match((await fails(server.url("foo"), "ERR_SERVER", server.port)).message, /full/)
})

test("TLS: verified against ca; an unknown CA, an expired certificate, a wrong name and a missing file are told apart", async (t) => {
    const server = await etcd(t, { tls: true, password: true, params: PATIENT })
    await works(server.url("foo"))
    const refused = async (of, params, pattern) => assert.match((await fails(of.url("foo", params), "ERR_TLS", of.port, [ of.password ])).message, pattern)
    await refused(server, { ca: tlsFiles.unknownCa }, /unknown CA/)
    await refused(await etcd(t, { tls: "expired", params: PATIENT }), {}, /expired/)
    await refused(await etcd(t, { tls: "wrong-name", params: PATIENT }), {}, /another host name/)
    await works(server.url("foo", { tls: "insecure", ca: undefined }))
    const broken = new Mutex(server.url("foo", { ca: "/nowhere/ca.pem" }))
    await assert.rejects(broken.open(), (error) => error.code === "ERR_TLS" && error.message.includes("/nowhere/ca.pem"))
})

test("TLS: a server that wants a client certificate gets it", async (t) => {
    const server = await etcd(t, { tls: true, clientCert: true, params: PATIENT })
    await works(server.url("foo"))
    await fails(server.url("foo", { crt: undefined, key: undefined }), "ERR_TLS", server.port)
})
