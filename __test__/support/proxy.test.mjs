import test from "node:test"
import assert from "node:assert/strict"
import { connect, createServer } from "node:net"
import { once } from "node:events"
import { startProxy } from "./proxy.mjs"
import { waitFor } from "./waiting.mjs"
import { watchLeaks } from "./leaks.mjs"

watchLeaks()

/** A server that sends back what it gets, and what it saw. */
async function echo (t) {
    const seen = { data: "", sockets: new Set(), port: undefined }
    const server = createServer((socket) => {
        seen.sockets.add(socket)
        socket.on("data", (data) => {
            seen.data += data
            socket.write(data)
        })
        socket.on("error", () => {})
        socket.on("close", () => seen.sockets.delete(socket))
    }).listen(0, "127.0.0.1")
    await once(server, "listening")
    t.after(() => {
        for (const socket of seen.sockets)
            socket.destroy()
        server.close()
    })
    seen.port = server.address().port
    return seen
}

async function client (t, port) {
    const socket = connect(port, "127.0.0.1")
    const seen = { socket, data: "", error: undefined, closed: false }
    socket.on("data", (data) => { seen.data += data })
    socket.on("error", (error) => { seen.error = error.code })
    socket.on("close", () => { seen.closed = true })
    t.after(() => socket.destroy())
    await Promise.race([ once(socket, "connect"), once(socket, "close") ]).catch(() => {})
    return seen
}

async function asked (seen, text) {
    seen.socket.write(text)
    await waitFor(() => seen.data.endsWith(text), { what: "the echo" })
}

test("what is sent passes both ways, and is counted", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    const one = await client(t, proxy.port)
    await asked(one, "hello")
    assert.equal(server.data, "hello")
    assert.deepEqual(proxy.bytes, { requests: 5, replies: 5, lost: 0 })
    assert.equal(proxy.connections(), 1)
    one.socket.end()
    await waitFor(() => one.closed || server.sockets.size === 0, { what: "the end to pass" })
    assert.equal(one.error, undefined)
})

test("a reset reaches client and server, and the next connection passes", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    const one = await client(t, proxy.port)
    await asked(one, "x")
    proxy.reset()
    await waitFor(() => one.closed && server.sockets.size === 0, { what: "the cut" })
    assert.equal(one.error, "ECONNRESET")
    assert.equal(proxy.connections(), 0)
    await asked(await client(t, proxy.port), "y")
})

test("a black hole keeps connections open, swallows what is sent, and takes new ones that lead nowhere", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    const one = await client(t, proxy.port)
    await asked(one, "x")
    proxy.blackhole()
    one.socket.write("lost")
    const two = await client(t, proxy.port)
    two.socket.write("lost too")
    assert.equal(two.error, undefined)
    for (const socket of server.sockets)
        socket.write("lost as well")
    await waitFor(() => proxy.bytes.lost === "lost".length + "lost too".length + "lost as well".length, { what: "all to vanish" })
    assert.equal(server.data, "x")
    assert.equal(server.sockets.size, 1)
    assert.deepEqual([ one.closed, two.closed, one.data ], [ false, false, "x" ])
    assert.equal(proxy.connections(), 2)
})

test("after a black hole those connections that lost something are reset, and new ones pass", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    const [ torn, idle ] = [ await client(t, proxy.port), await client(t, proxy.port) ]
    await asked(torn, "x")
    await asked(idle, "x")
    proxy.blackhole()
    torn.socket.write("lost")
    const swallowed = await client(t, proxy.port)
    swallowed.socket.write("lost")
    await waitFor(() => proxy.bytes.lost === 8, { what: "both to vanish" })
    await proxy.pass()
    await waitFor(() => torn.closed && swallowed.closed, { what: "the cut" })
    await asked(idle, "still here")
    await asked(await client(t, proxy.port), "z")
})

test("dropped replies: the server gets the request, the client no answer", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    const one = await client(t, proxy.port)
    await asked(one, "a")
    proxy.dropReplies()
    one.socket.write("b")
    const two = await client(t, proxy.port)
    two.socket.write("c")
    await waitFor(() => server.data.length === 3 && proxy.bytes.lost === 2, { what: "the requests to come, and the replies to vanish" })
    assert.deepEqual([ one.data, two.data ], [ "a", "" ])
    assert.equal(one.closed, false)
})

test("a delay holds up both ways, in order", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    proxy.delay(60)
    const one = await client(t, proxy.port)
    const began = performance.now()
    for (const text of [ "a", "b", "c" ])
        one.socket.write(text)
    await waitFor(() => one.data === "abc", { what: "the echo" })
    assert.ok(performance.now() - began >= 119, "a round trip takes two delays at least")
})

test("a refusing proxy closes its port, keeps its connections, and opens the same port again", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    const one = await client(t, proxy.port)
    await proxy.refuse()
    assert.equal((await client(t, proxy.port)).error, "ECONNREFUSED")
    await asked(one, "x")
    const { port } = proxy
    await proxy.pass()
    assert.equal(proxy.port, port)
    await asked(await client(t, port), "y")
})

test("a server that refuses shows as a reset", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy({ port: 1 }, t)
    const one = await client(t, proxy.port)
    await waitFor(() => one.closed, { what: "the cut" })
    assert.equal(one.error, "ECONNRESET")
    assert.equal(server.sockets.size, 0)
})

test("what a frozen proxy keeps back is delivered later, on old and new connections", async (t) => {
    const server = await echo(t)
    const proxy = await startProxy(server, t)
    const old = await client(t, proxy.port)
    await asked(old, "one")
    proxy.freeze()
    old.socket.write("two")
    const fresh = await client(t, proxy.port)
    fresh.socket.write("three")
    const beside = await client(t, server.port)
    await asked(beside, "four")
    await asked(beside, "five")
    assert.equal(server.data, "onefourfive")
    assert.equal(old.data, "one")
    await proxy.pass()
    await waitFor(() => old.data === "onetwo" && fresh.data === "three", { what: "what was kept back" })
    assert.deepEqual([ old.error, fresh.error ], [ undefined, undefined ])
})
