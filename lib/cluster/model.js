"use strict"

const errors = require("../errors.js")
const snapshot = require("../snapshot.js")
const { Hold } = require("../hold.js")
const { lost } = require("./request.js")
const { NONE } = require("./word.js")

/** What all calls that succeed at once resolve to: one promise, made once. */
const DONE = Promise.resolve()

/** A hold of `acquire()` that stands in the word alone, and one that ended there. All others have the numbers of their requests. */
const BY_WORD = -1, LOST = -2

let resolveIt, rejectIt
const capture = (resolve, reject) => {
    resolveIt = resolve
    rejectIt = reject
}

/** What waits for a bare `acquire()`, in place of a `Waiter`: nobody can withdraw it but `close()`. */
class BareWaiter {
    shared = false
    wait   = true
    fenced = false
    key    = 0

    constructor (model) {
        this.model   = model
        this.promise = new Promise(capture)
        this.resolve = resolveIt
        this.reject  = rejectIt
    }

    granted (hold) {
        this.model.takeBare(this, hold)
        this.resolve()
    }

    failed (error) {
        this.model.waiting.delete(this)
        this.reject(error)
    }
}

/** A lock of a cluster's primary and all its workers. */
class MpmModel {
    /** @param {() => import("./client.js").Client} connect gives the way from this thread to the lock table */
    constructor (connect, id, label) {
        this.connect = connect
        this.id      = id
        this.label   = label
        this.client  = undefined
        /** Its number with the client. */
        this.number  = 0
        /** The lock's word; the client gives it. */
        this.word    = NONE
        /** How many requests of this thread are on their way to the lock's queue; the client gives it, one for all mutexes of the id. */
        this.way     = undefined
        this.holds   = new Set()
        /** Not 0 while there is a hold of a bare `acquire()`, or one that was lost. */
        this.ticket  = 0
        this.bare    = undefined
        this.waiting = new Set()
        this.adopt   = undefined
    }

    /** Itself: `acquire()` and `release()` without options may be called directly. */
    get quick () {
        return this
    }

    /** @throws {MutexError} ERR_PRIMARY */
    async open () {
        this.client = this.connect()
        await this.client.open(this)
    }

    acquire () {
        if (this.#take()) {
            this.ticket = BY_WORD
            return DONE
        }
        const waiter = new BareWaiter(this)
        this.waiting.add(waiter)
        this.client.request(this, waiter)
        return waiter.promise
    }

    /** By the word, unless one of this thread has asked before and is still on its way. */
    #take () {
        return this.way.asked === 0 && this.word.take()
    }

    takeBare (waiter, hold) {
        this.waiting.delete(waiter)
        if (this.adopt !== undefined)
            return this.adopt(hold)
        this.ticket = hold.key
        this.bare = hold
    }

    free () {
        if (this.ticket !== BY_WORD)
            return this.takeQuickHold().release()
        this.ticket = 0
        if (this.word.free())
            return DONE
        return this.word.leave() ? this.client.left(this, 0) ?? DONE : Promise.reject(lost())
    }

    /** The hold of a bare `acquire()`, if there is one, for a caller that must tell others of its end. */
    takeQuickHold () {
        const hold = this.ticket === BY_WORD ? this.#wordHold() : this.bare
        this.ticket = 0
        this.bare = undefined
        return hold
    }

    #wordHold () {
        const hold = new Hold(this, BY_WORD, false)
        this.holds.add(hold)
        return hold
    }

    /** From now on somebody listens: to what is held, and will be held, by a bare `acquire()`. */
    heed (adopt) {
        this.adopt = adopt
        if (this.ticket !== 0)
            adopt(this.takeQuickHold())
    }

    /** @param {import("../waiter.js").Waiter} waiter */
    request (waiter) {
        if (!waiter.shared && !waiter.fenced && this.#take())
            waiter.granted(this.#wordHold())
        else
            this.client.request(this, waiter)
    }

    /** @returns {Promise<void>} when the waiter is gone from the primary's queue; a grant that crossed it is given back */
    cancel (waiter) {
        return this.client.cancel(waiter)
    }

    abandon (waiter) {
        this.client.cancel(waiter)
    }

    release (hold) {
        this.holds.delete(hold)
        const byWord = hold.key === BY_WORD
        if (byWord && this.word.free())
            return DONE
        if (!hold.shared && this.word.leave())
            return this.client.left(this, byWord ? 0 : hold.key)?.catch((error) => this.#failed(hold, error)) ?? DONE
        return byWord ? this.#failed(hold, lost()) : this.client.release(hold)
    }

    #failed (hold, error) {
        hold.lose(error)
        return Promise.reject(error)
    }

    /** The table is out of reach: what was taken by the word is lost. */
    ended () {
        this.word.free()
        this.word = NONE
        if (this.ticket === BY_WORD) {
            this.bare = this.#wordHold()
            this.ticket = LOST
        }
        for (const hold of this.holds)
            if (hold.key === BY_WORD) {
                this.holds.delete(hold)
                hold.lose(lost())
            }
    }

    async query () {
        return snapshot.parse(await this.client.query(this.id))
    }

    async close () {
        const error = errors.closed(this.id)
        for (const waiter of this.waiting) {
            this.client.cancel(waiter)
            waiter.reject(error)
        }
        this.waiting.clear()
        this.takeQuickHold()
        for (const hold of this.holds)
            // A loss on the way frees it as well.
            this.release(hold).catch(() => {})
        this.word = NONE
        await this.client.close(this)
    }
}

module.exports = { MpmModel }
