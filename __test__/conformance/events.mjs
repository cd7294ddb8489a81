// Events and tracing.
import { test } from "node:test"
import assert from "node:assert/strict"
import diagnostics from "node:diagnostics_channel"
import { freshId, opened, rejection, two } from "./world.mjs"

const PARTS = [ "start", "end", "asyncStart", "asyncEnd", "error" ]

/** Collects what is published about lock `id` while `run` runs. */
async function traced (name, id, run) {
    const heard = []
    const listeners = PARTS.map((part) => [ `tracing:${name}:${part}`, (message) => {
        if (message.id === id)
            heard.push([ part, { ...message } ])
    } ])
    for (const [ channel, listener ] of listeners)
        diagnostics.subscribe(channel, listener)
    try {
        await run()
    }
    finally {
        for (const [ channel, listener ] of listeners)
            diagnostics.unsubscribe(channel, listener)
    }
    return heard
}

export function events (world) {
    test("acquire and release are told, with id and mode", async (t) => {
        const one = await opened(t, world.url(freshId()))
        const heard = []
        await one.acquire()
        one.on("acquire", (info) => heard.push([ "acquire", info ]))
        one.on("release", (info) => heard.push([ "release", info ]))
        await one.release()
        await one.acquire()
        await one.release()
        const lock = await one.lock({ shared: true })
        await lock.release()
        const { id } = one
        assert.deepEqual(heard, [
            [ "release", { id, mode: "exclusive" } ],
            [ "acquire", { id, mode: "exclusive" } ], [ "release", { id, mode: "exclusive" } ],
            [ "acquire", { id, mode: "shared", token: lock.token } ], [ "release", { id, mode: "shared", token: lock.token } ]
        ])
    })

    test("ipc-mutex:acquire traces the wait and ipc-mutex:hold the hold", async (t) => {
        const [ one ] = await two(t, world)
        let lock
        const run = async () => {
            lock = await one.lock()
            await lock.release()
            await one.acquire()
            await one.release()
        }
        const acquires = await traced("ipc-mutex:acquire", one.id, run)
        assert.deepEqual(acquires.map(([ part ]) => part), [ "start", "end", "asyncStart", "asyncEnd", "start", "end", "asyncStart", "asyncEnd" ])
        const { model, mode, waitTime } = acquires[3][1]
        assert.deepEqual([ model, mode ], [ world.model, "exclusive" ])
        assert.ok(waitTime >= 0)
        const holds = await traced("ipc-mutex:hold", one.id, run)
        assert.deepEqual(holds.map(([ part ]) => part), [ "start", "end", "asyncStart", "asyncEnd", "start", "end", "asyncStart", "asyncEnd" ])
        assert.equal(holds[3][1].token, lock.token)
        assert.ok(holds[3][1].holdTime >= 0)
    })

    test("a wait that fails is traced as an error", async (t) => {
        const [ one, other ] = await two(t, world)
        await one.acquire()
        let error
        const heard = await traced("ipc-mutex:acquire", one.id, async () => {
            error = await rejection(other.acquire({ timeout: 10 }))
        })
        await one.release()
        assert.deepEqual(heard.map(([ part ]) => part), [ "start", "end", "error", "asyncStart", "asyncEnd" ])
        assert.equal(heard[2][1].error, error)
    })
}
