"use strict"

const { AsyncResource } = require("node:async_hooks")
const aborts = require("./aborts.js")
const errors = require("./errors.js")
const port = require("./port.js")
const settings = require("./settings.js")
const { Hold } = require("./hold.js")
const { canSteal, schemeOf } = require("./models/index.js")
const { clearTimeout, microtask, setTimeout } = require("./timing.js")

const ASKED = "asked", GRANTED = "granted", BUSY = "busy", FAILED = "failed", WITHDRAWN = "withdrawn"

/** What each call of the API asks for, and what it makes of the answer. */
const ACQUIRE     = Object.freeze({ wait: true,  handle: false, granted: undefined, busy: undefined })
const TRY_ACQUIRE = Object.freeze({ wait: false, handle: false, granted: true, busy: false })
const LOCK        = Object.freeze({ wait: true,  handle: true,  granted: undefined, busy: undefined })
const TRY_LOCK    = Object.freeze({ wait: false, handle: true,  granted: undefined, busy: null })

let resolveIt, rejectIt
const capture = (resolve, reject) => {
    resolveIt = resolve
    rejectIt = reject
}

/* The step of the program that runs now, until its first microtask. */
let step = 0
let isCounted = false

function currentStep () {
    if (!isCounted) {
        isCounted = true
        microtask(() => {
            isCounted = false
            step++
        })
    }
    return step
}

/** The end of a call: one microtask behind its request's, in which the hold may have ended again. */
const conclude = (request) => request.conclude()
const fail = (error) => { throw errors.retraced(error) }

/**
 * One request, from the call to its answer: asked, then granted, busy, failed or withdrawn. Each of these happens once and only to a request
 * that is still asked; the methods say whether it did. The model calls `granted`, `busy` and `failed`, each at any time from within
 * `model.ask()` on; whoever gives up calls `withdraw`.
 */
class Request {
    #state = ASKED
    #kind
    #timeout
    /** What the caller said, of which some may have passed. */
    #total
    #signal
    #resolve
    #reject
    #timer
    /** The other requests under the same signal. */
    #watch
    #isSent = false
    #isPending = false
    /** Whether the call itself got the lock. */
    #isImmediate = false
    #step
    /** Whether a `release()` has been called for what this is going to get. */
    #isSpokenFor = false

    /**
     * @param {import("./session.js").Session} session
     * @param {{ wait: boolean, handle: boolean }} kind one of the above
     * @param {{ shared: boolean, timeout?: number, total?: number, signal?: AbortSignal }} given
     */
    constructor (session, kind, given) {
        this.session  = session
        this.shared   = given.shared
        this.steal    = given.steal === true
        /** The model's own names for the request. */
        this.key      = 0
        this.ticket   = 0
        /** The asynchronous context in which users are told. */
        this.context  = undefined
        /** What trace.js and deadlock.js know of it. */
        this.span     = undefined
        this.flow     = undefined
        this.hold     = undefined
        this.#kind    = kind
        this.#timeout = given.timeout
        this.#total   = given.total ?? given.timeout
        this.#signal  = given.signal
        this.promise  = new Promise(capture)
        this.#resolve = resolveIt
        this.#reject  = rejectIt
    }

    get isAsked () {
        return this.#state === ASKED
    }

    /** Whether to queue when the lock is taken. */
    get wait () {
        return this.#kind.wait
    }

    /** Whether a handle is wanted, and with it a fencing token. */
    get fenced () {
        return this.#kind.handle
    }

