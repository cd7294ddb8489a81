// The contract of 1.x: five calls, their order, and the messages that programs match on.
import { test } from "node:test"
import assert from "node:assert/strict"
import { Mutex, MutexError, freshId, opened, rejection, two, waiting, watch } from "./world.mjs"

export function contract (world) {
    test("open, acquire, release and close resolve to nothing", async () => {
        const mutex = new Mutex(world.url(freshId()))
        assert.equal(await mutex.open(), undefined)
        assert.equal(await mutex.acquire(), undefined)
        assert.equal(await mutex.release(), undefined)
        assert.equal(await mutex.close(), undefined)
    })

    test("every call on a mutex that is not open rejects with 'still not opened'", async () => {
        const mutex = new Mutex(world.url(freshId()))
        const calls = {
            acquire: () => mutex.acquire(), release: () => mutex.release(), close: () => mutex.close(),
            tryAcquire: () => mutex.tryAcquire(), lock: () => mutex.lock(), tryLock: () => mutex.tryLock(),
            withLock: () => mutex.withLock(() => 1), query: () => mutex.query()
        }
        const check = async () => {
            for (const [ name, call ] of Object.entries(calls)) {
                const error = await rejection(call())
                assert.ok(error instanceof MutexError, name)
                assert.deepEqual([ error.message, error.code ], [ `still not opened: call open() of mutex "${mutex.id}" first`, "ERR_NOT_OPEN" ], name)
            }
        }
        await check()
        await mutex.open()
        await mutex.close()
        await check()
    })

    test("a second open rejects with 'already opened', also while the first is under way", async (t) => {
        const mutex = new Mutex(world.url(freshId()))
        const first = mutex.open()
        t.after(() => mutex.close())
        assert.match((await rejection(mutex.open())).message, /^already opened: mutex ".+" must be closed/)
        await first
        assert.equal((await rejection(mutex.open())).code, "ERR_ALREADY_OPEN")
    })

    test("a release without a hold rejects with 'still not acquired'", async (t) => {
        const [ one, other ] = await two(t, world)
        await other.acquire()
        for (const attempt of [ 1, 2 ]) {
            const error = await rejection(one.release())
            assert.equal(error.message, `still not acquired: mutex "${one.id}" has nothing to release`, `attempt ${attempt}`)
            assert.equal(error.code, "ERR_NOT_ACQUIRED")
        }
        assert.equal(await one.tryAcquire(), false, "the other's hold is untouched")
        await other.release()
    })

    test("a second acquire waits for the release, of the same object and of another", async (t) => {
        const [ one, other ] = await two(t, world)
        await one.acquire()
        const same = watch(one.acquire())
        await waiting(one, 1)
        const second = watch(other.acquire())
        await waiting(one, 2)
        assert.deepEqual([ same.settled, second.settled ], [ false, false ])
        await one.release()
        await same.promise
        assert.equal(second.settled, false)
        await one.release()
        await second.promise
        await other.release()
    })

    test("waiters are served first come, first served", async (t) => {
        const url = world.url(freshId())
        const holder = await opened(t, url)
        await holder.acquire()
        const order = []
        const waiters = []
        for (let number = 0; number < 8; number++) {
            const mutex = await opened(t, url)
            waiters.push(mutex.acquire().then(() => {
                order.push(number)
                return mutex.release()
            }))
            await waiting(holder, number + 1)
        }
        await holder.release()
        await Promise.all(waiters)
        assert.deepEqual(order, [ 0, 1, 2, 3, 4, 5, 6, 7 ])
    })

    test("the place in the queue is taken inside the call", async (t) => {
        const url = world.url(freshId())
        const mutexes = await Promise.all(Array.from({ length: 20 }, () => opened(t, url)))
        await mutexes[0].acquire()
        const order = []
        const waiters = mutexes.map((mutex, number) => mutex.acquire().then(() => {
            order.push(number)
            return mutex.release()
        }))
        await mutexes[0].release()
        await Promise.all(waiters)
        assert.deepEqual(order, mutexes.map((_, number) => number))
    })

    test("close rejects what waits, frees what is held, and allows a new open", async (t) => {
        const [ one, other ] = await two(t, world)
        await one.acquire()
        const waiters = [ one.acquire(), one.lock(), one.acquire({ timeout: 60_000 }), one.withLock(() => 1) ]
        const results = Promise.allSettled(waiters)
        await waiting(one, 4)
        const next = other.acquire()
        await one.close()
        assert.deepEqual((await results).map(({ reason }) => reason?.code), Array(4).fill("ERR_CLOSED"))
        await next
        await other.release()
        await one.open()
        await one.acquire()
        await one.release()
    })

    test("close while open is under way closes what was opened", async () => {
        const mutex = new Mutex(world.url(freshId()))
        const opening = mutex.open()
        await mutex.close()
        await opening
        assert.equal((await rejection(mutex.acquire())).code, "ERR_NOT_OPEN")
    })

    test("different ids do not exclude each other", async (t) => {
        const one = await opened(t, world.url(freshId()))
        const other = await opened(t, world.url(freshId()))
        await one.acquire()
        assert.equal(await other.tryAcquire(), true)
        await one.release()
        await other.release()
    })

    test("open and close, again and again, leave nothing behind", async () => {
        const url = world.url(freshId())
        const mutex = new Mutex(url)
        const rounds = world.model === "rpm" ? 10 : 300
        for (let round = 0; round < rounds; round++) {
            await mutex.open()
            await mutex.acquire()
            if (round % 2 === 0)
                await mutex.release()
            await mutex.close()
        }
        assert.equal(mutex.eventNames().length, 0)
    })
}
