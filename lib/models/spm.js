"use strict"

const native = require("../native.js")
const port = require("../port.js")
const errors = require("../errors.js")
const snapshot = require("../snapshot.js")
const { BY_WORD, DONE } = require("../hold.js")
const { BareRequest } = require("./bare.js")
const { Line } = require("./line.js")

/** The answers of the lock table that are not a cookie; see `src/binding/local.rs`. */
const UNKNOWN = -1, MANY = -2, GRANTED_ALREADY = -3

/** Cookies are below 2^31, see `src/binding/local.rs`. */
const LAST_COOKIE = 2 ** 31 - 1

/** The requests of this thread that the table has not answered, by the cookie that its answer will name. */
const asked = new Map()
let lastCookie = 0

/** A number that no answer on its way can name: it was last used two thousand million requests ago. */
function freeCookie () {
    do
        lastCookie = lastCookie === LAST_COOKIE ? 1 : lastCookie + 1
    while (asked.has(lastCookie))
    return lastCookie
}

function grant (cookie, ticket) {
    const request = asked.get(cookie)
    // One that was withdrawn meanwhile has given the lock back already.
    if (request === undefined || ticket !== undefined && request.ticket !== ticket)
        return
    asked.delete(cookie)
    request.session.model.granted(request, request.ticket)
}

/** Grants the requests of this thread that a call of the table let in. */
function admit (answer) {
    if (answer > 0)
        grant(answer)
    else if (answer === MANY)
        for (const cookie of native.localGrants())
            grant(cookie)
}

// Let in by another thread.
port.onLocalGrant(grant)

/** The open models of this thread, by handle. */
const models = new Map()

// Stolen by another thread.
port.onStolen((handle, ticket) => { models.get(handle)?.stolen(ticket) })

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

const INFLATED = Int32Array.of(-(2 ** 31))

/** A lock of this process and all its threads. */
class SpmModel {
    /** @param {import("../session.js").Session} session */
    constructor (session, label) {
        this.session = session
        this.id      = session.id
        this.label   = label
        this.env     = 0
        this.words   = INFLATED
        this.offset  = 0
        this.handle  = 0
        /** Whether a hold of `acquire()` stands in the word and has no other trace. */
        this.isTaken = false
        /**
         * Bare requests that came while this object had the lock by the word. A release hands the hold on within the line, with no
         * change to the word. See `src/local/mod.rs` for why that keeps the order.
         */
        this.line    = new Line()
        /** Where others can read how long the line is. */
        this.length  = 0
        /** Those of the line who had to ask the table, because the hold was stolen that they waited for. */
        this.moved   = new Set()
    }

    async open () {
        this.openWith()
    }

    openWith () {
        if (native.conflict !== undefined)
            throw new errors.MutexError("ERR_SERVER", native.conflict)
        this.env = port.enter()
        const opened = native.localOpen(this.env, this.id, this.label)
        if (opened === undefined) {
            port.leave()
            throw full()
        }
        const words = wordsOf(opened.chunk)
        this.words  = words ?? INFLATED
        this.offset = words === null ? 0 : opened.offset
        this.length = words === null ? 0 : words.length / 2 + opened.offset
        this.handle = opened.handle
        models.set(this.handle, this)
    }

    /** Takes the lock if nobody has it and nobody waits. */
    take () {
        if (Atomics.compareExchange(this.words, this.offset, 0, this.handle) !== 0)
            return false
        return this.isTaken || this.session.hasHolds ? this.#takeAnew() : this.isTaken = true
    }

