// Shared locks: many readers or one writer, fair to both.
import { test } from "node:test"
import assert from "node:assert/strict"
import { freshId, opened, two, waiting, watch } from "./world.mjs"

export function shared (world) {
    test("shared holds do not exclude each other, but exclude an exclusive one", async (t) => {
        const [ one, other ] = await two(t, world)
        const locks = [ await one.lock({ shared: true }), await other.lock({ shared: true }), await one.lock({ shared: true }) ]
        assert.deepEqual(locks.map(({ mode }) => mode), [ "shared", "shared", "shared" ])
        assert.equal(await other.tryLock(), null)
        assert.equal(await one.tryAcquire(), false)
        await locks[0].release()
        await locks[1].release()
        assert.equal(await other.tryLock(), null)
        await locks[2].release()
        const writer = await other.tryLock()
        assert.equal(await one.tryAcquire({ shared: true }), false)
        await writer.release()
    })

    test("acquire takes shared holds too, and release gives them back one by one", async (t) => {
        const [ one, other ] = await two(t, world)
        await one.acquire({ shared: true })
        assert.equal(await one.tryAcquire({ shared: true }), true)
        await one.release()
        assert.equal(await other.tryAcquire(), false)
        await one.release()
        assert.equal(await other.tryAcquire(), true)
        await other.release()
    })

    test("a waiting exclusive request holds back later shared ones", async (t) => {
        const url = world.url(freshId())
        const [ reader, writer, late ] = await Promise.all([ opened(t, url), opened(t, url), opened(t, url) ])
        const first = await reader.lock({ shared: true })
        const exclusive = watch(writer.lock())
        await waiting(reader, 1)
        const second = watch(late.lock({ shared: true }))
        await waiting(reader, 2)
        assert.equal(await late.tryLock({ shared: true }), null)
        assert.deepEqual([ exclusive.settled, second.settled ], [ false, false ])
        await first.release()
        const lock = await exclusive.promise
        assert.equal(second.settled, false)
        await lock.release()
        await (await second.promise).release()
    })

    test("a run of shared waiters enters together", async (t) => {
        const [ one, other ] = await two(t, world)
        const writer = await one.lock()
        const readers = [ other.lock({ shared: true }), one.lock({ shared: true }), other.lock({ shared: true }) ]
        await waiting(one, 3)
        await writer.release()
        const locks = await Promise.all(readers)
        assert.equal((await one.query()).held.length, 3)
        assert.equal(await other.tryLock(), null)
        for (const lock of locks)
            await lock.release()
    })
}
