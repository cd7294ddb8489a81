// A server that cannot be reached: who asked under the opening hears it, and so does nobody else.
import { test } from "node:test"
import assert from "node:assert/strict"
import { createServer } from "node:net"
import { once } from "node:events"
import { watchLeaks } from "../support/leaks.mjs"
import { LockManager, rejection } from "./world.mjs"

watchLeaks()

test("each call under an opening that fails rejects, and the next one tries again", async (t) => {
    let tries = 0
    const server = createServer((socket) => {
        tries++
        socket.destroy()
    }).listen(0, "127.0.0.1")
    t.after(() => server.close())
    await once(server, "listening")
    const locks = new LockManager(`rpm+redis://127.0.0.1:${server.address().port}/`)
    t.after(() => locks.close())
    for (let time = 1; time <= 2; time++) {
        const before = tries
        const calls = [
            locks.lock("a"), locks.tryLock("a"), locks.lock("a", { timeout: 60_000 }), locks.lock([ "a", "b" ]),
            locks.withLock("a", () => assert.fail("must not be called")), locks.request("a", () => assert.fail("must not be called"))
        ]
        for (const error of await Promise.all(calls.map(rejection)))
            assert.equal(error.code, "ERR_CONNECT")
        assert.ok(tries > before)
    }
})
