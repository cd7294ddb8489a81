// What query() of a manager shows of other processes at a server.
import { test } from "node:test"
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"
import { waitFor } from "../support/waiting.mjs"
import { ids } from "./special.mjs"
import { fresh, manager, opened } from "./world.mjs"

/** How many names there are where there are many: more than a page of any server has. */
const MANY = 5000

/** A process that does what it is told, see process.mjs. */
async function other (t, world) {
    const child = await startChild(t, new URL("./process.mjs", import.meta.url), [ world.url("") ])
    await child.message("ready", { timeout: 60_000 })
    return Object.assign(child, {
        async hold (names, shared = false) {
            await child.send({ do: "hold", names, shared })
            await child.message("held", { timeout: 300_000 })
        },
        async wait (names, shared = false) {
            await child.send({ do: "wait", names, shared })
            await child.message("waiting")
        },
        async leave () {
            await child.send({ do: "close" })
            await child.success({ timeout: 120_000 })
        }
    })
}

/** What a list of query() says of the names that begin so. */
const of = (list, prefix) => list.filter(({ name }) => name.startsWith(prefix)).map(({ name, mode, pid }) => [ name, mode, pid ]).sort()

const seen = (locks, prefix, pending) => waitFor(async () => {
    const all = await locks.query()
    return of(all.pending, prefix).length === pending && all
}, { what: `${pending} waiters` })

/** @param {object} world with `listsAll`: whether the server tells of names that this process does not know */
export function listing (world) {
    if (world.listsAll === undefined)
        return

    test("holders and waiters of another process are shown, of all names that this manager knows", async (t) => {
        const locks = manager(t, world)
        const child = await other(t, world)
        const prefix = fresh()
        const [ a, b, c ] = [ "a", "b ü", "c" ].map((letter) => `${prefix} ${letter}`)
        await child.hold([ a ])
        await child.hold([ b ], true)
        const mine = await locks.lock(c)
        await child.wait([ c ])
        const waiting = [ locks.lock(a), locks.lock(a), locks.lock(b) ]
        const { held, pending } = await seen(locks, prefix, 4)
        const [ me, it ] = [ process.pid, child.pid ]
        assert.deepEqual(of(held, prefix), [ [ a, "exclusive", it ], [ b, "shared", it ], [ c, "exclusive", me ] ].sort())
        assert.deepEqual(of(pending, prefix), [ [ a, "exclusive", me ], [ a, "exclusive", me ], [ b, "exclusive", me ], [ c, "exclusive", it ] ].sort())
        await child.leave()
        await mine.release()
        for (const lock of waiting)
            await (await lock).release()
        assert.deepEqual(of((await locks.query()).held, prefix), [])
    })

    test("a lock of a mutex is shown, and one that its own manager has let go is not", async (t) => {
        const locks = manager(t, world)
        const id = fresh()
        const mutex = await opened(t, world.url(id))
        const lock = await mutex.lock({ shared: true })
        assert.deepEqual(of((await locks.query()).held, id), [ [ id, "shared", process.pid ] ])
        await lock.release()
        assert.deepEqual(of((await locks.query()).held, id), [])
    })

    if (!world.listsAll) {
        test("names that only other processes know are not shown", async (t) => {
            const locks = manager(t, world)
            const child = await other(t, world)
            const name = fresh()
            await child.hold([ name ])
            assert.deepEqual(of((await locks.query()).held, name), [])
            assert.equal(await locks.tryLock(name), null)
            assert.deepEqual(of((await locks.query()).held, name), [ [ name, "exclusive", child.pid ] ])
            await child.leave()
        })
        return
    }

    test("names that only other processes know are shown, each as it is, with holders and waiters", async (t) => {
        const locks = manager(t, world)
        const [ one, two ] = [ await other(t, world), await other(t, world) ]
        const names = ids.map(([ name ]) => name)
        await one.hold(names)
        await two.wait(names, true)
        const { held, pending } = await seen(locks, "", names.length)
        assert.deepEqual(of(held, ""), names.map((name) => [ name, "exclusive", one.pid ]).sort())
        assert.deepEqual(of(pending, ""), names.map((name) => [ name, "shared", two.pid ]).sort())
        assert.ok(held.every(({ label, clientId }) => label === "other" && clientId.endsWith(`/${one.pid}/0`)))
        await one.leave()
        await waitFor(async () => of((await locks.query()).held, "").every(([ , , pid ]) => pid === two.pid))
        await two.leave()
        assert.deepEqual(await locks.query(), { held: [], pending: [] })
    })

    test(`${MANY} names are read in pages, and meanwhile others get their locks`, { timeout: 600_000 }, async (t) => {
        const locks = manager(t, world)
        const child = await other(t, world)
        const names = Array.from({ length: MANY }, (_, number) => `many ${number}`)
        await child.hold(names)
        let isRead = false
        const reading = locks.query().finally(() => { isRead = true })
        const name = fresh()
        for (let round = 0; round < 3 || !isRead; round++)
            await locks.withLock(name, () => {})
        const { held } = await reading
        assert.deepEqual(of(held, "many ").map(([ each ]) => each), names.sort())
        await child.leave()
    })
}
