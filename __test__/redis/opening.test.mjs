// Many mutexes that open at the same time.
import assert from "node:assert/strict"
import { test } from "node:test"
import Mutex from "../../index.mjs"
import { opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

const many = (server) => Array.from({ length: 200 }, (_, number) => new Mutex(server.url(`lock-${number}`, { connect_timeout: 6 })))

/** Resolves when the server has heard nothing of the process for so long that it is asked again whether it is there. */
const silence = (server) => waitFor(async () => (await server.admin.clients()).every(({ idle }) => Number(idle) >= 2), { what: "some silence" })

test("mutexes that open at the same time ask once for all whether the server is there", async (t) => {
    const server = await redis(t)
    await opened(t, server.url("first", { connect_timeout: 6 }))
    await silence(server)
    const before = await server.admin.commandCounts()
    const mutexes = many(server)
    await Promise.all(mutexes.map((mutex) => mutex.open()))
    const { ping = 0 } = await server.admin.commandCounts()
    assert.ok(ping - (before.ping ?? 0) <= 4, `${ping} pings, before ${before.ping}`)
    await Promise.all(mutexes.map((mutex) => mutex.close()))
})

test("mutexes that open at the same time on a server that is silent are all told so, and open when it speaks again", async (t) => {
    const server = await redis(t)
    await opened(t, server.url("first", { connect_timeout: 6 }))
    await silence(server)
    await server.pause()
    const mutexes = many(server)
    const outcomes = await Promise.allSettled(mutexes.map((mutex) => mutex.open()))
    assert.deepEqual([ ...new Set(outcomes.map(({ reason }) => reason?.code)) ], [ "ERR_CONNECT" ])
    await server.resume()
    await Promise.all(mutexes.map((mutex) => mutex.open()))
    await mutexes[0].acquire()
    await Promise.all(mutexes.map((mutex) => mutex.close()))
})