    /** Whether it is an `acquire()` without options. */
    get #isPlain () {
        return this.#kind === ACQUIRE && !this.shared && this.#timeout === undefined && this.#signal === undefined
    }

    /** Whether it is one that only `close()` can withdraw. */
    get isBare () {
        return this.#isPlain && this.flow === undefined
    }

    /** Whether it waits for as long as it takes. */
    get isPatient () {
        return this.#kind.wait && !this.steal && this.#timeout === undefined
    }

    /**
     * Asks the model, unless the mutex has been closed or the signal aborted. The place in the queue is taken before this returns.
     * @returns {Promise<unknown>} the result of the call
     */
    send () {
        const result = this.promise.then(conclude, fail)
        this.context = new AsyncResource("IPC_MUTEX", { requireManualDestroy: true })
        // What may run foreign code comes first, when nothing would have to be undone.
        let reason
        if (this.#signal !== undefined) {
            try {
                this.#watch = aborts.watch(this.#signal, Request.withdrawAll)
                if (this.#signal.aborted)
                    reason = aborts.reasonOf(this.#signal)
            }
            catch (error) {
                reason = aborts.reasonOf({ reason: error })
            }
        }
        if (reason !== undefined)
            this.withdraw(reason)
        else if (!this.session.isOpen)
            this.withdraw(this.session.closed())
        else
            this.#ask()
        return result
    }

    #ask () {
        if (this.steal && !canSteal(this.session.url)) {
            this.failed(noSteal(this.session))
            return
        }
        this.#isSent = true
        this.session.detector?.asked(this)
        this.session.requests.add(this)
        this.#watch?.add(this)
        this.session.model.ask(this)
        if (this.#state !== ASKED) {
            this.#isImmediate = true
            return
        }
        this.#isPending = true
        this.#step = currentStep()
        port.keepAlive()
        if (this.#timeout !== undefined)
            this.#timer = setTimeout(expired, this.#timeout, this, this.#total)
    }

    /**
     * The lock is this request's.
     * @param {number} key the model's name for the hold
     * @param {bigint} [token] the fencing token, if one was asked for
     */
    granted (key, token) {
        if (!this.#end(GRANTED))
            return false
        this.hold = new Hold(this.session, key, this.shared, token, this.context)
        const { session } = this
        session.began(this.hold, this)
        if (!this.#kind.handle && !this.#isSpokenFor)
            session.unreleased.push(this.hold)
        this.#resolve(this)
        return true
    }

    /** Somebody else has the lock, and this request was not to wait. */
    busy () {
        if (!this.#end(BUSY))
            return false
        this.session.refused(this)
        this.#resolve(this)
        return true
    }

    failed (error) {
        if (!this.#end(FAILED))
            return false
        this.session.refused(this, error)
        this.#reject(error)
        return true
    }

    withdraw (error) {
        return Request.withdrawAll([ this ], error) === 1
    }

    /**
     * Withdraws many, so that none of them is granted because another one goes.
     * @param {Request[]} requests in the order in which they were asked
     * @param {boolean} [isClosing] whether the mutex closes: then nobody waits until the coordinator has forgotten them
     * @returns {number} how many of them were still asked
     */
    static withdrawAll (requests, error, isClosing = false) {
        const withdrawn = requests.filter((request) => request.#end(WITHDRAWN))
        for (const request of withdrawn)
            request.session.refused(request, error)
        // From the last to the first, as those before are no further in the queue for it.
        for (const request of withdrawn.reverse())
            request.#cancel(error, isClosing)
        return withdrawn.length
    }

    #cancel (error, isClosing) {
        const gone = this.#isSent ? this.session.model.cancel(this, isClosing) : undefined
        if (gone === undefined || isClosing)
            return this.#reject(error)
        gone.then(() => this.#reject(error), (failure) => {
            // What kept the wait from its end, if that is known.
            if (error?.code === "ERR_TIMEOUT")
                settings.attach(error, "cause", failure)
            this.#reject(error)
        })
    }

    /** Leaves the state "asked", once. */
    #end (state) {
        if (this.#state !== ASKED)
            return false
        this.#state = state
        this.session.requests.delete(this)
        this.#watch?.delete(this)
        if (this.#timer !== undefined)
            clearTimeout(this.#timer)
        if (this.#isPending)
            port.letGo()
        return true
    }

    /** The call's result, for a request that was answered. @throws {Error} why the hold ended, if it did in the meantime */
    conclude () {
        if (this.#state === BUSY)
            return this.#kind.busy
        // The promise of most of these is resolved when the caller gets it, so nobody can count on more.
        if (!(this.#isImmediate && this.#isPlain))
            this.session.check(this.hold)
        return this.#kind.handle ? this.hold.handle : this.#kind.granted
    }

    /**
     * Whether a `release()` of now means what this request is going to get: it was called in the same step of the program. Later on it would
     * be a release too many, and take the lock from another flow.
     */
    get isReleasable () {
        return this.#state === ASKED && !this.#kind.handle && !this.#isSpokenFor && this.#step === step
    }

    /** Gives back what this gets as soon as it gets it. @returns {Promise<void>} rejects if it gets nothing */
    release () {
        this.#isSpokenFor = true
        return this.promise.then(({ hold }) => {
            if (hold === undefined)
                throw errors.notAcquired(this.session.id)
            return hold.release()
        }, (error) => {
            throw error?.code === "ERR_CLOSED" ? error : errors.notAcquired(this.session.id)
        })
    }
}

/** The error of an option that the coordinator does not have. */
function noSteal ({ target: { id }, url }) {
    const error = new TypeError(`lock "${id}" cannot be stolen: "options.steal" is not available for ${schemeOf(url)} locks`)
    error.code = "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM"
    return error
}

const expired = (request, timeout) => { request.withdraw(errors.timedOut(request.session.id, timeout)) }

module.exports = { ACQUIRE, TRY_ACQUIRE, LOCK, TRY_LOCK, Request }
