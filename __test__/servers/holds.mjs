// Holds on a server: what keeps them, what ends them, and who is told. The same on every server that counts leases; each
// calls this with what is its own.
import assert from "node:assert/strict"
import { test } from "node:test"
import { contender, ended, freed, holder, opened, pending } from "../support/contenders.mjs"
import { noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { fastest } from "./fastest.mjs"

/**
 * What happens to holds under leases of `ttl` seconds: bodies of tests by their names, each for the URL of a lock of its
 * own, whose lease is that.
 *
 * @param {number} ttl
 * @returns {Record<string, (t: object, url: string) => Promise<void>>}
 */
export function holds (ttl) {
    return {
        async "a waiter gets the lock within its lease and a few seconds after the holder was killed, exclusive or shared" (t, url) {
            const mutex = await opened(t, url)
            for (const shared of [ false, true ]) {
                const child = await holder(t, url, { shared })
                const { token } = (await mutex.query()).held[0]
                const waiting = mutex.lock()
                await pending(mutex, 1)
                const killed = performance.now()
                await child.kill("SIGKILL")
                const lock = await waiting
                assert.ok(performance.now() - killed < (ttl + 7) * 1000)
                assert.ok(lock.token > token)
                await lock.release()
            }
            await mutex.close()
        },

        async "JavaScript that computes for three leases without yielding keeps its lock" (t, url) {
            const child = await holder(t, url)
            const mutex = await opened(t, url)
            await child.send({ do: "spin", ms: 3000 * ttl })
            await child.message("spinning")
            const end = performance.now() + 1000 * ttl
            let isTaken = true
            await waitFor(async () => {
                isTaken &&= !await mutex.tryAcquire()
                return !isTaken || performance.now() > end
            }, { timeout: 2000 * ttl + 30_000 })
            assert.ok(isTaken)
            const waiting = mutex.lock() // looks after the holder all the time
            const { aborted } = await child.message("spun", { timeout: 4000 * ttl + 30_000 })
            assert.equal(aborted, false)
            await pending(mutex, 1)
            await freed(child)
            await (await waiting).release()
            await ended(child)
            await mutex.close()
        },

        async "a holder stopped past its lease learns of the loss, and the next one has the larger token" (t, url) {
            const child = await contender(t, url)
            await child.send({ do: "lock" })
            const { token } = await child.message("held")
            const mutex = await opened(t, url)
            await child.pause()
            const lock = await mutex.lock()
            assert.ok(lock.token > token)
            child.resume()
            assert.equal((await child.message("aborted")).code, "ERR_LOCK_LOST")
            await child.send({ do: "release" })
            assert.equal((await child.message("failed")).code, "ERR_LOCK_LOST")
            assert.equal((await mutex.query()).held[0].token, lock.token, "the late release has not touched the next hold")
            await lock.release()
            await ended(child)
            await mutex.close()
        },

        async "process.exit() while holding frees the lock within a second" (t, url) {
            const mutex = await opened(t, url)
            const took = await fastest(1000, async () => {
                const child = await holder(t, url)
                const waiting = mutex.lock()
                await pending(mutex, 1)
                await child.send({ do: "exit" })
                await child.success()
                const gone = performance.now()
                await (await waiting).release()
                return performance.now() - gone
            })
            assert.ok(took < 1000, `${took} ms`)
            await mutex.close()
        }
    }
}

/**
 * The tests of `holds`, each on a server of its own; side by side, as most of them wait for leases to run out.
 *
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs @param {number} ttl seconds
 */
export function testHolds (start, ttl) {
    const bodies = Object.entries(holds(ttl))
    test(`holds with leases of ${ttl} s`, { concurrency: true }, (t) => Promise.all(bodies.map(([ name, body ]) => t.test(name, async (t) => {
        const server = await start(t)
        await body(t, server.url("foo", { ttl }))
        await noLeftovers(server, { timeout: 1000 * ttl + 30_000 }) // what the killed ones left runs out by itself
    }))))
}

/**
 * @param {(t: object) => Promise<object>} start a server of support/servers.mjs that keeps its data
 */
export function testRestart (start) {
    test("a server that restarts with its data keeps the hold, the waiter its place, and tokens grow", async (t) => {
        const server = await start(t)
        const url = server.url("foo", { ttl: 60, connect_timeout: 30 })
        const mutex = await opened(t, url)
        const lock = await mutex.lock()
        const child = await contender(t, url)
        await child.send({ do: "lock" })
        await pending(mutex, 1)
        await server.restart({ kill: true })
        await waitFor(async () => (await mutex.query().catch(() => ({ pending: [] }))).pending.length === 1, { what: "the waiter in its place" })
        assert.equal(lock.signal.aborted, false)
        assert.equal(child.has("held"), false)
        await lock.release()
        const { token } = await child.message("held")
        assert.ok(token > lock.token)
        await freed(child)
        await ended(child)
        await mutex.close()
        await noLeftovers(server)
    })
}
