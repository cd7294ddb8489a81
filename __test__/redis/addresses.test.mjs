// A host name with two addresses, of which the first accepts connections and says nothing.
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { connect, createServer } from "node:net"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { promisify } from "node:util"
import { watchLeaks } from "../support/leaks.mjs"
import { redis } from "../support/servers.mjs"

watchLeaks()

const run = promisify(execFile)

/** What a program prints that runs with `hosts` as its /etc/hosts; undefined where that cannot be had. */
async function withHosts (t, hosts, program, env) {
    const folder = await mkdtemp(join(tmpdir(), "hosts-"))
    t.after(() => rm(folder, { recursive: true }))
    await writeFile(join(folder, "hosts"), hosts)
    const script = "mount --bind \"$0/hosts\" /etc/hosts && exec \"$@\""
    const inside = (...command) => run("unshare", [ "-m", "sh", "-c", script, folder, ...command ], { env: { ...process.env, ...env } })
    const isPossible = await inside("true").then(() => true, () => false)
    return isPossible ? (await inside(process.execPath, "-e", program)).stdout.trim() : undefined
}

async function listening (t, port, host, accept) {
    const sockets = new Set()
    const server = createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {}) // a client may leave by a reset
        accept(socket)
    })
    await new Promise((resolve, reject) => server.once("error", reject).listen(port, host, resolve))
    t.after(() => new Promise((resolve) => {
        server.close(resolve)
        for (const socket of sockets)
            socket.destroy()
    }))
    return server.address().port
}

test("each address of a name has its share of the time, and the one that answered is tried first from then on", async (t) => {
    const server = await redis(t)
    let count = 0
    const port = await listening(t, 0, "127.0.0.1", () => { count++ })
    await listening(t, port, "127.0.0.2", (socket) => {
        const onward = connect(server.port, "127.0.0.1")
        onward.on("error", () => socket.destroy())
        socket.on("close", () => onward.destroy())
        onward.on("close", () => socket.destroy())
        socket.pipe(onward).pipe(socket)
    })
    const program = `const { Mutex } = require(${JSON.stringify(createRequire(import.meta.url).resolve("../../index.js"))})
        const mutex = new Mutex(process.env.MUTEX_URL)
        mutex.open().then(() => mutex.lock()).then((lock) => lock.release()).then(() => mutex.lock({ shared: true })).then((lock) => lock.release())
            .then(() => mutex.close()).then(() => "done", (error) => error.message).then(console.log)`
    const url = server.url("foo", { connect_timeout: 6 }, port).replace("127.0.0.1", "two.example")
    const said = await withHosts(t, "127.0.0.1 localhost\n127.0.0.1 two.example\n127.0.0.2 two.example\n", program, { MUTEX_URL: url })
    if (said === undefined)
        return t.skip("no right to change what a name means")
    assert.equal(said, "done")
    assert.equal(count, 1, "the silent one was tried first, and not again")
})
