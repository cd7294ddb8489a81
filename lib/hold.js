"use strict"

const notify = require("./notify.js")
const { lockOf } = require("./lock.js")

const HELD = "held", RELEASED = "released", LOST = "lost", CLOSED = "closed"

/** The key of a hold that stands in the lock's word alone; all others have names in a lock table or at a server. */
const BY_WORD = -1

/** What all calls that succeed at once resolve to: one promise, made once. */
const DONE = Promise.resolve()

/**
 * One grant: held, then released, lost or closed. It ends once, in `end`, whatever ends it. Users see it as a `Lock`, or as what
 * `mutex.release()` gives back.
 */
class Hold {
    #state = HELD
    /** Why it ended, if it was lost or closed. */
    #reason
    /** What `release()` has promised. */
    #releasing
    #handle
    #controller

    /**
     * @param {import("./session.js").Session} session
     * @param {number} key the model's own name for the grant
     * @param {boolean} shared
     * @param {bigint} [token] the fencing token, if one was asked for
     * @param {import("node:async_hooks").AsyncResource} [context] where users are told of it
     */
    constructor (session, key, shared, token, context) {
        this.session = session
        this.key     = key
        this.shared  = shared
        this.token   = token
        this.context = context
        /** What trace.js and deadlock.js know of it. */
        this.span    = undefined
        this.flow    = undefined
    }

    get mode () {
        return this.shared ? "shared" : "exclusive"
    }

    /** @returns {object} the `Lock` through which a user has the hold */
    get handle () {
        return this.#handle ??= lockOf(this)
    }

    get isHeld () {
        return this.#state === HELD && this.#releasing === undefined
    }

    /** As people read it: a release that is under way is one. */
    get state () {
        return this.#state === HELD && this.#releasing !== undefined ? RELEASED : this.#state
    }

    /** Why the caller must not go on as the holder; undefined as long as it may. */
    get reason () {
        if (this.isHeld)
            this.session.model.verify?.(this)
        return this.#reason
    }

    /** Aborts when the hold ends without `release()`. */
    get signal () {
        this.#controller ??= new AbortController()
        const { reason } = this
        if (reason !== undefined)
            this.#controller.abort(reason)
        return this.#controller.signal
    }

    /** @returns {Promise<void>} the same for each call; rejects with the loss if the hold was lost */
    release () {
        if (this.#releasing !== undefined)
            return this.#releasing
        if (this.#state === LOST)
            return this.#releasing = Promise.reject(this.#reason)
        if (this.#state !== HELD)
            return this.#releasing = DONE
        // Whoever comes back here from within finds the release under way.
        this.#releasing = DONE
        const released = this.session.model.release(this)
        if (released === DONE)
            this.released()
        else
            this.#releasing = released.then(() => { this.released() }, (error) => {
                this.end(error.code === "ERR_LOCK_LOST" ? LOST : RELEASED, error)
                throw error
            })
        return this.#releasing
    }

    /** The coordinator has released the hold, which others may get now. */
    released () {
        return this.end(RELEASED)
    }

    /** The hold has ended without release. @returns {boolean} whether that is new */
    lose (error) {
        return this.end(LOST, error)
    }

    /** The mutex closes, which releases the hold. */
    close (error) {
        return this.end(CLOSED, error)
    }

    /**
     * Every end of a hold comes through here.
     * @param {RELEASED | LOST | CLOSED} state
     * @param {Error} [reason] for a release: why the coordinator could not be told
     * @returns {boolean} whether it was held until now
     */
    end (state, reason) {
        if (this.#state !== HELD)
            return false
        this.#state = state
        if (state !== RELEASED) {
            this.#reason = reason
            if (this.#controller !== undefined)
                notify.abort(this.#controller, reason)
        }
        this.session.ended(this, state, reason)
        return true
    }
}

module.exports = { BY_WORD, CLOSED, DONE, Hold, LOST, RELEASED }
