// Errors of Consul servers: each with its code, host and port, in time, and without secrets.
import assert from "node:assert/strict"
import { createServer } from "node:net"
import { createServer as createWeb } from "node:http"
import { randomUUID } from "node:crypto"
import { inspect } from "node:util"
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { returnPort, takePort } from "../support/ports.mjs"
import { consul, noLeftovers, tlsFiles } from "../support/servers.mjs"

watchLeaks()

/** What is answered fails for the answer, also on a machine that stands still for seconds. */
const PATIENT = { connect_timeout: 30 }

/** Opens the lock of `url`, which must fail with `code`, naming `port` and telling nothing of `secrets`. */
async function fails (url, code, port, secrets = []) {
    const mutex = new Mutex(url)
    const start = performance.now()
    const error = await mutex.open().then(() => assert.fail("no error"), (reason) => reason)
    const shown = `${inspect(error, { depth: 9 })} ${error.stack} ${JSON.stringify(error)} ${inspect(mutex)}`
    assert.equal(error.code, code, shown)
    assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`))
    for (const secret of secrets)
        assert.ok(!shown.includes(secret), shown)
    assert.ok(performance.now() - start < 20_000, "no answer was waited for to the end")
    return error
}

async function listening (t, server) {
    const sockets = new Set()
    server.on("connection", (socket) => sockets.add(socket))
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
    t.after(() => {
        for (const socket of sockets)
            socket.destroy()
        return new Promise((resolve) => server.close(resolve))
    })
    return server.address().port
}

test("nobody there, somebody who says nothing, and somebody who is not Consul", async (t) => {
    const port = await takePort()
    t.after(() => returnPort(port))
    await fails(`rpm+consul://x:secret-token@127.0.0.1:${port}/foo?connect_timeout=30`, "ERR_CONNECT", port, [ "secret-token" ])
    const silent = await listening(t, createServer())
    const mute = await fails(`rpm+consul://127.0.0.1:${silent}/foo?connect_timeout=1`, "ERR_CONNECT", silent)
    assert.match(mute.message, /^no answer from Consul at /, "the Consul part itself says what was missing")
    const web = await listening(t, createWeb((request, response) => response.writeHead(404).end("<h1>not here</h1>")))
    await fails(`rpm+consul://127.0.0.1:${web}/foo?connect_timeout=30`, "ERR_SERVER", web)
    const page = await listening(t, createWeb((request, response) => response.end("<h1>welcome</h1>")))
    await fails(`rpm+consul://127.0.0.1:${page}/foo?connect_timeout=30`, "ERR_SERVER", page)
    const redis = await listening(t, createServer((socket) => socket.on("error", () => {}).on("data", () => socket.end("-ERR unknown command 'GET'\r\n"))))
    await fails(`rpm+consul://127.0.0.1:${redis}/foo?connect_timeout=30`, "ERR_SERVER", redis)
})

test("a cluster without a leader, and one that cannot write, are errors that pass", async (t) => {
    const leaderless = await listening(t, createWeb((request, response) => response.end("\"\"")))
    await fails(`rpm+consul://127.0.0.1:${leaderless}/foo?connect_timeout=30`, "ERR_CONNECT", leaderless)
    const failing = await listening(t, createWeb((request, response) =>
        request.url === "/v1/status/leader" ? response.end("\"127.0.0.1:8300\"") : response.writeHead(500).end("rpc error: no space left on device")))
    const error = await fails(`rpm+consul://127.0.0.1:${failing}/foo?connect_timeout=30`, "ERR_CONNECT", failing)
    assert.match(String(error.cause?.message ?? error.cause), /no space left/)
})

test("a wrong token, none at all, and one without the permissions", async (t) => {
    const server = await consul(t, { password: true, params: PATIENT })
    const wrong = randomUUID()
    const { port } = server
    assert.match((await fails(server.url("foo", {}, { password: wrong }), "ERR_AUTH", port, [ wrong ])).message, /does not know the token/)
    const cure = /key_prefix "IPC-Mutex-RPM\/" and session_prefix "", policy write/
    assert.match((await fails(`rpm+consul://127.0.0.1:${port}/foo?connect_timeout=30`, "ERR_AUTH", port)).message, cure)
    const token = randomUUID()
    const Rules = "key_prefix \"other\" { policy = \"write\" } session_prefix \"\" { policy = \"write\" }"
    await server.admin.call("PUT", "/v1/acl/policy", { Name: "other", Rules })
    await server.admin.call("PUT", "/v1/acl/token", { SecretID: token, Policies: [ { Name: "other" } ] })
    assert.match((await fails(server.url("foo", {}, { password: token }), "ERR_AUTH", port, [ token ])).message, cure)
    const enough = randomUUID()
    const Needed = "key_prefix \"IPC-Mutex-RPM/\" { policy = \"write\" } session_prefix \"\" { policy = \"write\" }"
    await server.admin.call("PUT", "/v1/acl/policy", { Name: "needed", Rules: Needed })
    await server.admin.call("PUT", "/v1/acl/token", { SecretID: enough, Policies: [ { Name: "needed" } ] })
    const mutex = new Mutex(server.url("foo", {}, { password: enough }))
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
})

test("TLS: verified against ca; an unknown CA, an expired certificate and a wrong name are told apart", async (t) => {
    const server = await consul(t, { tls: true, params: PATIENT })
    const mutex = new Mutex(server.url("foo"))
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
    await noLeftovers(server, { timeout: 40_000 }) // a session whose end came too late for close() runs out by itself
    const refused = async (of, params, pattern) =>
        assert.match((await fails(of.url("foo", params), "ERR_TLS", of.port)).message, pattern)
    await refused(server, { ca: tlsFiles.unknownCa }, /unknown CA/)
    await refused(await consul(t, { tls: "expired", params: PATIENT }), {}, /expired/)
    await refused(await consul(t, { tls: "wrong-name", params: PATIENT }), {}, /another host name/)
    const lax = new Mutex(server.url("foo", { tls: "insecure", ca: undefined }))
    await lax.open()
    await lax.close()
    const plain = await consul(t)
    await fails(`rpm+consul://127.0.0.1:${plain.port}/foo?connect_timeout=30&tls=true&ca=${encodeURIComponent(tlsFiles.ca)}`, "ERR_TLS", plain.port)
    const error = await fails(`rpm+consul://127.0.0.1:${server.port}/foo?connect_timeout=30`, "ERR_TLS", server.port)
    assert.match(error.message, /speaks TLS only/)
})

test("TLS: a server that wants a client certificate gets it", async (t) => {
    const server = await consul(t, { tls: true, clientCert: true, params: PATIENT })
    const mutex = new Mutex(server.url("foo"))
    await mutex.open()
    await (await mutex.lock()).release()
    await mutex.close()
    await fails(server.url("foo", { crt: undefined, key: undefined }), "ERR_TLS", server.port)
})

test("a Unix socket in place of the host", async (t) => {
    const server = await consul(t)
    const mutex = new Mutex(`rpm+consul://${encodeURIComponent(`${server.folder}/s0`)}/foo`, { label: "by socket" })
    await mutex.open()
    const lock = await mutex.lock()
    assert.equal((await mutex.query()).held[0].label, "by socket")
    await lock.release()
    await mutex.close()
    const nowhere = new Mutex(`rpm+consul://${encodeURIComponent(`${server.folder}/nowhere`)}/foo`)
    await assert.rejects(nowhere.open(), (error) => error.code === "ERR_CONNECT" && error.message.includes(`${server.folder}/nowhere`))
})
