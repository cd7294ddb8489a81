"use strict"

const { debuglog } = require("node:util")
const errors = require("./errors.js")
const notify = require("./notify.js")
const trace = require("./trace.js")
const { BY_WORD, CLOSED, Hold, LOST, RELEASED } = require("./hold.js")
const { Request } = require("./request.js")

const debug = debuglog("ipc-mutex")

/**
 * What a mutex has between `open()` and `close()`: its requests and its holds. A mutex that opens again has a new one, so nothing of before
 * is known there.
 */
class Session {
    #owner
    /** Whether somebody listens to the mutex's events. */
    #isObserved
    #isOpen = true
    #isNamed
    #idle
    /** The holds that are held, in the order in which they were granted. */
    #holds = new Set()

    /**
     * @param {import("node:events").EventEmitter} owner the mutex
     * @param {string} url
     * @param {{ id: string, model: string }} target what the URL means
     * @param {import("./deadlock.js").Detector} [detector]
     * @param {boolean} isObserved
     * @param {object} [named] of a manager's lock
     * @param {string} [named.name]
     * @param {() => void} [named.idle] called whenever the last request or hold is over
     */
    constructor (owner, url, target, detector, isObserved, { name, idle } = {}) {
        this.#owner      = owner
        this.#isObserved = isObserved
        this.#isNamed    = name !== undefined
        this.#idle       = idle
        this.name        = name ?? target.id
        this.url         = url
        this.target      = target
        this.id          = target.id
        this.detector    = detector
        this.model       = undefined
        /** Those that are asked, in this order. */
        this.requests    = new Set()
        /** What `release()` will give back, oldest first; also what was lost, until it has said so. */
        this.unreleased  = []
    }

    get isOpen () {
        return this.#isOpen
    }

    /** Whether something is held, besides what stands in the lock's word alone. */
    get hasHolds () {
        return this.#holds.size > 0
    }

    /** Whether the caller may believe, now, that this session holds the lock. */
    get isHeld () {
        return this.model.isTaken === true || [ ...this.#holds ].some((hold) => hold.reason === undefined && hold.isHeld)
    }

    observe () {
        this.#isObserved = true
    }

    /**
     * Makes a request.
     * @param {object} kind one of those of request.js
     * @param {{ shared: boolean, timeout?: number, signal?: AbortSignal }} given
     * @returns {Promise<unknown>} the result of the call
     */
    ask (kind, given) {
        const request = new Request(this, kind, given)
        const promise = trace.active() ? trace.asking(request, () => request.send()) : request.send()
        this.detector?.promised(request, promise)
        return promise
    }

    /** Why calls of before `close()` fail. */
    closed () {
        return this.#isNamed ? errors.managerClosed() : errors.closed(this.id)
    }

    /** A request was granted. */
    began (hold, request) {
        this.#holds.add(hold)
        this.detector?.granted(request, hold)
        trace.granted(request, hold)
        if (this.#isObserved || debug.enabled)
            this.#tell(hold, "acquire")
    }

    /** The same for an `acquire()` that was one of the fast path when it was called. */
    beganBare (key) {
        if (key !== BY_WORD) {
            const hold = this.#hold(key)
            this.unreleased.push(hold)
            if (this.#isObserved)
                this.#tell(hold, "acquire")
            return
        }
        this.model.isTaken = true
        if (this.#isObserved) {
            const hold = this.#wordHold()
            this.unreleased.push(hold)
            this.#tell(hold, "acquire")
        }
        else if (debug.enabled)
            debug("%s: acquire", this.id)
    }

    /** A request was answered with something else than the lock, or withdrawn. */
    refused (request, error) {
        this.detector?.refused(request)
        trace.refused(request, error)
        if (debug.enabled && error !== undefined)
            notify.later(request, debug, `${this.id}: not acquired: ${error?.message}`)
        this.#rest()
    }

    /** A hold is over. */
    ended (hold, state, reason) {
        this.#holds.delete(hold)
        this.detector?.ended(hold)
        trace.ended(hold, state === CLOSED ? undefined : reason)
        if (this.#isObserved || debug.enabled) {
            if (state === LOST)
                this.#tell(hold, "lost", reason)
            else if (state === RELEASED && reason === undefined)
                this.#tell(hold, "release")
        }
        this.#rest()
    }

    #rest () {
        if (this.#idle !== undefined && this.requests.size === 0 && this.#holds.size === 0)
            this.#idle()
    }

    #tell (hold, event, reason) {
        const { id, name } = this
        const { mode, token } = hold
        notify.later(hold, () => {
            debug("%s: %s (%s)%s", id, event, mode, reason === undefined ? "" : `: ${reason.message}`)
            const described = token === undefined ? { id, mode } : { id, mode, token }
            if (this.#isNamed)
                described.name = name
            if (reason === undefined)
                this.#owner.emit(event, described)
            else
                this.#owner.emit(event, reason, described)
        })
    }

    /** Tells of the coordinator, which is no request's own. */
    tell (event) {
        notify.later(undefined, () => {
            debug("%s: %s", this.id, event)
            this.#owner.emit(event)
        })
    }

    /** @throws {Error} why a hold that its caller has not heard of yet is over; nobody will release it then */
    check (hold) {
        const { reason } = hold
        if (reason === undefined)
            return
        const place = this.unreleased.indexOf(hold)
        if (place >= 0)
            this.unreleased.splice(place, 1)
        throw errors.retraced(reason)
    }

    /** Whether there is something that comes before what stands in the lock's word. */
    get hasUnreleased () {
        return this.unreleased.length > 0
    }

    release () {
        const hold = this.unreleased.shift() ?? this.#wordHold()
        if (hold !== undefined)
            return hold.release()
        for (const request of this.requests)
            if (request.isReleasable)
                return request.release()
        return Promise.reject(errors.notAcquired(this.id))
    }

    /** The hold that stands in the lock's word, and has been nothing else so far. */
    #wordHold () {
        if (this.model.isTaken !== true)
            return undefined
        this.model.isTaken = false
        return this.#hold(BY_WORD)
    }

    #hold (key) {
        const hold = new Hold(this, key, false)
        this.#holds.add(hold)
        return hold
    }

    /** The hold with this key is lost. */
    lose (key, error) {
        if (key === BY_WORD) {
            const hold = this.#wordHold()
            if (hold !== undefined)
                this.unreleased.push(hold)
        }
        for (const hold of this.#holds)
            if (hold.key === key) {
                hold.lose(error)
                // A theft ends thousands of readers one by one, oldest first. Only by the word, one may be there that was stolen before.
                if (key !== BY_WORD)
                    return
            }
    }

    /** Every hold is lost, as when the coordinator is out of reach. */
    lost (error) {
        const hold = this.#wordHold()
        if (hold !== undefined)
            this.unreleased.push(hold)
        for (const each of [ ...this.#holds ])
            each.lose(error)
    }

    /** Withdraws all that is asked, and all that will be. */
    end () {
        this.#isOpen = false
        // An error costs more than all else here, and most names of a manager are closed when nobody uses them.
        if (this.requests.size > 0)
            Request.withdrawAll([ ...this.requests ], this.closed(), true)
    }

    /** Withdraws all that is asked, and releases all that is held. */
    close () {
        this.end()
        // A release that is under way answers its call.
        const holds = [ ...this.#holds ].filter((hold) => hold.isHeld)
        if (holds.length > 0) {
            const error = this.closed()
            for (const hold of holds)
                hold.close(error)
        }
        const closed = this.model.close(holds)
        notify.flush()
        return closed
    }
}

module.exports = { Session }
