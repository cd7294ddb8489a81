// Old processes (1.1.2) and new ones on one lock of a server; each server calls this with what is its own.
import assert from "node:assert/strict"
import { test } from "node:test"
import { contender, opened, pending } from "../support/contenders.mjs"
import { History, check } from "../support/history.mjs"
import { legacy } from "../support/legacy.mjs"
import { noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { fastest } from "./fastest.mjs"

/** A machine that is slow, or stands still for a moment, shall cost no hold and fail no call. */
const PATIENT = { ttl: 60, connect_timeout: 60 }

/**
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 * @param {object} [server] `seesSince`: whether the server tells since when an old process holds
 */
export function testLegacy (start, { seesSince = false } = {}) {
    test("an old process stays out while a new one holds, exclusive or shared, and gets in afterwards", async (t) => {
        const server = await start(t)
        const mutex = await opened(t, server.url("foo", PATIENT))
        const other = legacy(server)
        for (const shared of [ false, true ]) {
            const lock = await mutex.lock({ shared })
            assert.equal(await other.tryAcquire("foo"), false)
            await lock.release()
            assert.equal(await other.tryAcquire("foo"), true)
            await other.release("foo")
        }
        await other.close()
    })

    test("a new process stays out while an old one holds, sees it as an unknown holder, and follows it soon", async (t) => {
        const server = await start(t)
        const mutex = await opened(t, server.url("foo", PATIENT))
        const other = legacy(server)
        await other.acquire("foo")
        assert.equal(await mutex.tryAcquire(), false)
        assert.equal(await mutex.tryAcquire({ shared: true }), false)
        const [ { since, ...info }, ...more ] = (await mutex.query()).held
        assert.deepEqual([ info, ...more ], [ { mode: "exclusive" } ])
        if (seesSince)
            assert.ok(Math.abs(since - Date.now()) < 60_000)
        else
            assert.equal(since, undefined)
        await other.release("foo")
        const took = await fastest(500, async () => {
            await other.acquire("foo")
            const waiting = mutex.lock()
            await pending(mutex, 1)
            await other.release("foo")
            const freed = performance.now()
            await (await waiting).release()
            return performance.now() - freed
        })
        assert.ok(took < 500, `${took} ms`)
        await other.close()
    })
}

/** Resolves when each of `children` was seen holding or waiting with that many requests: a process may start late. */
async function turnsOf (children, mutex, rounds) {
    const seen = new Map(children.map(({ pid }) => [ pid, new Set() ]))
    await waitFor(async () => {
        const found = await mutex.query()
        for (const { pid, since } of [ ...found.held, ...found.pending ])
            seen.get(pid)?.add(since)
        // The last one seen need not be over.
        return [ ...seen.values() ].every(({ size }) => size > rounds)
    }, { timeout: 60_000, every: 5, what: "turns of each new process" })
}

/**
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 * @param {object} server `rounds`: how many turns each old process shall have; `left`: what may be left behind, see noLeftovers
 */
export function testLegacyCrowd (start, { rounds, left }) {
    test("old and new processes in a crowd are never inside together, and all make progress", async (t) => {
        const server = await start(t)
        const url = server.url("foo", PATIENT)
        const children = await Promise.all(Array.from({ length: 3 }, () => contender(t, url, "loop")))
        let stopped = false
        const history = new History()
        const turns = [ 0, 0 ]
        const others = turns.map(async (_, index) => {
            const other = legacy(server)
            const owner = `old${index}`
            while (!stopped) {
                history.ask("foo", owner)
                await other.acquire("foo")
                history.grant("foo", owner)
                turns[index]++
                history.release("foo", owner)
                await other.release("foo")
            }
            await other.close()
        })
        await waitFor(() => turns.every((count) => count >= rounds), { timeout: 150_000, what: `${rounds} turns of each old process` })
        const observer = await opened(t, url)
        await turnsOf(children, observer, rounds)
        await observer.close()
        stopped = true
        await Promise.all(others)
        const histories = [ history ]
        for (const child of children) {
            await child.send("stop")
            histories.push(History.from((await child.message("history", { timeout: 60_000 })).history))
            await child.success()
        }
        const { grants } = check(histories, { order: "none" })
        assert.ok(histories.every((each) => each.length >= 3 * rounds), `each of the ${histories.length} takes part in ${grants} grants`)
        for (const own of histories.slice(1))
            check(own, { order: "none", tokens: true })
        await noLeftovers(server, { connections: false, ignore: left })
    })
}
