// Readers of one process who leave at once, with messages that overtake each other.
import { test } from "node:test"
import assert from "node:assert/strict"
import { once } from "node:events"
import { createServer, request } from "node:http"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { consul, noLeftovers } from "../support/servers.mjs"
import { freshId, opened } from "../conformance/world.mjs"

watchLeaks()

/** How long a message is held back that nothing overtakes, in milliseconds. */
const LONG = 1000

/** Passes everything on, but holds back the first message that deletes a reader's key, until another one such has been answered. */
async function overtaking (t, server) {
    let release, isFirst = true
    const agent = createServer(async (incoming, answer) => {
        const body = Buffer.concat(await incoming.toArray())
        const leaves = incoming.url.startsWith("/v1/txn") && /"Verb":"delete"/.test(body) && /\/readers\//.test(body)
        const isHeld = leaves && isFirst
        if (isHeld) {
            isFirst = false
            await new Promise((resolve) => {
                release = resolve
                setTimeout(resolve, LONG)
            })
        }
        const { method, url, headers } = incoming
        const [ reply ] = await once(request({ host: server.host, port: server.port, method, path: url, headers }).end(body), "response")
        answer.writeHead(reply.statusCode, reply.headers)
        reply.pipe(answer)
        if (leaves && !isHeld)
            reply.once("end", () => release?.())
    })
    agent.listen(0, "127.0.0.1")
    await once(agent, "listening")
    t.after(() => {
        agent.close()
        agent.closeAllConnections()
    })
    return agent.address().port
}

test("of two readers of a process who leave at once, the one whose message is slower leaves no lock behind", async (t) => {
    const server = await consul(t)
    const id = freshId()
    const mutex = await opened(t, server.url(id, {}, await overtaking(t, server)))
    // Ours would see that nobody reads any more.
    const old = legacy(server)
    const readers = [ await mutex.lock({ shared: true }), await mutex.lock({ shared: true }) ]
    await Promise.all(readers.map((lock) => lock.release()))
    assert.equal(await old.tryAcquire(id), true)
    await old.release(id)
    await old.close()
    await mutex.close()
    await noLeftovers(server, { ignore: /leader$/ })
})
