// Answers of a kind that no etcd gives: calls fail or wait, and everything works when the server talks sense again.
import { test } from "node:test"
import assert from "node:assert/strict"
import { connect, createServer } from "node:net"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import Mutex from "../../index.js"

watchLeaks()

/** The tags of the kinds of answers in a transaction's response, and one that is none of them. */
const KINDS = [ 0x0a, 0x12, 0x1a, 0x22 ], UNKNOWN = 0x7a
const RESPONSES = 0x1a

/** A proxy that makes the answers in transactions' responses unknown while `lies` is true; every length stays what it was. */
async function lyingProxy (t, target) {
    const proxy = { lies: false, told: 0 }
    const sockets = new Set()
    const server = createServer((client) => {
        const upstream = connect(target.port, target.host)
        for (const [ one, other ] of [ [ client, upstream ], [ upstream, client ] ]) {
            sockets.add(one)
            one.on("error", () => {})
            one.on("close", () => {
                sockets.delete(one)
                other.destroy()
            })
        }
        client.on("data", (data) => upstream.write(data))
        upstream.on("data", (data) => client.write(proxy.lies ? lie(data) : data))
    })
    function lie (data) {
        for (let at = 0; at + 2 < data.length; at++)
            if (data[at] === RESPONSES && data[at + 1] < 0x80 && KINDS.includes(data[at + 2])) {
                data[at + 2] = UNKNOWN
                proxy.told++
            }
        return data
    }
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
    t.after(() => {
        for (const socket of sockets)
            socket.destroy()
        return new Promise((resolve) => server.close(resolve))
    })
    proxy.port = server.address().port
    return proxy
}

test("an answer of an unknown kind ends no call for ever, neither that of the waiter nor of the holder", async (t) => {
    const server = await etcd(t)
    const proxy = await lyingProxy(t, server)
    const url = server.url("nonsense", { ttl: 30, connect_timeout: 2 }, proxy.port)
    const [ one, other ] = [ new Mutex(url), new Mutex(url) ]
    for (const mutex of [ one, other ]) {
        await mutex.open()
        t.after(() => mutex.close())
    }
    const held = await one.lock()
    proxy.lies = true
    const asked = [ other.lock({ shared: true }), held.release() ]
    await assert.rejects(other.tryLock({ shared: true }), (error) => /^ERR_(CONNECT|SERVER)$/.test(error.code))
    await waitFor(() => proxy.told > 3, { what: "several lies" })
    proxy.lies = false
    const [ lock ] = await Promise.all(asked)
    await lock.release()
    const next = await one.tryLock()
    assert.notEqual(next, null)
    await next.release()
})
