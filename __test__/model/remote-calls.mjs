// Random walks over the calls of locks on a server whose answers come late and in any order, and which ends holds behind their holders' backs.
import assert from "node:assert/strict"
import { AsyncLocalStorage } from "node:async_hooks"
import { expire, running } from "./manual-timers.mjs"
import { randomness } from "./reference.mjs"

const OBJECTS = 4, LOCKS = 2, PENDING = 24
const turn = () => new Promise(setImmediate)
const storage = new AsyncLocalStorage()

/** An error that a release may end with: it never means that the lock is still held. */
const RELEASED = /ERR_LOCK_LOST|ERR_CONNECT|ERR_NOT_ACQUIRED/

export class RemoteCalls {
    counts = { granted: 0, busy: 0, aborted: 0, expired: 0, released: 0, lost: 0, closed: 0 }
    #server
    #random
    #objects
    #calls = []
    #believers = new Set()
    #failure
    #trail = []
    #depth = 0
    #controller = new AbortController()

    /**
     * @param {typeof import("../../index.js")} Mutex
     * @param {object} server a FakeServer, or a LiveServer for locks whose answers come by themselves
     * @param {number} seed
     * @param {(id: string) => string} [url]
     */
    constructor (Mutex, server, seed, url = (id) => `rpm+redis://fake/${id}`) {
        this.#server = server
        this.#random = randomness(seed)
        server.begin(this.#random)
        server.onrequest = () => storage.getStore()
        server.onheard = (what, call) => {
            if (what === "granted" && call.state === "asked")
                call.state = "granted"
            if (what === "lost")
                call.isLost = true
        }
        this.#objects = Array.from({ length: OBJECTS }, (_, number) => {
            const id = `remote-${number % LOCKS}`
            const object = { id, number, mutex: new Mutex(url(id)), state: "closed", unreleased: [] }
            object.mutex.on("lost", () => {
                const call = storage.getStore()
                this.#expect(call.object === object, `loss of ${call.number} told at ${number}`)
                call.lossTold = true
                this.#doubt(call)
                this.counts.lost++
                this.#callBack()
            })
            object.mutex.on("acquire", () => {
                const call = storage.getStore()
                this.#expect(call.object === object, `grant of ${call.number} told at ${number}`)
                this.#expect(!call.lossTold, "a loss was told before the grant")
                this.#callBack()
            })
            object.mutex.on("release", () => this.#callBack())
            return object
        })
    }

    /** The last deeds, and what has not ended. */
    trail () {
        const open = this.#calls.filter(({ settled }) => !settled).map(({ number, way, state, object }) => `${number} (${way} of ${object.number}, ${state})`)
        const objects = this.#objects.map(({ number, state }) => `${number} ${state}`)
        return `${this.#trail.slice(-20).join(", ")}; not settled: ${open.join(", ") || "none"}; objects: ${objects.join(", ")}`
    }

