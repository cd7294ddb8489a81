"use strict"

const native = require("../native.js")
const port = require("../port.js")
const errors = require("../errors.js")
const snapshot = require("../snapshot.js")
const { Hold } = require("../hold.js")

/** What all calls that succeed at once resolve to: one promise, made once. */
const DONE = Promise.resolve()

/** The answers of the lock table that are not a cookie; see `src/binding/local.rs`. */
const MANY = -2, GRANTED_ALREADY = -3

/** A hold of `acquire()` that stands in the word alone and has no ticket. */
const BY_WORD = -1

/*
 * Waiters of this thread, by cookie: a place in these arrays, used again when it is free. Either `waiters` has the waiter, or,
 * for a bare `acquire()`, `resolvers` and `rejecters` have the two ends of its promise.
 */
const models = [ null ], tickets = [ 0 ], waiters = [ null ], resolvers = [ null ], rejecters = [ null ]
const free = []

let resolveIt, rejectIt
const capture = (resolve, reject) => {
    resolveIt = resolve
    rejectIt = reject
}

function place () {
    if (free.length > 0)
        return free.pop()
    models.push(null)
    tickets.push(0)
    waiters.push(null)
    resolvers.push(null)
    rejecters.push(null)
    return models.length - 1
}

function leave (cookie) {
    models[cookie] = waiters[cookie] = resolvers[cookie] = rejecters[cookie] = null
    tickets[cookie] = 0
    free.push(cookie)
    port.letGo()
}

/** The waiter with this cookie has the lock. */
function grant (cookie) {
    const model = models[cookie], ticket = tickets[cookie], waiter = waiters[cookie], resolve = resolvers[cookie]
    leave(cookie)
    if (waiter === null) {
        model.ticket = ticket
        model.waiting--
        resolve()
    }
    else
        waiter.granted(model.hold(ticket, waiter))
}

/** Tells those of this thread that a call of the table let in. */
function settle (answer) {
    if (answer > 0)
        grant(answer)
    else if (answer === MANY)
        for (const cookie of native.localGrants())
            grant(cookie)
}

// Let in by another thread; a waiter that was withdrawn meanwhile has given the lock back already.
port.onLocalGrant((cookie, ticket) => {
    if (tickets[cookie] === ticket)
        grant(cookie)
})

const chunks = new Map()

/** The words of a chunk. Where there can be no view of them, one that always says "ask the table". */
function wordsOf (chunk) {
    let words = chunks.get(chunk)
    if (words === undefined) {
        const memory = native.localWords(chunk)
        words = memory === undefined ? null : new Int32Array(memory)
        chunks.set(chunk, words)
    }
    return words
}

const full = () => new errors.MutexError("ERR_SERVER", "the lock table of this process is full")

/** First in, first out; quick at that, also when it is long. */
class Line {
    #items = []
    #first = 0

    get length () {
        return this.#items.length - this.#first
    }

    push (item) {
        this.#items.push(item)
    }

    shift () {
        const item = this.#items[this.#first]
        this.#items[this.#first++] = undefined
        if (this.#first === this.#items.length || this.#first === 1024) {
            this.#items.splice(0, this.#first)
            this.#first = 0
        }
        return item
    }
}

const INFLATED = Int32Array.of(-(2 ** 31))

/** A lock of this process and all its threads. */
class SpmModel {
    constructor (id, label) {
        this.id      = id
        this.label   = label
        this.env     = 0
        this.words   = INFLATED
        this.offset  = 0
        this.handle  = 0
        /** The hold of `acquire()`: none, by the word, or the ticket. */
        this.ticket  = 0
        /** How many bare `acquire()` calls wait in the table. */
        this.waiting = 0
        /**
         * Bare `acquire()` calls that came while this object had the lock by the word: for each what grants it. A release
         * hands the lock on within the line, with no change to the word. See `src/local/mod.rs` for why that keeps the order.
         */
        this.line    = new Line()
        /** Where others can read how long the line is. */
        this.length  = 0
        this.holds   = new Set()
    }

    /** Itself: `acquire()` and `release()` without options may be called directly. */
    get quick () {
        return this
    }

