// Random walks: every operation by many owners over a few locks, compared with the reference after each step.
import assert from "node:assert/strict"
import { Mutex, freshId, rejection } from "../conformance/world.mjs"
import { waitFor } from "../support/waiting.mjs"
import { Reference, randomness } from "./reference.mjs"

const LOCKS = 3, OBJECTS = 4, CROWD = 12

/**
 * Walks so many operations. A failure names the seed; `IPC_MUTEX_TEST_SEED` plays it again.
 *
 * @param {import("../conformance/world.mjs").World & { lose?: (ids: string[]) => Promise<void> }} world `lose` ends every hold
 *   at the server, behind the holders' backs
 * @param {number} operations
 */
export async function walk (world, operations) {
    const seed = Number(process.env.IPC_MUTEX_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
    const walker = new Walker(world, seed)
    try {
        await walker.open()
        for (let step = 0; step < operations; step++)
            await walker.step(step)
        await walker.finish()
    }
    catch (error) {
        throw new Error(`with IPC_MUTEX_TEST_SEED=${seed}, ${walker.trail()}: ${error.message}`, { cause: error })
    }
    finally {
        await walker.close()
    }
    return walker.counts
}

class Walker {
    counts = { granted: 0, busy: 0, withdrawn: 0, released: 0, lost: 0, reopened: 0, queries: 0 }
    #world
    #random
    #locks
    #trail = []

    constructor (world, seed) {
        this.#world = world
        this.#random = randomness(seed)
        this.#locks = Array.from({ length: LOCKS }, () => {
            const url = world.url(freshId("walk"))
            return { url, reference: new Reference(), token: 0n, objects: Array.from({ length: OBJECTS }, () => new Mutex(url)) }
        })
    }

    async open () {
        for (const { objects } of this.#locks)
            for (const mutex of objects)
                await mutex.open()
    }

    async close () {
        for (const { objects } of this.#locks)
            for (const mutex of objects)
                await mutex.close().catch(() => {})
    }

    trail () {
        return `after ${this.#trail.slice(-8).join(", ")}`
    }

    async step (number) {
        const lock = this.#locks[this.#random(LOCKS)]
        const { holders, queue } = lock.reference
        const dice = this.#random(100)
        if (this.#world.lose && number % 250 === 249)
            return this.#lose()
        if (number % 40 === 39)
            return this.#query(lock)
        if (dice < 2)
            return this.#reopen(lock)
        if (dice < 35 && queue.length < CROWD)
            return this.#ask(lock)
        if (dice < 45)
            return this.#try(lock)
        if (dice < 55 && queue.length > 0)
            return this.#withdraw(lock, queue[this.#random(queue.length)])
        if (holders.length > 0)
            return this.#release(lock, holders[this.#random(holders.length)])
        return this.#ask(lock)
    }

    /** Everybody who still holds or waits leaves; in the end the locks are free. */
    async finish () {
        for (const lock of this.#locks) {
            while (lock.reference.holders.length > 0)
                await this.#release(lock, lock.reference.holders[0])
            // What a loss has left at the server is cleared away by the next who uses the lock.
            await lock.objects[0].acquire()
            await lock.objects[0].release()
            assert.deepEqual(await lock.objects[0].query(), { held: [], pending: [] })
        }
    }

    #note (lock, what) {
        this.#trail.push(`${what} ${this.#locks.indexOf(lock)}`)
        if (this.#trail.length > 50)
            this.#trail.splice(0, 25)
    }

    #one (lock) {
        const shared = this.#random(2) === 0
        const object = this.#random(OBJECTS)
        return { lock, shared, object, mutex: lock.objects[object], hold: undefined, settled: false, controller: new AbortController() }
    }

    async #ask (lock) {
        const one = this.#one(lock)
        this.#note(lock, `${one.shared ? "shared" : "exclusive"} request at`)
        one.promise = one.mutex.lock({ shared: one.shared, signal: one.controller.signal })
        const settle = () => { one.settled = true }
        one.promise.then(settle, settle)
        await this.#expect(lock, lock.reference.request(one))
    }

    async #try (lock) {
        const one = this.#one(lock)
        this.#note(lock, `${one.shared ? "shared" : "exclusive"} try at`)
        const free = lock.reference.free(one.shared)
        one.promise = one.mutex.tryLock({ shared: one.shared })
        one.hold = await one.promise
        assert.equal(one.hold !== null, free, free ? "a free lock was refused" : "a taken lock was granted")
        if (free) {
            one.settled = true
            await this.#expect(lock, lock.reference.request(one))
        }
        else
            this.counts.busy++
    }

    async #withdraw (lock, one) {
        this.#note(lock, "withdrawal at")
        const reason = new Error("withdrawn")
        one.controller.abort(reason)
        assert.equal(await rejection(one.promise), reason)
        this.counts.withdrawn++
        await this.#expect(lock, lock.reference.leave(one))
    }

    async #release (lock, one) {
        this.#note(lock, "release at")
        const granted = lock.reference.leave(one)
        await one.hold.release()
        this.counts.released++
        await this.#expect(lock, granted)
    }

    /** Closing an object withdraws and releases all that it has; then it opens again. */
    async #reopen (lock) {
        const object = this.#random(OBJECTS)
        this.#note(lock, "reopening at")
        const mine = [ ...lock.reference.holders, ...lock.reference.queue ].filter((one) => one.object === object)
        const waiting = mine.filter((one) => lock.reference.queue.includes(one))
        const rejected = waiting.map((one) => rejection(one.promise))
        await lock.objects[object].close()
        for (const error of await Promise.all(rejected))
            assert.equal(error.code, "ERR_CLOSED")
        const granted = new Set()
        // Waiters first, as they do not get in by the release of their own object's holds.
        for (const one of [ ...waiting, ...mine ])
            for (const next of lock.reference.leave(one))
                granted.add(next)
        await lock.objects[object].open()
        this.counts.reopened++
        await this.#expect(lock, [ ...granted ].filter((one) => !mine.includes(one)))
    }

    async #query (lock) {
        this.#note(lock, "query at")
        const { holders, queue } = lock.reference
        const modes = (list) => list.map(({ shared }) => (shared ? "shared" : "exclusive"))
        // A withdrawal or a release is over here before its promise is; the server's own list may follow in a moment.
        await waitFor(async () => {
            const { held, pending } = await lock.objects[0].query()
            return held.map(({ mode }) => mode).join() === modes(holders).join() && pending.map(({ mode }) => mode).join() === modes(queue).join()
        }, { what: `a query that shows ${modes(holders).join()} before ${modes(queue).join()}` })
        this.counts.queries++
    }

    async #lose () {
        this.#trail.push("loss of all")
        const all = this.#locks.map((lock) => ({ lock, holders: [ ...lock.reference.holders ] }))
        await this.#world.lose(all.flatMap(({ holders }) => holders.map(({ hold }) => hold)))
        for (const { lock, holders } of all) {
            for (const one of holders) {
                await waitFor(() => one.hold.signal.aborted, { timeout: 60_000, what: "the loss to be noticed" })
                assert.equal(one.hold.signal.reason.code, "ERR_LOCK_LOST")
                assert.equal((await rejection(one.hold.release())).code, "ERR_LOCK_LOST")
                this.counts.lost++
            }
            await this.#expect(lock, lock.reference.loseAll().granted)
        }
    }

    /** These, and nobody else, are granted now. */
    async #expect (lock, granted) {
        const last = lock.token
        for (const one of granted) {
            one.hold = await one.promise
            one.settled = true
            assert.ok(one.hold.token > last, `token ${one.hold.token} after ${last}`)
            if (one.hold.token > lock.token)
                lock.token = one.hold.token
            this.counts.granted++
        }
        assert.equal(new Set(granted.map(({ hold }) => hold.token)).size, granted.length, "two grants with one token")
        for (const one of lock.reference.queue)
            assert.equal(one.settled, false, "a waiter was granted out of turn")
    }
}