    async walk (steps) {
        for (const object of this.#objects)
            this.#open(object)
        for (let step = 0; step < steps && this.#failure === undefined; step++) {
            this.#deed()
            if (step % this.#server.pace === 0)
                await turn()
            else if (this.#random(3) === 0)
                await null
        }
        this.#depth = 9
        const closed = []
        for (let count = 0; this.#objects.some(({ state }) => state !== "over"); count++) {
            assert.ok(count < this.#server.patience, "a mutex does not close")
            for (const object of this.#objects.filter(({ state }) => state === "open"))
                closed.push(this.#close(object, "over"))
            this.#server.step()
            await turn()
        }
        while (!this.#server.isIdle)
            this.#server.step()
        await turn()
        await Promise.all(closed)
        if (this.#failure !== undefined)
            throw this.#failure
        for (const call of this.#calls)
            assert.ok(call.settled, `call ${call.number}, ${call.way}, has not settled`)
        assert.ok(this.#server.isFree, "something is left at the server")
        assert.deepEqual(running(), [], "a timer is left")
    }

    #expect (condition, message) {
        if (!condition)
            this.#failure ??= new Error(message)
    }

    #pick (list) {
        return list[this.#random(list.length)]
    }

    #note (what) {
        this.#trail.push(what)
        if (this.#trail.length > 100)
            this.#trail.splice(0, 50)
    }

    #deed () {
        const dice = this.#random(100)
        if (dice < 25)
            this.#ask()
        else if (dice < 40)
            this.#release()
        else if (dice < 44)
            this.#abort()
        else if (dice < 48)
            this.#expire()
        else if (dice < 50)
            this.#close(this.#pick(this.#objects))
        else if (dice < 54)
            this.#lose()
        else if (this.#server.answersByItself)
            this.#release()
        else
            this.#answer()
    }

    /** A handle knows of the loss at once, by the clock of its lease, before it is heard. */
    #lose () {
        const call = this.#server.lose()
        if (call?.handle !== undefined && call.state === "granted" && !call.isOver)
            this.#expect(call.handle.signal.aborted, `the signal of ${call.number} does not know of its loss`)
    }

    /** Some answers at once, as they come from the addon. */
    #answer () {
        if (this.#depth === 0)
            for (let count = this.#random(4); count >= 0; count--)
                this.#server.step()
    }

    #callBack () {
        if (this.#depth >= 2 || this.#random(3) > 0)
            return
        this.#depth++
        this.#note("(")
        this.#deed()
        this.#note(")")
        this.#depth--
    }

    async #open (object) {
        object.state = "opening"
        await object.mutex.open()
        object.state = "open"
        object.unreleased = []
    }

    #ask () {
        const object = this.#pick(this.#objects)
        if (object.state !== "open" || this.#calls.length > PENDING && this.#calls.filter(({ settled }) => !settled).length > PENDING)
            return
        const way = this.#pick([ "acquire", "lock", "tryAcquire", "tryLock", "withLock" ])
        const call = { object, way, number: this.#calls.length, state: "asked", shared: this.#random(2) === 0, believes: false }
        this.#calls.push(call)
        this.#note(`${call.number}: ${way} of ${object.number}`)
        const options = { shared: call.shared }
        if (!way.startsWith("try")) {
            if (this.#random(2) === 0) {
                call.controller = this.#controller
                options.signal = this.#controller.signal
            }
            if (this.#random(3) === 0)
                options.timeout = 1000
        }
        const args = way === "withLock" ? [ options, (handle) => this.#section(call, handle) ] : [ options ]
        storage.run(call, () => object.mutex[way](...args).then((value) => this.#resolved(call, value), (error) => this.#rejected(call, error)))
            .catch((error) => { this.#failure ??= error })
    }

    #resolved (call, value) {
        call.settled = true
        if (value === false || value === null) {
            this.counts.busy++
            return assert.match(call.state, /asked|closed/)
        }
        if (call.way === "withLock")
            return
        // Closed in the very microtask between the call's end and its caller's next line: only a handle can say so.
        if (call.state === "closed")
            return assert.ok(value?.signal === undefined ? /cquire/.test(call.way) : value.signal.aborted, "a handle looks held behind close()")
        assert.equal(call.state, "granted", `call ${call.number} resolved, but is ${call.state}`)
        if (/cquire/.test(call.way))
            call.object.unreleased.push(call)
        else
            call.handle = value
        this.#believe(call)
        this.#callBack()
    }

    #believe (call) {
        this.counts.granted++
        if (call.lossTold)
            return
        for (const other of this.#believers)
            if (other.handle?.signal.aborted)
                this.#doubt(other)
        if (call.handle?.signal.aborted)
            return
        for (const other of this.#believers)
            assert.ok(other.object.id !== call.object.id || other.shared && call.shared, `calls ${call.number} and ${other.number} believe in one lock`)
        this.#believers.add(call)
        this.#server.believed?.(call)
    }

    /** The caller does not believe in its hold any more. */
    #doubt (call) {
        if (this.#believers.delete(call))
            this.#server.doubted?.(call)
    }

    async #section (call, handle) {
        assert.equal(call.state, "granted")
        assert.equal(handle.signal.aborted, false, "the function was started on a lost hold")
        call.handle = handle
        this.#believe(call)
        await new Promise((resolve) => {
            call.finish = resolve
            handle.signal.addEventListener("abort", resolve)
        })
        this.#doubt(call)
    }

    #rejected (call, error) {
        call.settled = true
        const name = `call ${call.number}, ${call.way}, which is ${call.state}: ${error.stack}`
        if (error.code === "ERR_CLOSED")
            return assert.equal(call.state, "closed", name)
        if (error.code === "ERR_TIMEOUT" || error.message === "aborted")
            return assert.equal(call.state, "withdrawn", name)
        if (call.way === "withLock" && call.handle !== undefined)
            return assert.match(error.code, RELEASED, name)
        assert.equal(error.code, "ERR_LOCK_LOST", name)
    }

    #release () {
        const held = this.#calls.filter(({ settled, handle, finish, isOver }) => !isOver && (finish !== undefined || settled && handle !== undefined))
        const objects = this.#objects.filter(({ unreleased, state }) => unreleased.length > 0 && state === "open")
        if (held.length > 0 && this.#random(2) === 0) {
            const call = this.#pick(held)
            call.isOver = true
            this.#note(`release of ${call.number}`)
            this.#doubt(call)
            if (call.finish !== undefined)
                return call.finish()
            const released = call.handle.release()
            this.#expect(released === call.handle.release(), "two promises of one release")
            this.#released(released)
        }
        else if (objects.length > 0) {
            const object = this.#pick(objects)
            // Any of them: their modes are the same.
            for (const call of object.unreleased)
                this.#doubt(call)
            const [ call ] = object.unreleased.splice(0, 1)
            for (const other of object.unreleased)
                if (!other.isLost && other.state === "granted")
                    this.#believers.add(other)
            this.#note(`release of ${call.number}`)
            this.#released(object.mutex.release())
        }
    }

    #released (promise) {
        promise.then(() => { this.counts.released++ }, (error) => this.#expect(RELEASED.test(error.code), error.stack))
    }

    #abort () {
        const controller = this.#controller
        this.#controller = new AbortController()
        this.#note("abort")
        this.counts.aborted++
        for (const call of this.#calls)
            if (call.controller === controller && call.state === "asked")
                call.state = "withdrawn"
        controller.signal.addEventListener("abort", () => this.#callBack())
        controller.abort(new Error("aborted"))
    }

    #expire () {
        const timer = this.#pick(running().filter(({ args }) => args[0]?.context !== undefined))
        if (timer === undefined)
            return
        const call = timer.args[0].context.runInAsyncScope(() => storage.getStore())
        this.#note(`timeout of ${call.number}`)
        this.#expect(call.state === "asked", `a timer of a call that is ${call.state}`)
        call.state = "withdrawn"
        this.counts.expired++
        expire(timer)
    }

    #close (object, state) {
        if (object.state !== "open")
            return
        this.#note(`close of ${object.number}`)
        this.counts.closed++
        object.state = "closing"
        for (const call of this.#calls)
            if (call.object === object && (call.state === "asked" || call.state === "granted")) {
                call.state = "closed"
                this.#doubt(call)
                call.finish?.()
            }
        object.unreleased = []
        return object.mutex.close().then(async () => {
            if (state === undefined)
                return this.#open(object)
            object.state = state
        }).catch((error) => { this.#failure ??= error })
    }
}
