// Locks that are taken from whoever has them, in another process; each server calls this with what is its own.
import assert from "node:assert/strict"
import { test } from "node:test"
import { startChild } from "../support/children.mjs"
import { contender, freed, holder, opened, pending } from "../support/contenders.mjs"
import { noLeftovers } from "../support/servers.mjs"
import { fastest } from "./fastest.mjs"

/** Holds are renewed every 20 seconds or less often: what is heard sooner has been told. */
const PATIENT = { ttl: 60, connect_timeout: 60 }

/**
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 * @param {object} [server] `left`: what may be left behind, see noLeftovers
 */
export function testSteal (start, { left } = {}) {
    test("a holder in another process hears at once that its lock was stolen, and its release leaves the thief alone", async (t) => {
        const server = await start(t)
        const url = server.url("foo", PATIENT)
        const mutex = await opened(t, url)
        for (const shared of [ false, true ]) {
            const took = await fastest(10_000, async () => {
                const child = await holder(t, url, { shared })
                const [ { token } ] = (await mutex.query()).held
                const begun = performance.now()
                const thief = await mutex.lock({ steal: true })
                assert.equal((await child.message("aborted", { timeout: 120_000 })).code, "ERR_LOCK_LOST")
                const took = performance.now() - begun
                assert.ok(thief.token > token)
                await child.send({ do: "release" })
                assert.equal((await child.message("failed")).code, "ERR_LOCK_LOST")
                const { held } = await mutex.query()
                assert.deepEqual(held.map((one) => [ one.pid, one.mode ]), [ [ process.pid, "exclusive" ] ])
                assert.equal(await mutex.tryAcquire({ shared: true }), false)
                assert.equal(thief.signal.aborted, false)
                await thief.release()
                await child.send({ do: "close" })
                await child.success()
                return took
            })
            assert.ok(took < 10_000, `${took} ms`)
        }
        await mutex.close()
        await noLeftovers(server, left)
    })

    test("a thief goes before those who wait in other processes, and they follow in their order", async (t) => {
        const server = await start(t)
        const url = server.url("foo", PATIENT)
        const mutex = await opened(t, url)
        const first = await holder(t, url)
        const waiters = []
        for (let index = 0; index < 3; index++) {
            waiters.push(await contender(t, url))
            await waiters[index].send({ do: "lock" })
            await pending(mutex, index + 1)
        }
        const thief = await mutex.lock({ steal: true })
        await first.message("aborted", { timeout: 120_000 })
        assert.equal((await mutex.query()).pending.length, 3)
        let last = thief.token
        await thief.release()
        for (const waiter of waiters) {
            const { token } = await waiter.message("held", { timeout: 120_000 })
            assert.ok(token > last)
            last = token
            await freed(waiter)
        }
    })

    test("whoever steals and is stolen from, in three processes: nobody else is in company", async (t) => {
        const server = await start(t)
        const url = server.url("foo", PATIENT)
        const children = await Promise.all([ 1, 2, 3 ].map(() => startChild(t, new URL("./stealing.mjs", import.meta.url), [ url, "4", "40" ])))
        for (const child of children)
            await child.message("ready", { timeout: 60_000 })
        for (const child of children)
            await child.send("go")
        const all = []
        for (const child of children) {
            all.push(...(await child.message("holds", { timeout: 240_000 })).holds)
            await child.success()
        }
        judge(all)
        await noLeftovers(server, left)
    })
}

/**
 * A hold lasts until its holder was told of its end, in its own process: that a thief is inside meanwhile is what its larger token is for. So two
 * holds may overlap if a lock was stolen after the one was granted and before the other was, or by the other; else not.
 *
 * @param {Array<{ token: bigint, shared: boolean, steals: boolean, from: bigint, to: bigint, isLost: boolean }>} holds
 */
export function judge (holds) {
    holds.sort((a, b) => a.token < b.token ? -1 : 1)
    const stolen = [] // how many thefts there were up to and with each hold
    let thefts = 0
    holds.forEach((hold, index) => {
        assert.notEqual(hold.to, undefined, "a hold has an end")
        assert.notEqual(hold.token, holds[index - 1]?.token, "a token is given once")
        stolen.push(thefts += hold.steals ? 1 : 0)
    })
    for (const [ later, hold ] of holds.entries())
        for (let before = later - 1; before >= 0 && stolen[before] === stolen[later]; before--) {
            const other = holds[before]
            if (!(hold.shared && other.shared) && hold.from < other.to && other.from < hold.to)
                assert.fail(`two are inside and none has stolen: ${show(other)} and ${show(hold)}`)
        }
    for (const [ index, hold ] of holds.entries())
        assert.ok(!hold.isLost || stolen[index] < thefts, `lost, and nobody has stolen: ${show(hold)}`)
    assert.ok(thefts > 0 && holds.some((hold) => hold.isLost) && holds.some((hold) => !hold.steals && !hold.isLost))
}

const show = ({ token, shared, from, to }) => `${token} (${shared ? "shared" : "exclusive"}, ${from} to ${to})`