    async open () {
        this.env = port.attach()
        const opened = native.localOpen(this.env, this.id, this.label)
        if (opened === undefined)
            throw full()
        const words = wordsOf(opened.chunk)
        this.words  = words ?? INFLATED
        this.offset = words === null ? 0 : opened.offset
        this.length = words === null ? 0 : words.length / 2 + opened.offset
        this.handle = opened.handle
    }

    acquire () {
        const before = Atomics.compareExchange(this.words, this.offset, 0, this.handle)
        if (before === 0) {
            this.ticket = BY_WORD
            return DONE
        }
        if (before === this.handle)
            return this.#join()
        const cookie = place()
        const answer = native.localRequest(this.handle, false, true, cookie)
        if (answer > 0) {
            free.push(cookie)
            this.ticket = answer
            return DONE
        }
        if (answer === 0) {
            free.push(cookie)
            return Promise.reject(full())
        }
        const promise = new Promise(capture)
        models[cookie]    = this
        tickets[cookie]   = -answer
        resolvers[cookie] = resolveIt
        rejecters[cookie] = rejectIt
        this.waiting++
        port.keepAlive()
        return promise
    }

    #join () {
        const promise = new Promise(capture)
        this.line.push(resolveIt)
        this.words[this.length] = this.line.length
        port.keepAlive()
        return promise
    }

    #next () {
        const resolve = this.line.shift()
        this.words[this.length] = this.line.length
        port.letGo()
        return resolve
    }

    free () {
        if (this.line.length > 0) {
            this.#next()()
            return DONE
        }
        const ticket = this.ticket
        this.ticket = 0
        if (ticket !== BY_WORD)
            settle(native.localRelease(this.env, ticket))
        else if (Atomics.compareExchange(this.words, this.offset, this.handle, 0) !== this.handle)
            settle(native.localReleaseFast(this.handle))
        return DONE
    }

    /** The hold of a bare `acquire()` as an object, for a caller that must tell others of its end. */
    takeQuickHold () {
        if (this.ticket === 0)
            return undefined
        return new Hold({ release: () => this.free() }, 0, false)
    }

    hold (ticket, waiter) {
        const hold = new Hold(this, ticket, waiter.shared, waiter.fenced ? native.localToken(ticket) : undefined)
        this.holds.add(hold)
        return hold
    }

    /** @param {import("../waiter.js").Waiter} waiter */
    request (waiter) {
        const cookie = place()
        const answer = native.localRequest(this.handle, waiter.shared, waiter.wait, cookie)
        if (answer < 0) {
            models[cookie]  = this
            tickets[cookie] = -answer
            waiters[cookie] = waiter
            waiter.key      = cookie
            port.keepAlive()
            return
        }
        free.push(cookie)
        if (answer > 0)
            waiter.granted(this.hold(answer, waiter))
        else if (waiter.wait)
            waiter.failed(full())
        else
            waiter.busy()
    }

    /** Withdraws a waiter, at once. What it may have been granted without having heard is given back. */
    cancel (waiter) {
        this.#withdraw(waiter.key)
    }

    abandon (waiter) {
        this.#withdraw(waiter.key)
    }

    #withdraw (cookie) {
        const ticket = tickets[cookie]
        leave(cookie)
        const answer = native.localCancel(this.env, ticket)
        settle(answer === GRANTED_ALREADY ? native.localRelease(this.env, ticket) : answer)
    }

    release (hold) {
        this.holds.delete(hold)
        settle(native.localRelease(this.env, hold.key))
        return DONE
    }

    async query () {
        return snapshot.parse(native.localSnapshot(this.id))
    }

    async close () {
        while (this.line.length > 0)
            this.#next()(Promise.reject(errors.closed(this.id)))
        if (this.waiting > 0)
            this.#rejectAll(errors.closed(this.id))
        if (this.ticket !== 0)
            this.free()
        for (const hold of this.holds)
            settle(native.localRelease(this.env, hold.key))
        this.holds.clear()
        settle(native.localClose(this.handle))
    }

    #rejectAll (error) {
        for (let cookie = 1; cookie < models.length; cookie++) {
            if (models[cookie] === this && waiters[cookie] === null) {
                const reject = rejecters[cookie]
                this.waiting--
                this.#withdraw(cookie)
                reject(error)
            }
        }
    }
}

module.exports = { SpmModel }