    /** The lock was free, so what this object had was stolen, which has not been heard. Those who waited for it in the line come first. */
    #takeAnew () {
        this.session.lost(errors.stolen(this.session.name))
        return !this.#handOn() && (this.isTaken = true)
    }

    /**
     * Waits for this object's own hold, if that is why `take` failed.
     * @returns {Promise<void> | undefined}
     */
    join () {
        if (Atomics.load(this.words, this.offset) !== this.handle)
            return undefined
        const request = new BareRequest(this.session)
        this.#queue(request)
        return request.promise
    }

    #queue (request) {
        this.line.push(request)
        this.words[this.length] = this.line.length
    }

    /** Gives back what `take` took. */
    free () {
        this.isTaken = false
        // Says itself whether the hold was still this object's.
        if (this.line.length === 0 && Atomics.compareExchange(this.words, this.offset, this.handle, 0) === this.handle)
            return DONE
        return this.#freeSlowly()
    }

    #freeSlowly () {
        if (!this.#hasWord()) {
            this.stolen(0)
            return Promise.reject(errors.stolen(this.session.name))
        }
        this.#freeWord()
        return DONE
    }

    /** Whether the hold by the word is still this object's; if it was stolen, the table knows. */
    #hasWord () {
        return Atomics.load(this.words, this.offset) === this.handle || native.localHolds(this.handle)
    }

    #freeWord () {
        if (this.line.length > 0 && this.#handOn())
            return
        if (Atomics.compareExchange(this.words, this.offset, this.handle, 0) !== this.handle)
            admit(native.localReleaseFast(this.handle))
    }

    /** @returns {boolean} whether the hold by the word is that of the next in the line now */
    #handOn () {
        let request
        do {
            request = this.line.shift()
            this.words[this.length] = this.line.length
        } while (request !== undefined && !request.granted(BY_WORD))
        return request !== undefined
    }

    ask (request) {
        if (request.isBare && Atomics.load(this.words, this.offset) === this.handle)
            return this.#queue(request)
        if (request.steal)
            return this.#steal(request)
        this.#askTable(request, request.shared, request.wait)
    }

    #askTable (request, shared, wait) {
        const cookie = freeCookie()
        const answer = native.localRequest(this.handle, shared, wait, cookie)
        if (answer < 0) {
            request.key    = cookie
            request.ticket = -answer
            asked.set(cookie, request)
            if (request instanceof BareRequest)
                this.moved.add(request)
        }
        else if (answer > 0)
            this.granted(request, answer)
        else if (wait)
            request.failed(full())
        else
            request.busy()
    }

    #steal (request) {
        const ticket = native.localSteal(this.handle, freeCookie())
        if (ticket === 0)
            return request.failed(full())
        // Nobody of this thread believes in a hold that is over when the new one begins.
        const lost = native.localStolen()
        for (let at = 0; at < lost.length; at += 2)
            models.get(lost[at])?.stolen(lost[at + 1])
        this.granted(request, ticket)
    }

    /** The table has given the lock to a request of this object. */
    granted (request, ticket) {
        // It has not heard then that what it had by the word was stolen, and that was before.
        if (this.isTaken)
            this.stolen(0)
        this.moved.delete(request)
        request.granted(ticket, request.fenced ? native.localToken(ticket) : undefined)
    }

    /** @param {number} ticket of the hold that was stolen; 0: that by the word, unless it is another one by now */
    stolen (ticket) {
        const error = errors.stolen(this.session.name)
        if (ticket !== 0)
            return this.session.lose(ticket, error)
        if (this.#hasWord())
            return
        this.session.lose(BY_WORD, error)
        let request
        while ((request = this.line.shift()) !== undefined) {
            this.words[this.length] = 0
            // One that was withdrawn has nothing to ask for.
            if (request.isAsked)
                this.#askTable(request, false, true)
        }
    }

    /** Ends the hold if it was stolen, whether or not that has been heard. */
    verify (hold) {
        if (hold.key === BY_WORD ? !this.#hasWord() : !native.localIsHeld(hold.key))
            this.stolen(hold.key === BY_WORD ? 0 : hold.key)
    }

    /** At once. What it may have been granted without having heard is given back. One in the line is passed over there. */
    cancel (request) {
        if (request.key === 0)
            return
        asked.delete(request.key)
        const answer = native.localCancel(this.env, request.ticket)
        admit(answer === GRANTED_ALREADY ? native.localRelease(this.env, request.ticket) : answer)
    }

    release (hold) {
        let answer
        const byWord = hold.key === BY_WORD
        if (byWord ? !this.#hasWord() : (answer = native.localRelease(this.env, hold.key)) === UNKNOWN) {
            const error = errors.stolen(this.session.name)
            this.stolen(byWord ? 0 : hold.key)
            hold.lose(error)
            return Promise.reject(hold.reason ?? error)
        }
        // Told before the grants that follow from it.
        hold.released()
        if (byWord)
            this.#freeWord()
        else
            admit(answer)
        return DONE
    }

    async query () {
        return snapshot.parse(native.localSnapshot(this.id))
    }

    /** @returns {Promise<Array<[ id: string, seen: object ]>>} everybody at every lock */
    async queryAll () {
        return snapshot.parseAll(native.localSnapshots())
    }

    async close (holds) {
        while (this.line.length > 0) {
            this.line.shift().close?.()
            this.words[this.length] = this.line.length
        }
        // From the last to the first, so that none of them is granted because another one goes.
        for (const request of [ ...this.moved ].reverse()) {
            this.cancel(request)
            request.close()
        }
        if (this.isTaken && this.#hasWord()) {
            this.isTaken = false
            this.#freeWord()
        }
        for (const hold of holds)
            // Nobody waits for a loss that comes to light now.
            this.release(hold).catch(() => {})
        models.delete(this.handle)
        admit(native.localClose(this.handle))
        this.words = INFLATED
        port.leave()
    }
}

module.exports = { SpmModel }
