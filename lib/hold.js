"use strict"

/**
 * One grant, as the models give it out: what is needed to release it, and whom to tell when it is lost. Internal; users
 * see `Lock` or the mutex itself.
 */
class Hold {
    /**
     * @param {object} model the model that granted it, which releases it
     * @param {number} key the model's own name for the grant
     * @param {boolean} shared
     * @param {bigint} [token] the fencing token, if one was asked for
     */
    constructor (model, key, shared, token) {
        this.model  = model
        this.key    = key
        this.shared = shared
        this.token  = token
        /** The error that ended the hold, if it was lost. */
        this.lost   = undefined
        /** Whom to tell: set by the mutex. */
        this.onlost = undefined
        /** When it was granted and by which trace; set only while somebody traces. */
        this.trace  = undefined
    }

    get mode () {
        return this.shared ? "shared" : "exclusive"
    }

    /** Ends the hold without release; tells once. */
    lose (error) {
        if (this.lost !== undefined)
            return
        this.lost = error
        if (this.onlost !== undefined)
            this.onlost(error)
    }

    /** @returns {Promise<void>} rejects with the loss, if it was lost */
    release () {
        return this.lost !== undefined ? Promise.reject(this.lost) : this.model.release(this)
    }
}

module.exports = { Hold }
